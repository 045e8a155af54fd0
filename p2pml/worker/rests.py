"""Why a worker rests: a set of reasons. It computes while the set is empty."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

Rest = Callable[[str, bool], Awaitable[None]]
"""Has a worker rest for a reason, or no longer for that one."""

RATING = "rating"
"""The node takes part in a rating window."""
PAUSED = "paused"
"""Its owner has paused it."""
LOAD = "load"
"""Others use the machine, and the worker is to run on an idle one only."""

WORDS = {
    RATING: "in a rating window",
    PAUSED: "paused by its owner",
    LOAD: "its machine is busy with other work",
}
"""Each reason as people read it; the keys travel in WORKING."""


def lasting(reasons: Iterable[str]) -> str:
    """The first reason that may hold for hours, in words; empty where there is none."""
    return next((WORDS.get(reason, reason) for reason in reasons if reason != RATING), "")
