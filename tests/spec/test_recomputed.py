"""Every worked example of the specification, computed again from what stands in the pages.

With hashlib, PyNaCl, msgpack and plain integers only: nothing of the project's code is used, so a
page that is right by this test says enough for another implementation.
"""

from __future__ import annotations

import base64
import re

from tests.spec.by_hand import (
    drawn,
    merkle,
    pack,
    parameter,
    sha,
    signed,
    tagged,
    unpack,
    vote_holds,
    weights,
)
from tests.spec.curve import output, proves
from tests.spec.reading import lines, octets, region, values

# -- blocks ------------------------------------------------------------


def test_the_chain_id() -> None:
    given = octets("block", "example-genesis")
    assert tagged("genesis", given["genesis"]) == given["chain id"]
    _, _, time, _, founders, *_ = unpack(given["genesis"])
    assert str(time) == values(region("block", "example-genesis"))["genesis time in ms"]
    assert [(f[0], f[3], f[2]) for f in founders] == weights()


def test_header_id_and_seal_of_the_worked_block() -> None:
    given = octets("block", "seal")
    chain_id = octets("block", "example-genesis")["chain id"]
    header, leaf0, _, seal = unpack(octets("block", "sealed-header")["sealed header"])
    assert given["header"] == pack(header)
    assert given["block id"] == tagged("hdr", given["header"])
    assert given["sealed"] == tagged("seal", chain_id, given["block id"])
    assert (given["proposer"], given["seal"]) == (leaf0[2], seal)
    assert signed(leaf0[2], given["sealed"], seal)
    assert not signed(leaf0[2], given["sealed"][::-1], seal)


def test_tree_of_the_worked_block() -> None:
    given = octets("block", "block-tree")
    header, leaf0, path, _ = unpack(octets("block", "sealed-header")["sealed header"])
    sections = unpack(octets("block", "body")["body"])
    assert [len(section) for section in sections] == [
        int(row[2]) for row in lines(region("block", "block-tree"))[1:]
    ]
    leaves = [pack(leaf0), *(merkle([pack(item) for item in section]) for section in sections)]
    assert leaves == [given[f"leaf {i}"] for i in range(len(leaves))]
    assert [sha(b"\0" + leaf) for leaf in leaves] == [given[f"hash of leaf {i}"] for i in range(len(leaves))]
    for name, digest in given.items():
        if name.startswith("node "):
            first, last = map(int, name.removeprefix("node ").split("…"))
            assert merkle(leaves[first : last + 1]) == digest
    assert merkle(leaves) == header[3]
    climbed = sha(b"\0" + leaves[0])
    for sibling in path:
        climbed = sha(b"\1" + climbed + sibling)  # leaf 0 is always on the left
    assert climbed == header[3]


def test_target_time_and_draw_of_the_worked_block() -> None:
    header, leaf0, *_ = unpack(octets("block", "sealed-header")["sealed header"])
    genesis = values(region("block", "example-genesis"))
    chain_id, start = bytes.fromhex(genesis["chain id"]), int(genesis["genesis time in ms"])
    slot, rest = divmod(header[1] - start, parameter("slot_ms"))
    seed = tagged("seed-genesis", chain_id, bytes(8))
    total = sum(rating for *_, rating in weights())
    assert rest == 0
    assert int.from_bytes(header[2], "big") == 2**256 // total
    assert drawn(seed, slot, leaf0[3]) == leaf0[2]
    [vrf_key] = [row[3] for row in lines(region("block", "example-genesis")) if row[2] == leaf0[2].hex()]
    assert proves(bytes.fromhex(vrf_key), tagged("alpha", chain_id, slot.to_bytes(8, "big"), seed), leaf0[4])
    assert output(leaf0[4]) == octets("lottery", "seed")[f"output of slot {slot}"]


def test_training_record_and_evidence() -> None:
    record = octets("block", "round-record")
    *fields, signature = unpack(record["round record"])
    assert record["signed"] == tagged("round-record", pack(fields))
    assert signed(record["requester"], record["signed"], signature)
    chain_id = octets("block", "example-genesis")["chain id"]
    given = octets("block", "evidence")
    kind, one, other = unpack(given["evidence of two votes"])
    assert kind == 2
    assert one[:2] == other[:2]
    assert one[4] != other[4]
    assert all(vote_holds(vote, chain_id) for vote in (one, other))
    kind, *seals = unpack(given["evidence of two seals"])
    ids = [tagged("hdr", pack(sealed[0])) for sealed in seals]
    assert kind == 1
    assert len({(sealed[0][1], sealed[1][2]) for sealed in seals}) == 1
    assert len(set(ids)) == 2
    for sealed, block_id in zip(seals, ids, strict=True):
        assert signed(sealed[1][2], tagged("seal", chain_id, block_id), sealed[3])


