"""A worker that serves a node on another machine: `p2pml worker serve`.

The process that computes is this machine's own, kept alive and within its limits by `WorkerSupervisor`; here
the node's messages are passed on to it and its answers back. Of a request only its samples are looked at: a
node on another machine names them by content, and what is not here is fetched from it.
"""

from __future__ import annotations

import logging
import ssl
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import trio
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketServer,
)

from p2pml.formats import FormatError
from p2pml.worker.alive import keep_alive
from p2pml.worker.calls import Caller
from p2pml.worker.contents import Contents
from p2pml.worker.protocol import (
    REPLACED,
    Cancel,
    Evaluate,
    Failed,
    Message,
    Part,
    Progress,
    ProtocolError,
    Request,
    Rest,
    Resting,
    Span,
    Train,
    Unable,
    Want,
    decode,
    encode,
)
from p2pml.worker.session import WorkerDied, WorkerError, WorkerUnavailable
from p2pml.worker.sockets import is_authorized, listen

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = logging.getLogger(__name__)

NODE = "node"
"""Why the worker rests when its node wants it to."""
CONNECT_S = 20.0
LOOK_S = 0.5
READY_S = 300.0
"""Within which the process has to be ready for a call; it may die again and again."""
PART_S = 60.0
"""Within which a part of the samples has to come."""
FAREWELL_S = 2.0
"""For the end of a connection that another one replaces; it may be dead without a word."""


