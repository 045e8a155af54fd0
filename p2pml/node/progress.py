"""Tells of the progress of work in a thread by events."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import trio

EVENT_S = 0.2


def reporter(emit: Callable[..., None]) -> Callable[[int, int], None]:
    """A callback for a working thread: `emit(done=…, total=…)` runs in trio, a few times a second and at the
    end.
    """
    token = trio.lowlevel.current_trio_token()
    told = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal told
        if done < total and time.monotonic() - told < EVENT_S:
            return
        told = time.monotonic()
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(partial(emit, done=done, total=total))

    return progress
