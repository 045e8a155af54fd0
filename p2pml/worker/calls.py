"""Calls to a worker, one after the other, through the lives that it has; and its rests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

from p2pml.worker.protocol import Hello, Message, Progress, Request
from p2pml.worker.session import Session, WorkerUnavailable

R = TypeVar("R", bound=Message)


class Caller:
    """What is the same for a process of this machine and for a worker on another one. Whoever keeps it alive
    sets `_session`, `_refusal` and `_trouble`, and calls `_notify`."""

    def __init__(self) -> None:
        self._turn = trio.Lock()
        self._changed = trio.Event()
        self._session: Session | None = None
        self._refusal = ""  # why there is no worker and calls are of no use
        self._trouble = ""  # why there is none yet
        self._starts = 0
        self._rests: dict[str, None] = {}  # in the order in which they came

    @property
    def ready(self) -> bool:
        """Whether a worker has imported TensorFlow and takes calls."""
        return self._session is not None and self._session.hello is not None

    @property
    def status(self) -> str:
        """`starting` (with `: <reason>` where there is one), `ready`, `busy` or `unavailable: <reason>`."""
        if self._refusal:
            return f"unavailable: {self._refusal}"
        if self._session is None or self._session.hello is None:
            return f"starting: {self._trouble}" if self._trouble else "starting"
        return "busy" if self._session.busy else "ready"

    @property
    def hello(self) -> Hello | None:
        """What the living worker said of itself; None until it is ready."""
        return self._session.hello if self._session is not None else None

    @property
    def starts(self) -> int:
        """How many lives it has had."""
        return self._starts

    async def wait_ready(self) -> Hello:
        """Wait for a worker that takes calls.

        Raises:
            WorkerUnavailable: there can be none, or whoever keeps it alive has stopped.
        """
        while True:
            if self._refusal:
                raise WorkerUnavailable(self._refusal)
            if self._session is not None and self._session.hello is not None:
                return self._session.hello
            await self._changed.wait()

    async def call(self, request: Request[R], progress: Callable[[Progress], None] | None = None) -> R:
        """Have the worker carry out a request; calls wait for each other in order, and for the worker to be
        ready.

        Cancelling the caller cancels the work; a worker that does not stop within 10 s is killed.

        Args:
            request: what to do.
            progress: called with each report, in this task's thread; must not raise.

        Raises:
            WorkerError: the request failed; the worker lives on. `refused` tells whether the request is to
            blame. WorkerDied: the worker died meanwhile; another one is being started.
            WorkerUnavailable: there can be none, or whoever keeps it alive has stopped.
        """
        async with self._turn:
            await self.wait_ready()
            assert self._session is not None
            if self._rests:
                await self._session.rest(True)
            return await self._session.call(request, progress)

    @property
    def rests(self) -> tuple[str, ...]:
        """The reasons (`p2pml.worker.rests`) for which calls stand still; none while it computes."""
        own = self._session.resting if self._session is not None else ""
        return (*self._rests, own) if own and own not in self._rests else tuple(self._rests)

    async def rest(self, reason: str, resting: bool) -> None:
        """Stop computing for a reason, whatever calls there are, or no longer for that one: what is done so
        far is kept, and calls wait until no reason is left.

        A worker that starts meanwhile rests too, before its first call.
        """
        before = bool(self._rests)
        if resting:
            self._rests[reason] = None
        else:
            self._rests.pop(reason, None)
        if self.ready and bool(self._rests) != before:
            assert self._session is not None
            await self._session.rest(not before)

    def _notify(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()
