"""What a fetch shows while it runs: one bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from p2pml.cli.data_progress import transfer_progress
from p2pml.cli.data_view import copies_of, ready_in

HALF: dict[str, Any] = {
    "name": "digits [bold]",
    "complete": False,
    "have": 9,  # more than is wanted now: from an earlier choice
    "wanted": 8,
    "missing": 4,
    "peers": 3,
    "rate_down": 2.5 * 2**20,
    "copies": 2.999,
    "eta_s": 61.2,
}
DONE = HALF | {"complete": True, "missing": 0, "eta_s": 0.0}


def frames(*states: dict[str, Any]) -> str:
    """Everything that the bar drew on a terminal."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=140, color_system=None)
    with transfer_progress(states[0], console) as show:
        for state in states:
            show(state)
    return screen.getvalue()


def test_the_bar_tells_how_far_it_is_how_fast_from_whom_and_how_long() -> None:
    drawn = frames(HALF)
    assert "4/8 pieces, 2.5 MiB/s from 3 peers, 2.99 copies with this node's, ready in 0:01:02" in drawn
    assert "digits [bold]" in drawn, "a name is no markup"
    assert "━" in drawn


def test_the_bar_ends_full_and_promises_nothing_more() -> None:
    last = frames(HALF, DONE).rsplit("digits", 1)[1]
    assert "8/8 pieces, 2.5 MiB/s from 3 peers, 2.99 copies with this node's" in last
    assert "ready in" not in last


def test_off_a_terminal_there_is_a_line_at_once_and_one_at_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with transfer_progress(HALF) as show:
        for state in (HALF, HALF, DONE):
            show(state)
    printed = capsys.readouterr()
    told = "2.5 MiB/s from 3 peers, 2.99 copies with this node's"
    assert printed.err.splitlines() == [
        f"digits [bold]: 4 of 8 pieces, {told}, ready in 0:01:02",
        f"digits [bold]: 8 of 8 pieces, {told}",
    ]
    assert not printed.out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "unknown"),
        (0.0, "0:00:00"),
        (0.2, "0:00:01"),
        (86_400, "1 day, 0:00:00"),
        (1e9, "more than 100 days"),
    ],
)
def test_the_time_that_is_left(seconds: float | None, text: str) -> None:
    assert ready_in({"eta_s": seconds}) == text


def test_a_whole_copy_is_never_promised_where_a_piece_is_missing() -> None:
    assert copies_of({"copies": 0.9999}) == "0.99 copies with this node's"
