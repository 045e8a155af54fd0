"""Whole nodes in virtual time: trio on a clock that jumps, its scheduler seeded, no threads.

The only place that touches trio's private switches for deterministic scheduling.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import trio
import trio.testing
from trio._core import _run

T = TypeVar("T")


def run_virtual(main: Callable[..., Awaitable[T]], *args: Any, seed: int) -> T:
    """`trio.run` in virtual time: whenever every task waits, the clock jumps to the next deadline.

    Args:
        main: an async function; `trio.current_time()` is 0 when it begins.
        seed: of trio's scheduler and of the global generator that libraries use.
    """
    with _deterministic(seed):
        return trio.run(main, *args, clock=trio.testing.MockClock(autojump_threshold=0))


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    before = _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r.getstate(), random.getstate()
    to_thread: Any = trio.to_thread
    threads = to_thread.run_sync
    switches: Any = _run  # trio declares them final
    switches._ALLOW_DETERMINISTIC_SCHEDULING = True
    _run._r.seed(seed)
    random.seed(seed)
    to_thread.run_sync = _inline
    try:
        yield
    finally:
        to_thread.run_sync = threads
        switches._ALLOW_DETERMINISTIC_SCHEDULING = before[0]
        _run._r.setstate(before[1])
        random.setstate(before[2])


async def _inline(function: Callable[..., T], *args: Any, **options: Any) -> T:
    """A thread would look idle to the clock, which would jump while it works: run it here instead."""
    await trio.lowlevel.checkpoint()
    return function(*args)
