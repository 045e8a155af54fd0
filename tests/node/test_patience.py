"""Claims of longer chains: believed while blocks come in, not for ever."""

from __future__ import annotations

from p2pml.node.proposing import BELIEVE_SLOTS, REARM_SLOTS, Patience


def held(patience: Patience, behind: int, seconds: range) -> list[int]:
    return [now for now in seconds if patience.holds_back(behind, float(now))]


def test_a_peer_that_is_one_block_ahead_holds_nothing_back() -> None:
    assert held(Patience(1.0), 1, range(100)) == []


def test_a_claim_without_blocks_is_believed_for_a_few_slots_of_many() -> None:
    silenced = held(Patience(1.0), 10**6, range(2 * REARM_SLOTS))
    assert 0 < len(silenced) <= 2 * (BELIEVE_SLOTS + 1)


def test_liars_that_take_turns_silence_no_more() -> None:
    patience = Patience(1.0)
    silenced = [now for now in range(2 * REARM_SLOTS) if patience.holds_back(9 if now % 6 < 3 else 0, now)]
    assert 0 < len(silenced) <= 2 * (BELIEVE_SLOTS + 1)


def test_while_blocks_come_in_nothing_is_proposed() -> None:
    patience = Patience(1.0)
    for now in range(50):
        assert patience.holds_back(1000 - now, float(now))
        patience.progressed(float(now))
    assert not patience.holds_back(0, 50.0)
