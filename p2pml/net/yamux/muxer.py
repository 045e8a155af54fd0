"""The pump of a yamux connection: one task reads the socket, one writes it, one keeps the time.

Only the writing task touches the socket's sending side, and only its own end cuts it off; then the connection
is closed. So a cancelled user of a stream can neither leave half a frame nor half a record behind.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import trio
from libp2p.abc import IMuxedConn
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamError

from p2pml.net.errors import Closed, RemoteError
from p2pml.net.secure.session import RecordSession
from p2pml.net.yamux import frames
from p2pml.net.yamux.connection import Connection, TooManyStreams
from p2pml.net.yamux.limits import Budget, Limits
from p2pml.net.yamux.muxed_stream import MuxedStream
from p2pml.net.yamux.stream import StreamState

log = logging.getLogger(__name__)

BATCH = 4
"""Chunks (records) written to the socket at once, 256 KiB."""
FAREWELL_S = 1.0
"""Seconds for the last frames, the go-away among them, to leave before the socket is closed."""
CLOSE_S = 5.0
"""Seconds for the closing itself, which is not cancelled half way."""


class Muxer(IMuxedConn):  # type: ignore[misc]
    """One connection with its streams, as libp2p's swarm uses it.

    Args:
        session: the secured connection.
        peer_id: libp2p's id of the peer.
        limits: of this connection.
        budget: shared by the connections of a host.
    """

    def __init__(
        self, session: RecordSession, peer_id: Any, limits: Limits | None = None, budget: Budget | None = None
    ) -> None:
        self.secured_conn = session
        self.peer_id = peer_id
        self.on_close: Any = None  # libp2p's swarm sets it
        self.event_started = trio.Event()
        self.event_shutting_down = trio.Event()
        self.event_closed = trio.Event()
        self.connection = Connection(
            session.is_initiator, limits or Limits(), budget or Budget(), trio.current_time()
        )
        self._output, self._arrived, self._drained = trio.Event(), trio.Event(), trio.Event()
        self._leaving: dict[StreamState, trio.Event] = {}  # streams whose end somebody waits to see sent
        self._closing = False
        self.connection.on_output = self._on_output
        self.connection.on_arrived = lambda: self._arrived.set()

    @property
    def is_initiator(self) -> bool:
        """Whether we dialled."""
        return bool(self.secured_conn.is_initiator)

    @property
    def is_established(self) -> bool:
        """Whether streams can be opened."""
        return self.event_started.is_set() and not self.event_shutting_down.is_set()

    @property
    def is_closed(self) -> bool:
        """Whether everything is over."""
        return self.event_closed.is_set()

    def rtt(self) -> float:
        """Seconds of the last ping; 0 before the first answer."""
        return self.connection.rtt

    def get_remote_address(self) -> Any:
        """`(host, port)` of the peer, or None."""
        return self.secured_conn.get_remote_address()

    def get_transport_addresses(self) -> Any:
        """The multiaddresses of the connection."""
        return self.secured_conn.get_transport_addresses()

    def get_connection_type(self) -> Any:
        """Direct or relayed."""
        return self.secured_conn.get_connection_type()

    async def open_stream(self) -> MuxedStream:
        """Open a stream.

        Raises:
            MuxedStreamError: the connection is ending, or holds as many streams as it may.
        """
        await trio.lowlevel.checkpoint()
        try:
            return MuxedStream(self, self.connection.open())
        except (Closed, TooManyStreams) as error:
            raise MuxedStreamError(str(error)) from error

    async def accept_stream(self) -> MuxedStream:
        """The next stream that the peer opened.

        Raises:
            MuxedConnUnavailable: the connection has ended.
        """
        await trio.lowlevel.checkpoint()
        while True:
            if self._closing:
                raise MuxedConnUnavailable("the connection has ended")
            while self.connection.arrived:
                state = self.connection.arrived.popleft()
                if state.ended is None:
                    return MuxedStream(self, state)
            if self._arrived.is_set():
                self._arrived = trio.Event()
            await self._arrived.wait()

    async def start(self) -> None:
        """Run the connection until it ends. Never raises for the peer's sake: the swarm would die of it."""
        reason = "the connection was closed"
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                nursery.start_soon(self._keep_time)
                self.event_started.set()
                await self._read()
                nursery.cancel_scope.cancel()
        except* Exception as errors:
            reason = _describe(errors)
            log.debug("the connection to %s ended: %s", self.peer_id, reason)
        finally:
            with trio.CancelScope(shield=True):
                await self._end(reason)

    async def close(self) -> None:
        """Say goodbye, send what is queued if that takes no longer than a second, and close."""
        if not self._closing and self.event_started.is_set():
            self.connection.go_away()
            self.event_shutting_down.set()
            await self._farewell()
        await self._end("the connection was closed on this side")

    async def flushed(self, state: StreamState) -> None:
        """Wait until the end of a stream was given to the socket, or the stream was broken off."""
        await trio.lowlevel.checkpoint()
        if state.ended is None and not self._closing and not (state.fin_sent and self._drained.is_set()):
            await self._leaving.setdefault(state, trio.Event()).wait()

    async def _read(self) -> None:
        """Feed the state machine until the connection ends or the peer has left and its streams are over."""
        try:
            while True:
                for chunk in await self.secured_conn.receive():
                    self.connection.receive(chunk, trio.current_time())
                if self.connection.peer_leaves is not None:
                    self.event_shutting_down.set()
                    if not self.connection.streams:
                        return
        except RemoteError:
            self.event_shutting_down.set()
            self.connection.go_away(frames.PROTOCOL_ERROR)
            await self._farewell()
            raise

    async def _write(self) -> None:
        while True:
            chunks: list[bytes] = []
            while len(chunks) < BATCH and (chunk := self.connection.next_chunk()) is not None:
                chunks.append(chunk)
            if chunks:
                await self.secured_conn.send(chunks)
            for state in [each for each in self._leaving if each.fin_sent or each.ended is not None]:
                self._leaving.pop(state).set()
            if not chunks:
                self._drained.set()
                self._output = trio.Event()
                await self._output.wait()

    def _on_output(self) -> None:
        self._output.set()
        if self._drained.is_set():
            self._drained = trio.Event()

    async def _keep_time(self) -> None:
        while True:
            await trio.sleep_until(self.connection.deadline(trio.current_time()))
            self.connection.tick(trio.current_time())
            if self.connection.peer_leaves is not None and not self.connection.streams:
                raise Closed("the peer left")

    async def _farewell(self) -> None:
        with trio.move_on_after(FAREWELL_S):
            await self._drained.wait()

    async def _end(self, reason: str) -> None:
        if self._closing:
            return
        self._closing = True
        self.event_shutting_down.set()
        self.connection.end(reason)
        self._arrived.set()
        self._drained.set()  # nothing leaves any more: a farewell need not wait for it
        for event in self._leaving.values():
            event.set()
        self._leaving.clear()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
            with suppress(Exception):
                await self.secured_conn.close()
            self.event_closed.set()
            if self.on_close is not None:
                with suppress(Exception):
                    await self.on_close()


def _describe(errors: BaseExceptionGroup[Any]) -> str:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
