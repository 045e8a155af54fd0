"""Training in a rating window: lanes that begin with its announcement and end just before its last slot does.

They end earlier by what clocks may differ, so that nobody who watches the claim come sees it late, and by the
wall's clock also where the machine has slept meanwhile: what was trained by then is claimed. A node
that was not there when the window began takes no part in it: half a window would be half a rating. Where the
best branch changes to one with another challenge it begins anew, with what time is left.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

import trio

from chain.baseline.draws import challenge
from p2pml.config import Config
from p2pml.node.baseline_run import Baseline
from p2pml.node.rating_parts import OwnTraces, RatingParts, View
from p2pml.storage.rating_traces import KeptTrace
from p2pml.worker.lanes import blas
from p2pml.worker.lanes.pool import LanesFailed, Look, Plan, Window, WindowRun

log = logging.getLogger(__name__)

RunLanes = Callable[[Plan, Callable[[Look], None]], Awaitable[Window]]
"""What trains. Raises LanesFailed or OSError."""
Rest = Callable[[bool], Awaitable[None]]
"""Told when the machine is needed for the window, and when it is free again."""
TELL_S = 1.0
TRIALS_SHARE = 0.05
"""Of a window's time, what trials of kernels may take."""
TRIALS_S = 10.0
"""What they need: a shorter window is trained with the library's own choice."""


@dataclass(frozen=True, slots=True)
class Effort:
    """What a node gives to a window; see the `rating_…` keys of `Config`.

    Args:
        lanes: processes; one per core that this process may use when 0.
        cap: per cent of a core for each.
        nice: by how much they give way.
        watts: of the whole machine; 0 to read its counters.
    """

    lanes: int = 0
    cap: int = 100
    nice: int = 10
    watts: int = 0

    @classmethod
    def of(cls, config: Config) -> Effort:
        """What the node's `config.toml` says."""
        return cls(config.rating_lanes, config.rating_cap, config.rating_nice, config.rating_watts)

    @property
    def processes(self) -> int:
        """Lanes, resolved."""
        return self.lanes or len(os.sched_getaffinity(0))

    def joules(self, seconds: float, window: Window) -> int:
        """Energy of a window: declared, or counted; 0 where nobody tells."""
        return math.ceil(self.watts * seconds) if self.watts else window.joules or 0


class Lanes:
    """Trains in processes on this machine, with the kernels that were the fastest at the beginning of the
    first window that is long enough for trials."""

    def __init__(self) -> None:
        self._blas: str | None = None

    async def __call__(self, plan: Plan, progress: Callable[[Look], None]) -> Window:
        """A window. Raises LanesFailed or OSError."""
        limit = TRIALS_SHARE * plan.seconds
        if self._blas is None and limit >= TRIALS_S:
            with trio.move_on_after(limit):
                self._blas = await blas.fastest(plan.folder, plan.nice)
                log.info(
                    "rating windows are trained with %s", self._blas or "OpenBLAS' own choice of kernels"
                )
        return await WindowRun(replace(plan, blas=self._blas or ""), progress).run()


