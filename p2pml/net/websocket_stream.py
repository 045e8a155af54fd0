"""A TCP connection that has become a WebSocket, as a stream of bytes again."""

from __future__ import annotations

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    Request,
)
from wsproto.utilities import ProtocolError, RemoteProtocolError

from p2pml.net.errors import Closed

FRAME_BYTES = 256 * 1024
"""Bytes of one frame that we send: other implementations refuse frames above some megabytes."""
_READ_BYTES = 256 * 1024
_HANDSHAKE_READ = 4096


class WebSocketStream(trio.abc.Stream):
    """The payload of binary messages, boundaries forgotten.

    Args:
        stream: the connection under it.
        protocol: after its handshake.

    Reading answers pings. A text message, a broken frame or a close frame ends the stream.
    """

    def __init__(self, stream: trio.SocketStream, protocol: WSConnection) -> None:
        self._stream, self._protocol = stream, protocol
        self.socket = stream.socket
        """For those who ask where the peer is."""
        self._unread = bytearray()
        self._ended = False
        self._answer = b""
        self._writing = trio.Lock()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What is there, at most `max_bytes`; empty at the end.

        Raises:
            trio.BrokenResourceError: the connection broke, or the peer does not speak WebSocket.
        """
        await trio.lowlevel.checkpoint()
        while not self._unread and not self._ended:
            data = await self._stream.receive_some(_READ_BYTES)
            self._ended = not data
            self.take_in(data)
            if self._answer and not self._writing.locked():  # a writer under way sends it itself
                async with self._writing:
                    await self._send_answer()
        payload = bytes(self._unread[:max_bytes])
        del self._unread[: len(payload)]
        return payload

    def take_in(self, data: bytes | bytearray) -> None:
        """Handle what came over the wire.

        Raises:
            trio.BrokenResourceError: it is not WebSocket.
        """
        try:
            if data:
                self._protocol.receive_data(bytes(data))
            for event in self._protocol.events():
                self._handle(event)
        except ProtocolError as error:
            raise trio.BrokenResourceError(f"not WebSocket: {error}") from error

    def _handle(self, event: Event) -> None:
        match event:
            case BytesMessage():
                self._unread += event.data
            case Ping():
                self._answer = self._protocol.send(event.response())  # of several, the last is enough
            case CloseConnection():
                self._ended = True
                if self._protocol.state is ConnectionState.REMOTE_CLOSING:
                    self._answer = self._protocol.send(event.response())
            case Pong():
                pass
            case _:
                raise trio.BrokenResourceError(f"a {type(event).__name__} in a stream of bytes")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`; cancelled, a part of a frame may have been sent: close the stream then.

        Raises:
            trio.BrokenResourceError: the connection ended.
        """
        async with self._writing:
            view = memoryview(data)
            for start in range(0, len(view), FRAME_BYTES):
                frame = BytesMessage(data=bytes(view[start : start + FRAME_BYTES]))
                try:
                    packed = self._protocol.send(frame)
                except ProtocolError as error:
                    raise trio.BrokenResourceError(f"the WebSocket was closed: {error}") from error
                await self._stream.send_all(packed)
                await self._send_answer()

    async def _send_answer(self) -> None:
        answer, self._answer = self._answer, b""
        if answer:
            await self._stream.send_all(answer)

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.SendStream`."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the connection without a farewell: noise has its own end, and the peer may be frozen."""
        await trio.aclose_forcefully(self._stream)


async def accept(stream: trio.SocketStream) -> WebSocketStream:
    """Answer the request that a client opens its WebSocket with.

    Raises:
        Closed: something else came; a browser's or a scanner's request has been answered by an HTTP error.
    """
    protocol = WSConnection(ConnectionType.SERVER)
    try:
        event = await _first_event(stream, protocol)
    except Closed as error:
        if isinstance(error.__cause__, RemoteProtocolError) and error.__cause__.event_hint is not None:
            await stream.send_all(protocol.send(error.__cause__.event_hint))
        raise
    if not isinstance(event, Request):
        raise Closed(f"a {type(event).__name__} in the place of a request")
    await stream.send_all(protocol.send(AcceptConnection()))
    return WebSocketStream(stream, protocol)


async def request(stream: trio.SocketStream, host: str) -> WebSocketStream:
    """Ask a server to make this connection a WebSocket.

    Raises:
        Closed: it refuses, or it is no WebSocket server.
    """
    protocol = WSConnection(ConnectionType.CLIENT)
    try:
        await stream.send_all(protocol.send(Request(host=host, target="/")))
    except trio.BrokenResourceError as error:
        raise Closed(str(error)) from error
    event = await _first_event(stream, protocol)
    if isinstance(event, RejectConnection):
        raise Closed(f"it answers with HTTP status {event.status_code}")
    if not isinstance(event, AcceptConnection):
        raise Closed(f"a {type(event).__name__} in the place of an answer")
    result = WebSocketStream(stream, protocol)
    try:
        result.take_in(b"")  # a libp2p listener speaks first; its bytes may have come with its answer
    except trio.BrokenResourceError as error:
        raise Closed(str(error)) from error
    return result


async def _first_event(stream: trio.SocketStream, protocol: WSConnection) -> Event:
    try:
        while True:
            data = await stream.receive_some(_HANDSHAKE_READ)
            protocol.receive_data(bytes(data) or None)
            for event in protocol.events():
                return event
            if not data:
                raise Closed("the connection ended in the handshake")
    except (ProtocolError, trio.BrokenResourceError, ValueError) as error:
        # wsproto lets the errors of decoding a hostile header through as they are: ValueErrors
        raise Closed(f"no WebSocket handshake: {error}") from error
