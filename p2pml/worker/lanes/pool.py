"""The pump of a window: starts the lanes, feeds `LanePool` and carries its effects out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from chain.baseline.net import Net
from chain.baseline.trace import Leaf
from p2pml.worker.lanes import energy
from p2pml.worker.lanes.core import (
    Closed,
    Done,
    Effect,
    Event,
    LanePool,
    Lost,
    Opened,
    Order,
    Over,
    Pause,
    Ready,
    Resume,
)
from p2pml.worker.lanes.processes import LaneProcesses

PATIENCE_S = 120.0
"""Within which lanes have to be ready; importing TensorFlow on a busy machine takes tens of seconds."""
_MAX_LINE = 256


class LanesFailed(Exception):
    """No lane could train; the message says why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One window.

    Args:
        folder: where `store.write` has put net and samples; the lanes' logs go there too.
        challenge: 32 bytes.
        lanes: processes.
        seconds: length of the window.
        cap: per cent of a core that each lane may use.
        nice: by how much lanes give way to everything else.
        kernel: `numpy`, `int64` or `tensorflow`.
        blas: OpenBLAS' kernels (`blas.fastest`); empty for those that it takes by itself.
        opens_at: trio's time at which the window begins; None for when all lanes are ready.
        over: returns when the window is over by the wall's clock; None where that does not matter. Trio's
            stands still while the machine sleeps.
    """

    folder: Path
    net: Net
    challenge: bytes
    lanes: int
    seconds: float
    cap: int = 100
    nice: int = 10
    kernel: str = "numpy"
    blas: str = ""
    opens_at: float | None = None
    over: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """What was done in one.

    Args:
        leaves: of the segments that were finished in time, in the order in which they came.
        cpu_ms: processor time that they took.
        joules: what the processors used meanwhile, the whole machine; None where they do not tell.
        lanes_left: that were alive at its end.
        late: lanes that were ready only after its beginning.
    """

    leaves: tuple[Leaf, ...]
    cpu_ms: int
    joules: int | None
    lanes_left: int
    late: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """Progress: segments so far, and seconds left (None: not begun)."""

    segments: int
    seconds_left: float | None


class WindowRun:
    """One window being run: `run` does it, `pause` and `resume` may be called meanwhile, by another task.

    Args:
        progress: called after each segment, and each second in which there is none; must not raise.
    """

    def __init__(self, plan: Plan, progress: Callable[[Look], None] | None = None) -> None:
        self._plan, self._progress = plan, progress
        self._inbox, self._events = trio.open_memory_channel[Event](4 * plan.lanes + 16)
        self._processes = LaneProcesses(plan.folder, plan.lanes)
        self._before: energy.Reading | None = None
        self._joules: int | None = None
        self._failure = ""

    async def pause(self) -> None:
        """Let all lanes rest; the window goes on."""
        await self._inbox.send(Pause())

    async def resume(self) -> None:
        """Let them train on."""
        await self._inbox.send(Resume())

    async def run(self) -> Window:
        """Run the window; all lanes have ended when this returns, or is cancelled.

        Raises:
            LanesFailed: no lane trained.
            OSError: the processes cannot be started.
        """
        plan, now = self._plan, trio.current_time()
        pool = LanePool(plan.net, plan.lanes, plan.seconds, PATIENCE_S, now, plan.opens_at)
        try:
            await self._processes.start(
                (plan.folder, plan.challenge.hex(), plan.kernel, plan.cap, plan.nice, plan.seconds), plan.blas
            )
            async with trio.open_nursery() as nursery:
                for lane in range(plan.lanes):
                    nursery.start_soon(self._listen, lane)
                nursery.start_soon(self._end)
                await self._own(pool)
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await self._processes.stop()
        if self._failure:
            raise LanesFailed(self._failure)
        return Window(tuple(pool.leaves), pool.cpu_ms, self._joules, pool.lanes_left, pool.late)

    async def _end(self) -> None:
        if self._plan.over is not None:
            await self._plan.over()
            await self._inbox.send(Over())

    async def _own(self, pool: LanePool) -> None:
        while (deadline := pool.deadline()) is not None:
            event: Event | None = None
            with trio.move_on_at(min(trio.current_time() + 1, deadline)):
                event = await self._events.receive()
            now = trio.current_time()
            for effect in pool.tick(now) if event is None else pool.receive(event, now):
                await self._carry_out(effect)
            if self._progress and (event is None or isinstance(event, Done)):
                self._progress(Look(len(pool.leaves), pool.seconds_left(now)))

    async def _carry_out(self, effect: Effect) -> None:
        if isinstance(effect, Opened):
            self._before = energy.read()
        elif isinstance(effect, Closed):
            self._joules = energy.joules(self._before, energy.read())
            self._failure = effect.failure
        else:
            await self._order(effect)

    async def _order(self, order: Order) -> None:
        words = f"{order.word} {order.episode}" if order.word == "train" else order.word
        await self._processes.send(order.lane, words)

    async def _listen(self, lane: int) -> None:
        """Turn a lane's lines into events until they end."""
        buffer, reason = b"", ""
        while not reason:
            data = await self._processes.receive(lane)
            buffer += data
            if not data:
                reason = self._processes.last_words(lane)
            while b"\n" in buffer and not reason:
                line, _, buffer = buffer.partition(b"\n")
                event = parse(lane, line)
                if isinstance(event, Lost):
                    reason = event.reason
                else:
                    await self._inbox.send(event)
            if len(buffer) > _MAX_LINE:
                reason = "a line without end"
        await self._inbox.send(Lost(lane, reason))


def parse(lane: int, line: bytes) -> Ready | Done | Lost:
    """The event in a lane's line; Lost for one that it must not write."""
    try:
        word, *rest = line.decode("ascii").split()
        if word == "ready":
            (cpu_ms,) = rest
            return Ready(lane, int(cpu_ms))
        episode, segment, digest, cpu_ms = rest
        if word == "leaf" and len(digest) == 64:
            return Done(lane, Leaf(int(episode), int(segment), bytes.fromhex(digest)), int(cpu_ms))
    except ValueError:
        pass
    return Lost(lane, f"it said {line[:60]!r}")
