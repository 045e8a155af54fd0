"""Rating windows, computed again from the page; see `test_recomputed.py`."""

from __future__ import annotations

import hashlib
import json

from tests.spec.by_hand import merkle, pack, parameter, signed, tagged, unpack
from tests.spec.reading import lines, octets, region, values

PHASES = ("grace_slots", "reveal_slots", "audit_commit_slots", "audit_reveal_slots", "challenge_slots")


def number(text: str) -> int:
    return int(text.replace(",", ""))


def u64(value: int) -> bytes:
    return value.to_bytes(8, "big")


def shake(tag: str, data: bytes, size: int) -> bytes:
    return hashlib.shake_256(bytes([len(tag)]) + tag.encode() + data).digest(size)


def sample(tag: str, seed: bytes, count: int, size: int) -> list[int]:
    if count <= size:
        return list(range(count))
    found: set[int] = set()
    word = 0
    while len(found) < size:
        found.add(int.from_bytes(shake(tag, seed + u64(word), 16), "big") % count)
        word += 1
    return sorted(found)


def test_the_borders() -> None:
    rows = lines(region("rating", "rating-borders"))
    assert [row[0] for row in rows] == ["main", "lab", "demo"]
    assert parameter("window_every_epochs", "report") == 0
    for name, every, announce, start, *later in rows:
        slots = parameter("window_every_epochs", name) * parameter("slots_per_epoch", name)
        assert number(every) == number(start) == slots
        assert number(announce) == slots - 8
        border = slots
        for slot, phase in zip(later, ("window_slots", *PHASES), strict=True):
            border += parameter(phase, name)
            assert number(slot) == border


def test_the_draws() -> None:
    said, given = values(region("rating", "rating-draws")), octets("rating", "rating-draws")
    draw, account, start = given["draw"], given["v2"], u64(int(said["start"]))
    assert draw == tagged("rating-draw", given["mix of the draw's parent"], start)
    assert given["spot"] == tagged("rating-spot", given["mix of the spot's parent"], start)

    def numbers(name: str) -> list[int]:
        return list(map(int, said[name].split()))

    episodes = int(said["episodes that it claims"])
    assert numbers("evaluated") == sample("rating-evaluated", draw + account, episodes, 2)
    words = shake("rating-split", draw, 8 * 20)
    smallest = sorted(range(20), key=lambda place: words[8 * place : 8 * place + 8])[:10]
    assert numbers("of 20 test samples") == sorted(smallest)


def test_the_items() -> None:
    """Signatures of all, leaves under the roots that were committed to, reports under their seal."""
    given = octets("rating", "rating-items")
    tags = {1: "rating-commit", 2: "rating-reveal", 3: "audit-commit", 4: "audit-reveal"}
    tags |= {5: "rating-challenge", 6: "rating-answer", 7: "rating-accusation"}
    items = {item[0]: item for name, data in given.items() if name != "chain id" for item in [unpack(data)]}
    assert sorted(items) == sorted(tags)
    for kind, item in items.items():
        message = tagged(tags[kind], given["chain id"], pack(item[:-1]))
        assert signed(item[1], message, item[-1])
    _, _, _, mix, _, _, episodes, episodes_root, _, _ = items[1]
    assert mix == octets("rating", "rating-draws")["mix"]
    leaves = [pack(evaluation[0][1:4]) for evaluation in items[2][4]]
    assert episodes == len(leaves) == 2
    assert merkle(leaves) == episodes_root
    assert items[3][4] == tagged("audit-reports", items[4][1], items[4][4], pack(items[4][5]))


def test_the_outcomes() -> None:
    rows = lines(region("rating", "rating-outcomes"))
    said = values(region("rating", "rating-outcomes"))
    matrices = [json.loads(text + "]]") for text in said["v0's matrices"].split("]] ")[:1]]
    ((a, b), (c, d)) = [[2 * cell for cell in row] for row in matrices[0]]
    total = a + b + c + d
    precision = (10**6 * a // (a + c) + 10**6 * d // (b + d)) // 2
    f1 = (10**6 * 2 * a // (2 * a + b + c) + 10**6 * 2 * d // (2 * d + b + c)) // 2
    quality = (2 * f1 + 10**6 * (a + d) // total + precision) // 4
    low, high = parameter("q_min"), parameter("q_ref")
    factor = 500_000 + min((quality - low) * 10**6 // (high - low), 10**6) // 2
    energy = 10**6 - parameter("energy_span_ppm")
    for _, segments, found, by_quality, by_energy, _, outcome, audits, rating in rows:
        assert (number(found), number(by_quality), number(by_energy)) == (quality, factor, energy)
        assert int(outcome) == int(segments) * 60_000 * factor * energy // (
            int(said["window in ms"]) * 10**12
        )
        missed, drawn = map(int, audits.split(" of "))
        assert int(rating) == int(outcome) * (5 * drawn - missed) // (5 * drawn)
