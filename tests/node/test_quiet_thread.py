"""A thread that gives way: its priority, its order, its errors."""

from __future__ import annotations

import os
import sys

import pytest
import trio

from p2pml.node.quiet_thread import QuietThread


@pytest.mark.skipif(sys.platform != "linux", reason="a priority is the whole process's elsewhere")
async def test_only_that_thread_gives_way() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    thread = QuietThread(3)
    assert await thread.run(os.getpriority, os.PRIO_PROCESS, 0) == min(before + 3, 19)
    assert await trio.to_thread.run_sync(os.getpriority, os.PRIO_PROCESS, 0) == before
    thread.close()


async def test_calls_take_turns_and_raise_what_they_raise() -> None:
    thread, seen = QuietThread(0), []
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(thread.run, seen.append, number)
    assert sorted(seen) == list(range(5))
    with pytest.raises(ZeroDivisionError):
        await thread.run(divmod, 1, 0)
    with trio.CancelScope() as scope:
        scope.cancel()
        await thread.run(seen.append, 9)
    assert await thread.run(len, "abc") == 3
    thread.close()