# -- lottery ------------------------------------------------------------


def test_target_and_rating_units() -> None:
    given = values(region("lottery", "weight-table"))
    assert int(given["W"]) == sum(rating for *_, rating in weights())
    assert int(given["target"]) == 2**256 // int(given["W"])
    low = 0
    for row, (*_, rating) in zip(lines(region("lottery", "weight-table")), weights(), strict=True):
        assert row[3] == f"{low}…{low + rating - 1}"
        low += rating


def test_seeds() -> None:
    given = octets("lottery", "seed")
    chain_id = given["chain id"]
    assert chain_id == octets("block", "example-genesis")["chain id"] == given["mix at genesis"]
    for epoch in range(3):
        assert given[f"seed of epoch {epoch}"] == tagged("seed-genesis", chain_id, epoch.to_bytes(8, "big"))
    mix, length, ends = given["mix at genesis"], parameter("slots_per_epoch"), {}
    for name, beta in given.items():
        if name.startswith("output of slot "):
            slot = int(name.removeprefix("output of slot "))
            mix = tagged("mix", mix, beta)
            assert given[f"mix after slot {slot}"] == mix
            ends[slot // length] = mix
    [later] = [int(name[14:]) for name in given if name.startswith("seed of epoch ") and int(name[14:]) > 2]
    assert given[f"seed of epoch {later}"] == tagged("seed", later.to_bytes(8, "big"), ends[later - 2])


def test_the_draw_and_the_proof() -> None:
    draws, vrf = values(region("lottery", "draw")), octets("lottery", "vrf")
    slot = int(draws["slot"])
    seed = octets("lottery", "seed")[f"seed of epoch {slot // parameter('slots_per_epoch')}"]
    names = {account: name for account, name, _ in weights()}
    target = int(values(region("lottery", "weight-table"))["target"])
    winners: list[str] = []
    for rank in range(parameter("ranks")):
        number = slot.to_bytes(8, "big") + rank.to_bytes(1, "big") + bytes(4)
        assert draws[f"draw {rank}"] == tagged("lead", seed, number).hex()
        assert int(draws[f"unit {rank}"]) == int(draws[f"draw {rank}"], 16) // target
        winner = names[drawn(seed, slot, rank)]
        again = ", who has a lower rank already" if winner in winners else ""
        assert draws[f"winner {rank}"] == winner + again
        winners.append(winner)
    chain_id = octets("block", "example-genesis")["chain id"]
    assert vrf["alpha"] == tagged("alpha", chain_id, slot.to_bytes(8, "big"), seed)
    [key] = [row[3] for row in lines(region("block", "example-genesis")) if row[0] == winners[0]]
    assert vrf["VRF key of winner 0"].hex() == key
    assert proves(bytes.fromhex(key), vrf["alpha"], vrf["proof"])
    assert not proves(bytes.fromhex(key), vrf["alpha"][::-1], vrf["proof"])
    assert vrf["beta"] == output(vrf["proof"])


# -- finality ------------------------------------------------------------


def test_the_worked_vote() -> None:
    given = octets("finality", "vote")
    *fields, signature = unpack(given["vote"])
    assert pack(fields) == given["vote without signature"]
    assert given["signed"] == tagged("vote", given["chain id"], pack(fields))
    assert (given["voter"], given["signature"]) == (fields[0], signature)
    assert vote_holds([*fields, signature], given["chain id"])
    body = unpack(octets("block", "body")["body"])
    assert body[3]
    assert all(vote_holds(vote, given["chain id"]) for vote in body[3])


def test_justified_and_final_follow_from_the_votes() -> None:
    rating = {name: rating for _, name, rating in weights()}
    total, justified, final = sum(rating.values()), {0}, 0
    rows = lines(region("finality", "four-slots"))
    for _, _, votes, weight, highest, last in rows:
        shown = []
        for link in re.finditer(r"(\d+) → (\d+) by ([\w, ]+)", votes):
            source, target = int(link[1]), int(link[2])
            behind = sum(rating[name] for name in link[3].split(", "))
            shown.append(str(behind))
            if source in justified and 3 * behind >= 2 * total:
                justified.add(target)
                final = max(final, source) if target == source + 1 else final
        assert weight == ("; ".join(shown) or "0")
        assert (int(highest), int(last)) == (max(justified), final)
    assert {int(row[3]) for row in rows} >= {0, 50, 80, 100}
    assert final > 1


def test_the_head_is_in_the_heaviest_subtree() -> None:
    trees = re.findall(r"```\n# (.*?)\n(.*?)```", region("finality", "fork"), re.DOTALL)
    assert len(trees) == 3
    heads = []
    for _, drawn_tree in trees:
        weight: dict[str, int] = {}
        kids: dict[str, list[str]] = {}
        above: list[str] = []
        for line in drawn_tree.splitlines():
            found = re.fullmatch(r"([ │├└─]*)(\w)  slot \d+  weight (\d+)(  ← head)?", line)
            assert found is not None, line
            depth = len(found[1]) // 3
            above[depth:] = [found[2]]
            weight[found[2]], kids[found[2]] = int(found[3]), []
            if depth:
                kids[above[depth - 1]].append(found[2])
            if found[4]:
                heads.append(found[2])
        assert all(weight[name] >= sum(weight[kid] for kid in below) for name, below in kids.items())
        tip = "a"
        while kids[tip]:
            tip = max(kids[tip], key=weight.__getitem__)
        assert heads[-1] == tip
    assert heads == ["b", "e", "b"]


# -- transactions ------------------------------------------------------------


def test_ids_and_signatures_of_every_type() -> None:
    given = octets("transactions", "tx-types")
    numbers = {name: int(number) for number, name in lines(region("transactions", "tx-numbers"))}
    assert {name.split()[0] for name in given} == set(numbers)
    for name, number in numbers.items():
        *fields, signature = unpack(given[f"{name} encoded"])
        assert fields[2] == number
        assert given[f"{name} id"] == tagged("tx", pack(fields))
        assert signed(fields[3], tagged("tx-sig", given[f"{name} id"]), signature)


def test_the_worked_transaction() -> None:
    given = octets("transactions", "tx-worked")
    *fields, signature = unpack(given["transaction"])
    assert given["id"] == tagged("tx", pack(fields))
    assert given["signed"] == tagged("tx-sig", given["id"])
    assert (given["sender"], given["signature"]) == (fields[3], signature)
    assert signed(given["sender"], given["signed"], signature)


def test_the_address() -> None:
    given = values(region("transactions", "address"))
    account = bytes.fromhex(given["account"])
    text = base64.b32encode(account + tagged("address", account)[:4]).decode()
    assert given["address"] == "pml1" + text.rstrip("=").lower()


def test_the_comparing_of_pools() -> None:
    given = octets("gossip", "reconcile")
    salt, short = unpack(given["question"])
    assert short == tagged("short", salt, given["transaction that the asker has"])[:6]
    more, items = unpack(given["answer"])
    assert (more, [kind for kind, _ in items]) == (0, [0, 1])
    assert tagged("tx", pack(unpack(items[0][1])[:-1])) == given["transaction that it lacks"]
    assert items[1][1] == octets("block", "round-record")["round record"]


def test_consent_and_receipt() -> None:
    types = octets("transactions", "tx-types")
    _, chain_id, _, sponsor, *_, payload, _ = unpack(types["REGISTER encoded"])
    *asked, consent = payload
    assert signed(asked[0], tagged("consent", chain_id, sponsor, pack(asked)), consent)
    given = octets("transactions", "receipt")
    commitment, trainer, requester = unpack(given["receipt"])
    message = tagged("commitment", pack(commitment))
    assert signed(commitment[4], message, trainer)
    assert signed(given["requester"], tagged("receipt", message, trainer), requester)
    settled = [unpack(types[f"{name} encoded"])[7][1] for name in ("JOB_SETTLE", "JOB_CLAIM")]
    root = unpack(octets("block", "round-record")["round record"])[4]
    assert merkle([pack(receipt) for [(receipt, _, _)] in settled]) == root
