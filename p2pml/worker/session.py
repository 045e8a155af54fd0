"""One life of a worker as the node sees it: its connection, the call it is busy with, and how it ended."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar, cast

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from p2pml.worker.protocol import (
    Cancel,
    Failed,
    Hello,
    Message,
    Part,
    Progress,
    ProtocolError,
    Request,
    Rest,
    Resting,
    Unable,
    Want,
    decode,
    encode,
)
from p2pml.worker.rests import WORDS

R = TypeVar("R", bound=Message)
log = logging.getLogger(__name__)

CANCEL_GRACE = 10.0
"""Seconds that a worker has to stop when its call is cancelled; then it is killed."""

SEND_TIMEOUT = 60.0
"""Seconds in which a request must have been taken by the worker,"""
SEND_RATE = 1 << 20
"""and as many more as it takes to send it with so many bytes a second."""


class WorkerError(Exception):
    """A call to the worker failed.

    Args:
        reason: one line.
        traceback: the worker's, for the owner of the job; may be empty.
        refused: whether the request itself is to blame (its model, weights or data).
    """

    def __init__(self, reason: str, traceback: str = "", refused: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.traceback = traceback
        self.refused = refused


class WorkerDied(WorkerError):
    """The process ended while it had a call."""


class WorkerUnavailable(WorkerError):
    """There is no worker and there will be none."""


@dataclass(slots=True)
class _Call:
    id: int
    progress: Callable[[Progress], None] | None
    done: trio.Event = field(default_factory=trio.Event)
    result: Message | WorkerError | None = None

    def tell(self, progress: Progress) -> None:
        try:
            if self.progress is not None:
                self.progress(progress)
        except Exception:
            log.exception("a progress callback failed; its call goes on")

    def finish(self, result: Message | WorkerError) -> None:
        self.result = result
        self.done.set()


class Session:
    """A started worker.

    Args:
        cut: ends it at once; `end` is called when it has ended.
        notify: called when `hello` or `unable` has changed.
        supply: reads what a worker on another machine wants; None for one that has our disk.

    Attributes:
        resting: why it rests of its own accord; empty when it does not.
        last_words: how it ended.
    """

    def __init__(
        self,
        cut: Callable[[], None],
        notify: Callable[[], None],
        supply: Callable[[Want], Awaitable[Part]] | None = None,
    ) -> None:
        self.hello: Hello | None = None
        self.unable = self.resting = self.last_words = ""
        self._cut = cut
        self._notify = notify
        self._supply = supply
        self._ws: WebSocketConnection | None = None
        self._call: _Call | None = None
        self._last_id = 0

    @property
    def busy(self) -> bool:
        """Whether a call is running."""
        return self._call is not None

    async def serve(self, ws: WebSocketConnection) -> None:
        """Read what the worker sends until its connection ends.

        Raises:
            ConnectionClosed: it ended.
        """
        self._ws = ws
        while True:
            data = await ws.get_message()
            try:
                if not isinstance(data, bytes):
                    raise ProtocolError("a text message")
                call, message = decode(data)
                if isinstance(message, Want):
                    await self._answer(message)
                else:
                    self._receive(call, message)
            except ProtocolError as error:
                self.kill(f"it sent {error}")
                return

    async def call(self, request: Request[R], progress: Callable[[Progress], None] | None) -> R:
        """Send a request and wait for its answer; only one call at a time.

        Raises:
            WorkerError, WorkerDied: as `WorkerSupervisor.call`.
        """
        self._last_id += 1
        call = self._call = _Call(self._last_id, progress)
        try:
            # A half-sent message could not be taken back: cancellation waits until the request is out.
            with trio.CancelScope(shield=True):
                await self._send(call.id, request)
            await call.done.wait()
        except trio.Cancelled:
            with trio.move_on_after(CANCEL_GRACE) as grace:
                grace.shield = True
                await self._send(call.id, Cancel())
                await call.done.wait()
            if not call.done.is_set():
                self.kill("it did not stop when its call was cancelled")
            raise
        finally:
            self._call = None
        if isinstance(call.result, WorkerError):
            raise call.result
        return cast(R, call.result)

    async def rest(self, resting: bool) -> None:
        """Have the worker stop between two steps, or go on."""
        with trio.CancelScope(shield=True):  # as in `call`
            await self._send(0, Rest(resting))

    def kill(self, reason: str) -> None:
        """End it, if it lives, at once; the running call fails with this reason."""
        self.last_words = self.last_words or reason
        self._cut()

    def end(self, how: str) -> None:
        """It has ended, how, if nobody has said so before: fail the running call."""
        self.last_words = self.last_words or how
        if self._call is not None and not self._call.done.is_set():
            self._call.finish(WorkerDied(f"the worker died: {self.last_words}"))

    def _receive(self, call: int, message: Message) -> None:
        if isinstance(message, Hello):
            self.hello, self.unable = message, ""
            self._notify()
        elif isinstance(message, Unable):
            self.hello, self.unable = None, message.reason
            self._notify()
        elif isinstance(message, Resting):
            if message.reason and message.reason not in WORDS:
                raise ProtocolError(f"an unknown reason to rest: {message.reason[:40]!r}")
            self.resting = message.reason
        elif self._call is None or call != self._call.id:
            pass  # an answer that crossed with the end of its call
        elif isinstance(message, Progress):
            self._call.tell(message)
        elif isinstance(message, Failed):
            kind = WorkerDied if message.died else WorkerError
            self._call.finish(kind(message.reason, message.traceback, message.refused))
        else:
            self._call.finish(message)

    async def _answer(self, want: Want) -> None:
        if self._supply is None:
            raise ProtocolError("it wants what lies on its own disk")
        await self._send(0, await self._supply(want))
        if self._call is not None:
            self._call.tell(Progress(0, 1, 0.0))  # or its owner thinks that nothing happens

    async def _send(self, call: int, message: Message) -> None:
        assert self._ws is not None  # hello came through it
        data = encode(call, message)
        try:
            with trio.fail_after(SEND_TIMEOUT + len(data) / SEND_RATE):
                await self._ws.send_message(data)
        except ConnectionClosed:
            pass  # the process is ending: `end` tells the call
        except trio.TooSlowError:
            self.kill("it did not take its request")
