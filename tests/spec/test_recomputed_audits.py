"""The worked draws of an audit, computed again from what stands in the page, without the project's code."""

from __future__ import annotations

import hashlib

from tests.spec.by_hand import tagged, weights
from tests.spec.reading import octets, region, values


def number(tag: str, prefix: bytes, total: int) -> int:
    counter = 0
    while True:
        digest = tagged(tag, prefix, counter.to_bytes(4, "big"))
        found = int.from_bytes(digest, "big") // (2**256 // total)
        if found < total:
            return found
        counter += 1


def sample(tag: str, prefix: bytes, count: int, below: int) -> list[int]:
    found: set[int] = set()
    word = 0
    while len(found) < min(count, below):
        framed = bytes([len(tag)]) + tag.encode() + prefix + word.to_bytes(8, "big")
        found.add(int.from_bytes(hashlib.shake_256(framed).digest(16), "big") % below)
        word += 1
    return sorted(found)


def test_the_draws_of_an_audit() -> None:
    shown, given = values(region("rating-audits", "audit-draws")), octets("rating-audits", "audit-draws")
    draw, spot, subject = given["draw"], given["spot"], given["subject"]
    window = int(shown["window"]).to_bytes(8, "big")
    left = [(account, rating) for account, _, rating in weights()]
    chosen = []
    for seat in range(3):
        unit = number(
            "rating-auditor", draw + window + subject + bytes([seat]), sum(rating for _, rating in left)
        )
        owned = [account for account, rating in left for _ in range(rating)]
        chosen.append(owned[unit])
        left = [(account, rating) for account, rating in left if account != owned[unit]]
    assert chosen == [given[f"auditor {seat}"] for seat in range(3)]
    mine = sample("rating-position", draw + subject, 40, 100)[::3]
    assert mine == [int(position) for position in shown["positions of auditor 0"].split()]
    place = mine[0].to_bytes(8, "big")
    assert int(shown["step at its first position"]) == number("rating-mark-step", draw + subject + place, 31)
    mark = tagged("rating-mark", chosen[0], subject, place, given["state"])[:8]
    assert given["mark of auditor 0 at its first position"] == mark
    spots = sample("rating-spot", spot + chosen[0] + subject, 2, len(mine))
    assert spots == [int(place) for place in shown["spots in the report of auditor 0"].split()]
