"""The WebSocket transport (`/ip4/…/tcp/…/ws`): bytes in binary frames over TCP, for nodes behind proxies.

libp2p 0.8.1 has one too. It is not used: an HTTP request with an undecodable `Host` ends the whole process,
it knows no remote address (so nothing that decides by address sees the connection), and it waits a minute for
a handshake. Here frames are handed on as they come in: the size that a frame claims to have costs no memory.

Source: RFC 6455; libp2p specification "websockets".
"""

from __future__ import annotations

import logging
from typing import Any

import trio
from libp2p.abc import IListener, ITransport
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.transport.exceptions import OpenConnectionError
from multiaddr import Multiaddr

from p2pml.net import addresses
from p2pml.net.admission import let_in
from p2pml.net.errors import Closed
from p2pml.net.gate import Gate
from p2pml.net.websocket_stream import WebSocketStream, accept, request

log = logging.getLogger(__name__)

HANDSHAKE_S = 10.0
"""Seconds for the HTTP part, on either side."""
HANDSHAKES = 64
"""HTTP parts under way at once on a listener; more connections are closed at once."""


class WebSocketTransport(ITransport):  # type: ignore[misc]
    """Dials and listens on `/ws` addresses; see libp2p's `ITransport`.

    Args:
        gate: passed by each connection before the HTTP part; None for one with the usual limits.
    """

    def __init__(self, gate: Gate | None = None) -> None:
        self._gate = gate

    async def dial(self, maddr: Any) -> RawConnection:
        """A connection to a listener; libp2p secures it.

        Raises:
            OpenConnectionError: nobody answers, or not as a WebSocket server.
        """
        _, host, _, port, *_ = str(maddr).strip("/").split("/")
        try:
            stream = await trio.open_tcp_stream(host, int(port))
        except OSError as error:
            raise OpenConnectionError(f"no connection to {maddr}: {error}") from error
        try:
            with trio.fail_after(HANDSHAKE_S):
                bytes_stream = await request(stream, f"[{host}]" if ":" in host else host)
        except BaseException as error:
            await trio.aclose_forcefully(stream)
            if isinstance(error, Closed | trio.TooSlowError):
                raise OpenConnectionError(f"{maddr} is no WebSocket server: {error}") from error
            raise
        return RawConnection(TrioTCPStream(bytes_stream), True)

    def create_listener(self, handler_function: Any) -> IListener:
        """A listener whose connections `handler_function` serves."""
        return WebSocketListener(handler_function, gate=self._gate)

    def can_dial(self, maddr: Any) -> bool:
        """Whether the address is one of ours."""
        return addresses.is_websocket(str(maddr))

    def can_listen(self, maddr: Any) -> bool:
        """Whether the address is one of ours."""
        return addresses.is_websocket(str(maddr))

    def protocols(self) -> list[str]:
        """What libp2p filters addresses by before it asks `can_dial`."""
        return ["ws"]


class WebSocketListener(IListener):  # type: ignore[misc]
    """One listening socket, or several.

    Args:
        handler: given each connection as libp2p's stream of bytes; runs as long as the connection.
        handshakes: HTTP parts under way at once.
        handshake_s: seconds for each of them.
        gate: passed by each connection before it.
    """

    background_nursery: trio.Nursery
    """Set by the swarm before `listen`."""

    def __init__(
        self,
        handler: Any,
        handshakes: int = HANDSHAKES,
        handshake_s: float = HANDSHAKE_S,
        gate: Gate | None = None,
    ) -> None:
        self._handler = handler
        self._handshakes = trio.CapacityLimiter(handshakes)
        self._handshake_s = handshake_s
        self._gate = gate or Gate()
        self._scopes: list[trio.CancelScope] = []
        self._locations: list[str] = []

    async def listen(self, maddr: Any) -> None:
        """Listen on `/ip4/…/tcp/…/ws`.

        Raises:
            OpenConnectionError: the address is in use, or not this machine's.
        """
        kind, host, _, port, *_ = str(maddr).strip("/").split("/")
        try:
            sockets = await trio.open_tcp_listeners(int(port), host=host)
        except OSError as error:
            raise OpenConnectionError(f"cannot listen on {maddr}: {error}") from error
        for listener in sockets:
            bound = listener.socket.getsockname()
            self._locations.append(f"/{kind}/{bound[0]}/tcp/{bound[1]}/ws")
        self._scopes.append(await self.background_nursery.start(self._serve, sockets))

    async def _serve(
        self, sockets: list[trio.SocketListener], *, task_status: Any = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.CancelScope() as scope:
            task_status.started(scope)
            await trio.serve_listeners(self._connected, sockets)

    async def _connected(self, stream: trio.SocketStream) -> None:
        """Serve one connection; what goes wrong in it ends it alone."""
        try:
            with let_in(self._gate, stream.socket.getpeername()[0]):
                await self._handler(TrioTCPStream(await self._shake_hands(stream)))
        except Exception as error:
            log.debug("a WebSocket connection ended: %s %s", type(error).__name__, error)
        finally:
            await trio.aclose_forcefully(stream)

    async def _shake_hands(self, stream: trio.SocketStream) -> WebSocketStream:
        self._handshakes.acquire_nowait()
        try:
            with trio.fail_after(self._handshake_s):
                return await accept(stream)
        finally:
            self._handshakes.release()

    def get_addrs(self) -> tuple[Any, ...]:
        """Where it listens, with the port that the system chose."""
        return tuple(Multiaddr(location) for location in self._locations)

    async def close(self) -> None:
        """Stop listening and end every connection."""
        await trio.lowlevel.checkpoint()
        for scope in self._scopes:
            scope.cancel()
        self._scopes, self._locations = [], []