class WorkerServer:
    """Serves one node at a time; a newer connection ends the one before, which may be dead without a word.

    Args:
        worker: does the work; run by somebody else.
        token: what a node must show.
        contents: where samples are kept.
    """

    def __init__(self, worker: Caller, token: str, contents: Contents) -> None:
        self._worker, self._token, self._contents = worker, token, contents
        self._newest: tuple[WebSocketConnection, trio.CancelScope] | None = None
        self._turn = trio.Lock()

    async def run(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext | None,
        *,
        task_status: TaskStatus[WebSocketServer] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen until cancelled. Raises OSError: the port cannot be had."""
        await listen(self._on_connection, host, port, context, CONNECT_S, task_status=task_status)

    async def _on_connection(self, request: WebSocketRequest) -> None:
        try:
            if not is_authorized(request, self._token):
                log.warning("a node at %s has the wrong token", request.remote)
                await request.reject(403)
                return
            ws = await request.accept()
            scope = trio.CancelScope()
            before, self._newest = self._newest, (ws, scope)
            with scope:
                if before is not None:
                    await _replace(*before)
                async with self._turn:
                    log.info("serving a node at %s", request.remote)
                    await self._serve(ws)
        except ConnectionClosed:
            pass
        except Exception:
            log.exception("a connection failed")  # it may not end the others

    async def _serve(self, ws: WebSocketConnection) -> None:
        try:
            async with trio.open_nursery() as nursery:
                conversation = _Conversation(ws, self._worker, self._contents, nursery)
                nursery.start_soon(keep_alive, ws, lambda _: nursery.cancel_scope.cancel())
                nursery.start_soon(conversation.write)
                nursery.start_soon(conversation.greet)
                nursery.start_soon(conversation.tell_rests)
                await conversation.listen()
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await self._worker.rest(NODE, False)
            log.info("the node is gone")


async def _replace(ws: WebSocketConnection, scope: trio.CancelScope) -> None:
    try:
        with trio.move_on_after(FAREWELL_S):
            await ws.aclose(REPLACED, "another node took over")
    finally:
        scope.cancel()


@dataclass(slots=True)
class _Conversation:
    """One connection of a node; its nursery ends with it, and with that the running call."""

    ws: WebSocketConnection
    worker: Caller
    contents: Contents
    nursery: trio.Nursery
    _outbox: tuple[trio.MemorySendChannel[bytes], trio.MemoryReceiveChannel[bytes]] = field(
        default_factory=lambda: trio.open_memory_channel[bytes](1)
    )
    _running: trio.CancelScope | None = None
    _parts: dict[str, Part] = field(default_factory=dict)
    _came: trio.Event = field(default_factory=trio.Event)

    async def listen(self) -> None:
        """Take the node's messages until it is gone, or sends what it may not."""
        try:
            while True:
                data = await self.ws.get_message()
                if not isinstance(data, bytes):
                    raise ProtocolError("a text message")
                await self._receive(*decode(data))
        except ProtocolError as error:
            log.warning("the node is cut off: it sent %s", error)
            await self.ws.aclose(1002)
        except ConnectionClosed:
            pass

    async def write(self) -> None:
        """Send what is to be sent. Nobody else does: what ends in the middle of a message leaves a TLS stream
        broken, and this ends with the connection alone."""
        with suppress(ConnectionClosed):  # the listener notices
            async for data in self._outbox[1]:
                await self.ws.send_message(data)

    async def greet(self) -> None:
        """Say Hello for the process that computes, once it can and for each one after it."""
        told: Message | None = None
        while True:
            try:
                found: Message = await self.worker.wait_ready()
            except WorkerUnavailable as error:
                found = Unable(error.reason)
            if found != told:
                await self._send(0, found)
                told = found
            await trio.sleep(LOOK_S)

    async def tell_rests(self) -> None:
        """Tell the node when this machine has reasons of its own."""
        told = ""
        while True:
            reason = next((why for why in self.worker.rests if why != NODE), "")
            if reason != told:
                await self._send(0, Resting(reason))
                told = reason
            await trio.sleep(LOOK_S)

    async def _receive(self, call: int, message: Message) -> None:
        match message:
            case Cancel():
                if self._running is not None:
                    self._running.cancel()
            case Rest(resting):
                await self.worker.rest(NODE, resting)
            case Part():
                self._parts[message.digest] = message
                self._came.set()
            case Request() if self._running is None:
                self._running = trio.CancelScope()
                self.nursery.start_soon(self._carry_out, call, message, self._running)
            case _:
                raise ProtocolError(f"{type(message).__name__} out of turn")

    async def _carry_out(self, call: int, request: Request[Any], scope: trio.CancelScope) -> None:
        answer: Message = Failed("cancelled", cancelled=True)
        news, reports = trio.open_memory_channel[Progress](1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._report, call, reports)
            with scope:
                answer = await self._answer(request, news)
            nursery.cancel_scope.cancel()
        self._running = None
        await self._send(call, answer)

    async def _answer(self, request: Request[Any], news: trio.MemorySendChannel[Progress]) -> Message:
        def progress(report: Progress) -> None:
            if not news.statistics().current_buffer_used:
                news.send_nowait(report)

        try:
            with_samples = await self._with_samples(request)
            with trio.fail_after(READY_S):
                await self.worker.wait_ready()
            answer: Message = await self.worker.call(with_samples, progress)
        except trio.TooSlowError:
            return Failed(f"the worker was not ready within {READY_S:g} s: {self.worker.status}", died=True)
        except FormatError as error:
            return Failed(str(error), refused=True)
        except OSError as error:
            return Failed(f"the samples cannot be kept: {error.strerror or error}")
        except WorkerDied as error:
            return Failed(error.reason, error.traceback, died=True)
        except WorkerError as error:
            return Failed(error.reason, error.traceback, refused=error.refused)
        return answer

    async def _report(self, call: int, reports: trio.MemoryReceiveChannel[Progress]) -> None:
        async for report in reports:
            await self._send(call, report)

    async def _with_samples(self, request: Request[Any]) -> Request[Any]:
        """The request with paths of this machine. Raises FormatError or OSError."""
        if isinstance(request, Train | Span):
            return replace(request, shard=await self._have(request.shard))
        if isinstance(request, Evaluate):
            return replace(request, data=await self._have(request.data))
        return request

    async def _have(self, digest: str) -> str:
        path = await trio.to_thread.run_sync(self.contents.find, digest)
        while path is None:
            offset = await trio.to_thread.run_sync(self.contents.begun, digest)
            part = await self._fetch(Want(digest, offset))
            if not part.size:
                raise FormatError("the node does not have the samples that it named")
            path = await trio.to_thread.run_sync(self.contents.add, digest, part.offset, part.size, part.data)
        return str(path)

    async def _fetch(self, want: Want) -> Part:
        self._parts.clear()
        await self._send(0, want)
        with trio.move_on_after(PART_S):
            while want.digest not in self._parts:
                self._came = trio.Event()
                await self._came.wait()
            return self._parts.pop(want.digest)
        raise FormatError(f"the node sent no samples within {PART_S:g} s")

    async def _send(self, call: int, message: Message) -> None:
        await self._outbox[0].send(encode(call, message))
