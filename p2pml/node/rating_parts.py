"""What the parts of a node's rating share: the chain as they see it, its window now, the node's own trace."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

import trio

from chain.baseline.draws import challenge
from chain.baseline.trace import Trace
from chain.crypto import Keypair
from chain.errors import ChainError
from chain.genesis import Genesis
from chain.mempool import Mempool
from chain.quality import Baseline as Rules
from chain.rating.auditor import Subject
from chain.rating.entries import Window
from chain.rating.items import Commit, Point, sign
from chain.rating.phases import registered_for
from chain.rating.schedule import Schedule, schedule_of
from chain.state import State
from chain.types import Block
from p2pml.errors import UserError
from p2pml.node.baseline_run import Baseline
from p2pml.node.events import Events
from p2pml.node.quiet_thread import QuietThread
from p2pml.node.rating_baseline import BaselineKeeper
from p2pml.storage.rating_traces import DamagedTrace, KeptTrace, RatingTraces

log = logging.getLogger(__name__)


class RatingChain(Protocol):
    """The chain as `p2pml.node.chain_service.ChainService` offers it."""

    @property
    def genesis(self) -> Genesis: ...

    @property
    def pool(self) -> Mempool: ...

    @property
    def clock_ms(self) -> Callable[[], int]: ...

    def state(self) -> State: ...

    def slot_now(self) -> int: ...

    async def wait_change(self) -> None: ...

    async def sleep_until(self, time_ms: int) -> None: ...

    async def block(self, id_or_height: bytes | int) -> Block | None: ...

    async def send_rating(self, point: Point) -> None:
        """Raises UserError: it is not taken."""
        ...


@dataclass(frozen=True, slots=True)
class View:
    """The chain at one moment.

    Args:
        state: after the head.
        slot: that is running.
    """

    state: State
    slot: int

    @property
    def window(self) -> Window:
        """The latest one."""
        return self.state.window()

    @property
    def borders(self) -> Schedule:
        """Of that window."""
        return schedule_of(self.state.genesis.params, self.window)

    @property
    def rules(self) -> Rules:
        """The data set and the bounds that hold in that window."""
        return self.state.baseline(self.window.epoch)

    def entitled(self, account: bytes) -> bool:
        """Whether an account takes part in the window."""
        return registered_for(self.state, account, self.window)


@dataclass(frozen=True, slots=True)
class RatingParts:
    """What the parts of a node's rating work with.

    Args:
        chain: to look at, and where items go.
        keys: of the validator.
        baselines: the data sets.
        thread: where what takes long is computed.
        events: where progress is told.
    """

    chain: RatingChain
    keys: Keypair
    baselines: BaselineKeeper
    thread: QuietThread
    events: Events

    @property
    def account(self) -> bytes:
        """32 bytes."""
        return self.keys.public

    def view(self) -> View:
        """The chain now."""
        return View(self.chain.state(), self.chain.slot_now())

    async def send(self, point: Point) -> bool:
        """Sign an item and pass it on, unless it waits already; whether it waits now."""
        signed = sign(point, self.keys, self.chain.genesis.chain_id)
        if self.chain.pool.ratings.has(signed.id):
            return True
        try:
            await self.chain.send_rating(signed)
        except UserError as error:
            log.info("%s of window %d is not taken: %s", point.TAG, point.window, error)
            return False
        return True

    async def wait(self, seen: View) -> None:
        """Wait for another head than a view's, or a later slot; what changed since it was taken counts."""
        until = self.chain.genesis.slot_start_ms(seen.slot + 1)
        await trio.lowlevel.checkpoint()
        if self.chain.state().block_id != seen.state.block_id:
            return

        async def first(event: Callable[[], Coroutine[Any, Any, None]]) -> None:
            await event()
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first, self.chain.wait_change)
            nursery.start_soon(first, lambda: self.chain.sleep_until(until))


@dataclass(frozen=True, slots=True)
class OwnTrace:
    """What this node trained in a window, as it lies on disk, and what it claims of it (not signed)."""

    kept: KeptTrace
    subject: Subject
    commit: Commit


class OwnTraces:
    """This node's trace of the window that the chain is in, on disk and in memory.

    Args:
        disk: where it is kept.
    """

    def __init__(self, parts: RatingParts, disk: RatingTraces) -> None:
        self._parts, self._disk = parts, disk
        self._own: OwnTrace | None = None
        self._looked: tuple[int, bytes] = (0, b"")

    @property
    def latest(self) -> OwnTrace | None:
        """What was looked for, or written, last."""
        return self._own

    async def of(self, view: View) -> OwnTrace | None:
        """The trace of a view's window, if it was trained for the challenge that this branch drew."""
        key = view.window.start, view.window.mix
        if self._looked == key:
            return self._own
        baseline = self._parts.baselines.get(view.rules.infohash)
        if not view.window.mix or baseline is None:
            return None
        self._own, self._looked = await self._read(view, baseline), key
        return self._own

    async def keep(self, view: View, baseline: Baseline, kept: KeptTrace) -> OwnTrace:
        """Put a trace on disk before anything is said of it. Raises OSError."""
        await trio.to_thread.run_sync(self._disk.write, kept)
        await trio.to_thread.run_sync(self._disk.forget_before, kept.window)
        self._own = await trio.to_thread.run_sync(self._of, view.window, kept, baseline)
        self._looked = kept.window, view.window.mix
        return self._own

    async def _read(self, view: View, baseline: Baseline) -> OwnTrace | None:
        window = view.window
        try:
            kept = await trio.to_thread.run_sync(self._disk.read, window.start)
            if kept is None or kept.challenge != challenge(window.mix, window.start, self._parts.account):
                return None
            return await trio.to_thread.run_sync(self._of, window, kept, baseline)
        except (DamagedTrace, ChainError, OSError) as error:
            log.error("the trace of this node in window %d cannot be read: %s", window.start, error)
            return None

    def _of(self, window: Window, kept: KeptTrace, baseline: Baseline) -> OwnTrace:
        subject = Subject(self._parts.account, Trace(baseline.net, kept.leaves))
        return OwnTrace(kept, subject, subject.commit(window, kept.joules))
