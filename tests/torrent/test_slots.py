"""How many slots: up while it pays, back when it does not, anew when the line has become slow."""

from __future__ import annotations

from torrent.slots import LOOK_BACK, PAUSE, Slots


def run(slots: Slots, line: float, each: float, rounds: int) -> list[int]:
    """Rounds on a line that carries `line` bytes per second, to peers that take `each` of them."""
    return [slots.round(min(line, each * slots.count), True) for _ in range(rounds)]


def test_up_to_what_the_line_carries() -> None:
    slots = Slots(4, 30)
    run(slots, 1000.0, 100.0, 40)
    assert slots.count in (10, 11)


def test_a_failed_trial_rests() -> None:
    slots = Slots(4, 30)
    assert run(slots, 400.0, 100.0, LOOK_BACK - 1) == [4] * (LOOK_BACK - 1)  # what it has to beat
    assert run(slots, 400.0, 100.0, 3 * (PAUSE + 1)) == [5, *[4] * PAUSE] * 3


def test_never_above_the_most_and_never_without_anybody_waiting() -> None:
    slots = Slots(4, 6)
    assert max(run(slots, 1e9, 100.0, 20)) == 6
    still = Slots(4, 6)
    assert {still.round(1000.0, False) for _ in range(9)} == {4}


def test_who_gives_nothing_at_all_is_not_made_to() -> None:
    none = Slots(0, 30)
    assert {none.round(1000.0, True) for _ in range(9)} == {0}
    idle = Slots(4, 30)
    assert {idle.round(0.0, True) for _ in range(9)} == {4}


def test_a_line_that_became_slow_begins_anew() -> None:
    slots = Slots(4, 30)
    run(slots, 1000.0, 100.0, 40)
    assert slots.count >= 10
    run(slots, 100.0, 100.0, 4)
    assert slots.count <= 5


def test_a_lucky_round_is_no_reason_to_grow() -> None:
    """A full line whose rounds measure now more, now less."""
    slots = Slots(4, 30)
    counts = [slots.round(rate, True) for rate in [400.0, 300.0, 420.0, 310.0] * 20]
    assert max(counts) == 5
    assert counts.count(5) <= len(counts) / PAUSE
