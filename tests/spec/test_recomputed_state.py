"""The books and the state root, computed again from the pages; see `test_recomputed.py`."""

from __future__ import annotations

from tests.spec.by_hand import pack, parameter, sha, tagged, unpack, weights
from tests.spec.reading import lines, octets, region

TOKEN = 10**8

# -- money ------------------------------------------------------------


def base_units(tokens: str) -> int:
    whole, _, part = tokens.replace(",", "").partition(".")
    return int(whole) * TOKEN + int(part.ljust(8, "0") or 0)


def test_the_books() -> None:
    rating = {name: rating for _, name, rating in weights()}
    rows = lines(region("rewards", "books"))
    start, issued = base_units(rows[0][3]), 0
    whole = parameter("issuance_per_block")
    proposer, voters = (whole * parameter(f"{who}_share_percent") // 100 for who in ("proposer", "voters"))
    for slot, names, *amounts in rows:
        if slot != "0":
            issued += proposer + sum(
                voters * rating[name] // sum(rating.values()) for name in names.split() if name in rating
            )
        said, *held, together, should_be = map(base_units, amounts)
        assert said == issued
        assert sum(held) == together == should_be == start + issued
    assert {row[1] for row in rows} >= {"–", "v0", "v0 v1", "v0 v1 v2"}


# -- state ------------------------------------------------------------


def tree_of(entries: dict[bytes, bytes]) -> bytes:
    """4,096 buckets below three levels of nodes with sixteen children."""
    buckets: list[list[bytes]] = [[] for _ in range(4096)]
    for key in sorted(entries):
        buckets[int.from_bytes(sha(key)[:2], "big") >> 4].append(pack([key, sha(entries[key])]))
    hashes = [tagged("bucket", *rows) for rows in buckets]
    while len(hashes) > 1:
        hashes = [tagged("buckets", *hashes[at : at + 16]) for at in range(0, len(hashes), 16)]
    return hashes[0]


def test_the_state_root() -> None:
    text, given = region("state", "state-root"), octets("state", "state-root")
    entries = {bytes.fromhex(key): bytes.fromhex(entry) for _, key, entry in lines(text)}
    assert [int(row[0]) for row in lines(text)] == [
        int.from_bytes(sha(bytes.fromhex(key))[:2], "big") >> 4 for _, key, _ in lines(text)
    ]
    assert given["tree"] == tree_of(entries)
    assert given["empty tree"] == tree_of({})
    parts = given["state: hashed"]
    assert parts.startswith(given["tree"] + given["tables: digest"] + given["finality: digest"])
    _, leaf0, *_ = unpack(octets("block", "sealed-header")["sealed header"])
    assert given["state: digest"] == leaf0[5]
    height, slot, weight, mix, *_, balances, escrow, bonds, vesting = unpack(parts[96:])
    assert (height, slot) == (leaf0[1] - 1, 2)
    # Two blocks of rank 0: each weighs W.
    assert int.from_bytes(weight, "big") == 2 * sum(rating for *_, rating in weights())
    assert mix == octets("lottery", "seed")[f"mix after slot {slot}"]
    assert balances == sum(unpack(entry)[0] for key, entry in entries.items() if key[:1] == b"a")
    assert vesting == sum(
        left for key, entry in entries.items() if key[:1] == b"w" for _, _, left in unpack(entry)
    )
    assert escrow == bonds == 0


def test_every_hash_under_the_root() -> None:
    given = octets("state", "state-root")
    names = [name.removesuffix(": hashed") for name in given if name.endswith(": hashed")]
    assert names[:3] == ["state", "tables", "finality"]
    assert {"weights", "branch", "tally"} < set(names)
    for name in names:
        assert given[f"{name}: digest"] == tagged(name.split()[0], given[f"{name}: hashed"])
        assert name == "state" or sum(given[f"{name}: digest"] in data for data in given.values()) > 1


def test_what_the_root_says_of_tables_and_finality() -> None:
    """Nobody's rating has changed, and the votes of slot 1 have justified the first block."""
    given, genesis = octets("state", "state-root"), octets("block", "example-genesis")
    keys = {row[2]: bytes.fromhex(row[3]) for row in lines(region("block", "example-genesis"))}
    table = [[account, keys[account.hex()], rating] for account, _, rating in weights()]
    assert given["weights: hashed"] == b"".join(map(pack, table))
    row = [0, given["weights: digest"]]
    assert given["tables: hashed"] == pack(1) + 2 * pack(row)
    *_, votes, _ = unpack(octets("block", "body")["body"])
    first, justified = [0, genesis["chain id"]], votes[0][2]
    voters = b"".join(sorted(account for account, *_ in weights()))
    assert given["tally: hashed"] == pack([first, justified, voters])
    branch = b"".join(slot.to_bytes(8, "big") + block_id for slot, block_id in (first, justified))
    assert given["branch: hashed"] == branch
    finality = pack([first, 0, [first, justified], given["tally: digest"]])
    assert given["finality: hashed"] == given["branch: digest"] + finality
