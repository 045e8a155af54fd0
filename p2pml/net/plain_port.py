"""The TCP port for ordinary BitTorrent clients, and the way out to them.

A client that connects names its torrent in BEP 3's handshake; from there on the torrent's swarm has it, as it
has libp2p's peers. A torrent that is not here, is private or paused is answered alike: the connection closes.
Whoever comes passes a gate by blocks of addresses; who lied is banned by address. Nothing that comes in here
can end more than its own connection.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

import trio

from p2pml.errors import ExitCode, UserError
from p2pml.net.addresses import check_port_free, own_ipv4
from p2pml.net.errors import RemoteError, TimedOut, Unreachable
from p2pml.net.gate import Gate, Limits, Refused
from p2pml.net.plain_peer import address_of, block_of, is_plain, plain_ip, plain_name
from p2pml.net.plain_stream import PlainStream
from p2pml.net.scores import Deed
from p2pml.net.standing import Standing
from torrent.errors import RemoteError as TorrentRemoteError
from torrent.messages import HANDSHAKE_BYTES, PROTOCOL, Handshake

log = logging.getLogger(__name__)

HANDSHAKE_DEADLINE_S = 10.0
DIAL_S = 10.0
LIMITS = Limits(inbound=200, half_open=64)
MAX_OUTBOUND = 100
BACKLOG = 128


class Taker(Protocol):
    """A swarm that takes connections."""

    async def accept(self, stream: PlainStream, handshake: bytes) -> None: ...


class PlainPort:
    """Listens for ordinary clients, and dials them.

    Args:
        listen: the IP address to listen on.
        port: TCP port; 0 for a free one.
        limits: on inbound connections, see `net.gate`.

    Attributes:
        port: the one that is listened on, once `run` has started.
    """

    def __init__(self, listen: str, port: int, limits: Limits = LIMITS) -> None:
        self.listen, self.port = listen, port
        self._gate = Gate(limits)
        self._standing = Standing(self._cut)
        self._streams: set[PlainStream] = set()
        self._dialled = 0
        self._find: Callable[[bytes], Taker | None] = lambda info_hash: None

    def serve(self, find: Callable[[bytes], Taker | None]) -> None:
        """From now on `find` names the swarm of an info-hash; None for what is not to be known of."""
        self._find = find

    @property
    def connections(self) -> int:
        """Inbound connections, those with a handshake under way included."""
        return self._gate.inbound

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled; every connection that came in ends with it.

        Raises:
            UserError: the port is in use.
        """
        if self.port:
            check_port_free(self.listen, self.port)
        try:
            listeners = await trio.open_tcp_listeners(self.port, host=self.listen, backlog=BACKLOG)
        except OSError as error:
            raise UserError(
                f"cannot listen on {self.listen} port {self.port}: {error.strerror or error}",
                "choose another bittorrent_port",
                ExitCode.FAILURE,
            ) from error
        self.port = listeners[0].socket.getsockname()[1]
        log.info("BitTorrent clients are served on %s port %d", self.listen, self.port)
        await trio.serve_listeners(self._take, listeners, task_status=task_status)

    # -- in ------------------------------------------------------------------------------------------

    async def _take(self, raw: trio.SocketStream) -> None:
        """One connection, from its acceptance to its end; never raises."""
        try:
            ip, port = raw.socket.getpeername()[:2]
            if self.is_banned(ip):
                return
            ticket = self._gate.enter(ip, trio.current_time())
            try:
                stream = PlainStream(raw, plain_name(ip, port))
                self._streams.add(stream)
                try:
                    await self._greet(stream, lambda: self._gate.established(ticket))
                finally:
                    self._streams.discard(stream)
            finally:
                self._gate.leave(ticket)
        except (Refused, RemoteError, TorrentRemoteError, OSError) as error:
            log.debug("a BitTorrent connection ended: %s", error)
        except Exception:
            log.exception("a BitTorrent connection failed")
        finally:
            await trio.aclose_forcefully(raw)

    async def _greet(self, stream: PlainStream, established: Callable[[], None]) -> None:
        with trio.move_on_after(HANDSHAKE_DEADLINE_S) as scope:
            data = await _read_handshake(stream)
        if scope.cancelled_caught:
            raise TimedOut(f"{stream.peer} sent no handshake")
        taker = self._find(Handshake.decode(data[:HANDSHAKE_BYTES]).info_hash)
        if taker is None:
            return
        established()
        await taker.accept(stream, data)

    # -- out -----------------------------------------------------------------------------------------

    def is_own(self, ip: str, port: int) -> bool:
        """Whether this port itself is at an address, as far as this machine knows its addresses."""
        return port == self.port and plain_ip(ip) in (self.listen, *own_ipv4(), "::1")

    def dialled_from(self, name: str) -> str | None:
        """Whom the connection leads to that was dialled from this end, named by the peer that took it."""
        return next((stream.peer for stream in self._streams if stream.local == name), None)

    async def open(self, peer: str) -> PlainStream:
        """Connect to a peer by its name; `release` it after its end.

        Raises:
            RemoteError: `Unreachable` or `TimedOut`.
        """
        ip, port = address_of(peer)
        if self.is_banned(ip):
            raise Unreachable(f"{peer} is banned")
        if self._dialled >= MAX_OUTBOUND:
            raise Unreachable(f"{MAX_OUTBOUND} connections to BitTorrent clients are open")
        self._dialled += 1
        stream: PlainStream | None = None
        try:
            with trio.move_on_after(DIAL_S):
                raw = await trio.open_tcp_stream(ip, port)
                stream = PlainStream(raw, peer, plain_name(*raw.socket.getsockname()[:2]))
        except OSError as error:
            raise Unreachable(f"{peer}: {error}") from error
        finally:
            if stream is None:
                self._dialled -= 1
        if stream is None:
            raise TimedOut(f"{peer} did not answer within {DIAL_S:g} s")
        self._streams.add(stream)
        return stream

    def release(self, stream: PlainStream) -> None:
        """A connection that was opened here has ended."""
        self._streams.discard(stream)
        self._dialled -= 1

    # -- liars ---------------------------------------------------------------------------------------

    def is_banned(self, ip: str) -> bool:
        """Whether nobody at this address is spoken to now."""
        return self._standing.banned(block_of(ip)) is not None

    def lied(self, peer: str, reason: str) -> None:
        """A peer sent data that proved false: its address is banned, and its connections end."""
        if is_plain(peer):
            self._standing.report(block_of(address_of(peer)[0]), Deed.LIED, reason)

    def _cut(self, block: str) -> None:
        for stream in list(self._streams):
            if block_of(address_of(stream.peer)[0]) == block:
                stream.cut()


async def _read_handshake(stream: PlainStream) -> bytes:
    """At least the 68 bytes; what speaks something else is noticed at its first wrong byte."""
    data = b""
    while len(data) < HANDSHAKE_BYTES:
        more = await stream.read_some()
        data += more
        if not more or not data.startswith(PROTOCOL[: len(data)]):
            raise Unreachable(f"{stream.peer} speaks no BitTorrent")
    return data
