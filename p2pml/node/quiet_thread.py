"""A thread of its own for computing that gives way to everything else on the machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import trio

T = TypeVar("T")


class QuietThread:
    """Runs one call after the other in one thread, which has lower priority than the process.

    Threads that trio keeps are used for the node's disk as well, and a priority that was lowered cannot be
    raised again: so this one is not trio's.

    Args:
        nice: by how much it gives way.
    """

    def __init__(self, nice: int) -> None:
        self._nice = nice
        self._pool = ThreadPoolExecutor(1, "quiet", self._give_way)

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """The result of `work(*arguments)`, or what it raises.

        Cancelled, work that has begun goes on, and its result is thrown away.
        """
        done, token = trio.Event(), trio.lowlevel.current_trio_token()

        def tell(_: Future[T]) -> None:
            with suppress(trio.RunFinishedError):  # the node has stopped
                token.run_sync_soon(done.set)

        future = self._pool.submit(work, *arguments)
        future.add_done_callback(tell)
        try:
            await done.wait()
        finally:
            future.cancel()
        return future.result()

    def close(self) -> None:
        """Take no more work; what runs is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _give_way(self) -> None:
        if sys.platform == "linux":  # where a priority is a thread's; elsewhere it is the whole process's
            os.nice(self._nice)