class Training:
    """Trains in each window that this node takes part in, and keeps the trace.

    Args:
        own: where the trace goes.
        effort: what the node gives.
        lanes: trains.
        rest: has the node's other work stand still meanwhile.

    Attributes:
        segments: finished so far in the window that is under way; None outside.
    """

    def __init__(
        self, parts: RatingParts, own: OwnTraces, effort: Effort, lanes: RunLanes, rest: Rest
    ) -> None:
        self._parts, self._own, self._effort = parts, own, effort
        self._lanes, self._rest = lanes, rest
        self._missed = self._present = 0
        self._told_at = -math.inf
        self.segments: int | None = None

    async def look(self, view: View) -> None:
        """Train if a window is announced that waits for this node; returns when there is a trace, or none."""
        window = view.window
        if window.over or not window.mix or view.slot >= view.borders.train_end:
            return
        if self._missed == window.start or not view.entitled(self._parts.account):
            return
        if await self._own.of(view) is not None:
            return
        chain, baselines, infohash = self._parts.chain, self._parts.baselines, view.rules.infohash
        begun = chain.clock_ms() - chain.genesis.slot_start_ms(window.start)
        if begun >= chain.genesis.params.slot_ms and self._present != window.start:
            self._miss(view, "this node was not there when the window began")
            return
        baseline = await baselines.checked(infohash)
        if baseline is None and begun >= 0:
            baseline = await self._await_data(view)
        if baseline is not None:
            await self._train(view, baseline)
        elif begun >= 0:
            reason = baselines.problems.get(infohash, "it is not prepared yet")
            self._miss(view, f"the data set {infohash.hex()} is not here: {reason}")

    async def _await_data(self, view: View) -> Baseline | None:
        """The data set, if it becomes ready within the window's first slot."""
        chain, baselines, found = self._parts.chain, self._parts.baselines, None

        async def come() -> None:
            nonlocal found
            found = await baselines.come(view.rules.infohash)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(come)
            nursery.start_soon(baselines.look, view.state)
            await chain.sleep_until(chain.genesis.slot_start_ms(view.window.start + 1))
            nursery.cancel_scope.cancel()
        return found

    async def _train(self, view: View, baseline: Baseline) -> None:
        self._present, seconds = view.window.start, self._seconds(view)
        self._parts.events.emit(
            "rating.window",
            window=view.window.start,
            slots=view.window.slots,
            seconds=seconds,
            lanes=self._effort.processes,
        )
        outcome: list[Window | Exception] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stop_when_void, view, nursery.cancel_scope)
            nursery.start_soon(self._resting)
            try:
                outcome.append(await self._lanes(self._plan(view, baseline, seconds), self._tell(view)))
            except (LanesFailed, OSError) as error:
                outcome.append(error)
            nursery.cancel_scope.cancel()
        self.segments = None
        match outcome:
            case [Window() as done]:
                await self._keep(view, baseline, done, self._effort.joules(seconds, done))
            case [Exception() as reason]:
                self._miss(view, f"no lane could train: {reason}")
            case _:
                log.warning("the chain drew another challenge for window %d", view.window.start)
                await self.look(self._parts.view())

    def _end_ms(self, view: View) -> int:
        genesis = self._parts.chain.genesis
        return genesis.slot_start_ms(view.borders.train_end) - genesis.params.skew_ms

    def _seconds(self, view: View) -> float:
        """What is left of the training."""
        return (self._end_ms(view) - self._parts.chain.clock_ms()) / 1000

    def _plan(self, view: View, baseline: Baseline, seconds: float) -> Plan:
        window, effort = view.window, self._effort
        return Plan(
            self._parts.baselines.folder_of(view.rules.infohash), baseline.net,
            challenge(window.mix, window.start, self._parts.account), effort.processes, seconds, effort.cap,
            effort.nice, opens_at=trio.current_time(),
            over=partial(self._parts.chain.sleep_until, self._end_ms(view)),
        )  # fmt: skip

    async def _keep(self, view: View, baseline: Baseline, done: Window, joules: int) -> None:
        window = view.window
        whole = sum(leaf.segment == baseline.net.segments - 1 for leaf in done.leaves)
        if not whole:
            self._miss(view, f"no lane finished an episode of {baseline.net.segments} segments")
            return
        given = challenge(window.mix, window.start, self._parts.account)
        kept = KeptTrace(window.start, given, view.rules.infohash, joules, tuple(sorted(done.leaves)))
        try:
            await self._own.keep(view, baseline, kept)
        except OSError as error:
            self._miss(view, f"the trace cannot be written: {error.strerror or error}")

    async def _stop_when_void(self, view: View, scope: trio.CancelScope) -> None:
        """Stop where another branch has become the best that announced the window with another mix."""
        while True:
            now = self._parts.view().window
            if (now.start, now.mix) != (view.window.start, view.window.mix):
                scope.cancel()
            await self._parts.chain.wait_change()

    async def _resting(self) -> None:
        try:
            await self._rest(True)
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await self._rest(False)

    def _tell(self, view: View) -> Callable[[Look], None]:
        def tell(look: Look) -> None:
            if look.seconds_left is not None:
                self.segments = look.segments
            if look.seconds_left is None or trio.current_time() < self._told_at + TELL_S:
                return
            self._told_at = trio.current_time()
            self._parts.events.emit(
                "rating.training",
                window=view.window.start,
                segments=look.segments,
                seconds_left=round(look.seconds_left, 1),
            )

        return tell

    def _miss(self, view: View, reason: str) -> None:
        self._missed = view.window.start
        log.warning("this node misses the rating window %d: %s", view.window.start, reason)
        self._parts.events.emit("rating.missed", window=view.window.start, reason=reason)
