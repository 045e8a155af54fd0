"""When windows are, and how far the one under way is, from states made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chain.params import ANNOUNCE_SLOTS, DEMO
from chain.rating.entries import Duty, Evaluated, OpenChallenge, Window, duty_key
from chain.rating.items import Report
from p2pml.node.rating_windows import length, windows_view
from tests.node.rating_states import KEYS, OUTCOME, START, WINDOW, WINDOW_KEY, claim, standing, state_with

TRAIN_END = START + DEMO.window_slots


def test_before_the_first_window_the_next_is_the_first_border() -> None:
    view = windows_view(state_with({}, slot=3), 4)
    begins = START - ANNOUNCE_SLOTS
    assert (view.next, view.begins, view.latest) == (START, begins, None)
    assert view.begins_ms == begins * DEMO.slot_ms
    assert (view.every_slots, view.window_slots) == (64, 13)
    assert windows_view(state_with({}, slot=3), begins - 1).next == START
    assert windows_view(state_with({}, slot=3), begins).next == 2 * START, "that of START is under way"


@pytest.mark.parametrize(
    ("slot", "phase"),
    [
        (START - ANNOUNCE_SLOTS - 1, None), (START - ANNOUNCE_SLOTS, "training"), (START - 1, "training"),
        (START, "training"), (TRAIN_END - 1, "training"), (TRAIN_END, "commits"), (TRAIN_END + 4, "reveals"),
        (TRAIN_END + 8, "audit commits"), (TRAIN_END + 16, "audit reveals"),
        (TRAIN_END + 20, "last challenges"), (TRAIN_END + 27, "last challenges"), (TRAIN_END + 28, None),
    ],
)  # fmt: skip
def test_the_phase_is_that_of_the_slot(slot: int, phase: str | None) -> None:
    latest = windows_view(state_with({WINDOW_KEY: WINDOW}), slot).latest
    assert latest is not None
    assert (None if latest.phase is None else latest.phase.name) == phase
    assert [first.end for first in latest.phases[:-1]] == [second.first for second in latest.phases[1:]]


def test_what_has_come_is_counted_of_this_window_only() -> None:
    seen = (Evaluated(0, b"\x04" * 32, ((1,),)),)
    report = Report(KEYS[0].public, b"\x05" * 8)
    window = replace(WINDOW, claims=3)
    state = state_with(
        {
            WINDOW_KEY: window,
            **claim(0, evaluations=seen, challenges=(OpenChallenge(KEYS[1].public, (3,), 90),)),
            **claim(1, disproved=True),
            **claim(2, window=0, evaluations=seen),
            duty_key(KEYS[1].public): Duty(START, b"\x06" * 32, (report,)),
            duty_key(KEYS[2].public): Duty(START, b"\x06" * 32),
        }
    )
    latest = windows_view(state, TRAIN_END).latest
    assert latest is not None
    assert (latest.claims, latest.revealed, latest.disproved) == (3, 1, 1)
    assert (latest.open_challenges, latest.reports) == (1, 1)


def test_a_window_is_void_without_challenges_or_when_it_rated_nobody() -> None:
    def void(window: Window, slot: int, rated: bool) -> bool:
        outcomes = standing(0, replace(OUTCOME, window=window.start)) if rated else {}
        latest = windows_view(state_with({WINDOW_KEY: window, **outcomes}), slot).latest
        assert latest is not None
        return latest.void

    unannounced, over = replace(WINDOW, mix=b""), replace(WINDOW, over=True)
    assert [void(unannounced, START - 1, False), void(unannounced, START, False)] == [False, True]
    assert [void(over, START + 50, False), void(over, START + 50, True)] == [True, False]
    assert not void(WINDOW, START, False)


def test_a_surprise_window_that_is_planned_is_the_next_one() -> None:
    params = replace(DEMO, surprise_slots=2)
    planned = Window(START + 20, 2, 4, over=False)
    view = windows_view(state_with({WINDOW_KEY: planned}, START + 1, params), START + 2)
    assert (view.next, view.latest and view.latest.surprise) == (START + 20, True)
    assert view.latest is not None
    assert view.latest.slots == 10
    assert (length(params, START + 20), length(params, 2 * START)) == (2, 5)
