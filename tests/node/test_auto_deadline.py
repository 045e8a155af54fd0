"""The deadline that follows from the rounds before."""

from __future__ import annotations

import math

from p2pml.node.job_rounds import auto_deadline
from p2pml.node.job_store import RoundDone


def took(seconds: float, resumed: bool = False, paused: bool = False) -> RoundDone:
    return RoundDone(0, bytes(32), bytes(32), 0.5, 1.0, seconds, (), (), resumed, paused)


def test_it_is_one_and_a_half_of_the_median_round_and_a_minute_at_least() -> None:
    assert auto_deadline([]) == math.inf
    assert auto_deadline([took(200.0)]) == 300.0
    assert auto_deadline([took(900.0), took(100.0), took(120.0), took(80.0)]) == 150.0
    assert auto_deadline([took(9.0), took(1.0)]) == 60.0


def test_what_a_restart_has_left_of_a_round_says_nothing() -> None:
    assert auto_deadline([took(1.0, resumed=True)]) == math.inf
    assert auto_deadline([took(900.0), took(100.0), took(1.0, True), took(2.0, True), took(100.0)]) == 150.0


def test_nor_does_a_round_in_which_somebody_waited_for_a_rating_window() -> None:
    assert auto_deadline([took(700.0, paused=True)]) == math.inf
    assert (
        auto_deadline([took(900.0), took(100.0), took(700.0, paused=True), took(700.0, paused=True)]) == 150.0
    )
