"""Proof of work by real hashing, the other side of the comparison."""

from __future__ import annotations

import pytest

from p2pml.scenario.links import Link
from p2pml.sim.proof_of_work import ASK, BLOCK, Mined, Miner, mine, work

EASY = 2**256 // 8


def miner(number: int = 0) -> Miner:
    return Miner(number, 8.0, EASY, 1.0, ["other"])


def chain_of(length: int, number: int = 1) -> list[Mined]:
    builder, found = miner(number), list[Mined]()
    now = 0.0
    while len(found) < length:
        now += 1.0
        found += [Mined.decode(send.payload[1:]) for send in builder.tick(now)]
    return found


def test_a_block_survives_its_encoding_and_has_done_its_work() -> None:
    for block in chain_of(3):
        assert Mined.decode(block.encode()) == block
        assert int.from_bytes(work(block.encode()), "big") < EASY


def test_a_block_without_work_is_not_taken() -> None:
    node = miner()
    idle = next(
        block
        for nonce in range(100)
        if int.from_bytes(work((block := Mined(bytes(32), 1, nonce, 1, 0.0)).encode()), "big") >= EASY
    )
    node.receive("other", BLOCK + idle.encode(), 0.0)
    assert node.height == 0


def test_a_missing_parent_is_asked_for_and_the_longer_branch_wins() -> None:
    node, (first, second, third) = miner(), chain_of(3)
    (own,) = chain_of(1, number=2)
    node.receive("other", BLOCK + own.encode(), 0.0)
    assert node.receive("other", BLOCK + second.encode(), 0.0)[0].payload == ASK + second.prev
    node.receive("other", BLOCK + first.encode(), 0.0)
    node.receive("other", BLOCK + third.encode(), 0.0)
    assert [block.height for block in node.branch()] == [3, 2, 1]
    assert node.reorgs == [1]


@pytest.mark.slow
def test_hash_rates_decide_and_slots_stay_empty() -> None:
    report = mine(1, [1, 3], 300, 1.0, Link(delay_ms=20), hashes_per_slot=200)
    assert report.hashes == pytest.approx(60_000, rel=0.01)
    assert report.height == pytest.approx(300, rel=0.2)
    assert report.blocks[1] == pytest.approx(0.75, abs=0.08)
    assert report.slots_without / 300 == pytest.approx(0.37, abs=0.08), "blocks come at random: 1/e"
