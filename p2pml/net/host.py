"""One node on the network: listens, dials, opens and serves streams, keeps connections tested."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from libp2p.connection_types import ConnectionType

from p2pml.config import DEFAULT_TRANSPORT
from p2pml.errors import UserError
from p2pml.net import addresses
from p2pml.net.admission import guard
from p2pml.net.backoff import Backoff
from p2pml.net.cancelsafe import cut
from p2pml.net.dialing import Dialing
from p2pml.net.errors import Closed, Malformed, RemoteError, TimedOut
from p2pml.net.gate import Gate, Limits
from p2pml.net.keepalive import KeepAlive
from p2pml.net.opening import Opening
from p2pml.net.raw_host import alive, new_raw_host, to_raw_peer
from p2pml.net.scores import Deed
from p2pml.net.standing import Standing
from p2pml.net.streams import Stream

log = logging.getLogger(__name__)

Handler = Callable[[Stream], Awaitable[None]]
Service = Callable[[str, Any], Awaitable[Any]]

DIAL_S = 10.0
SETTLE_S = {"fast": 0.0, "stock": 0.25}
"""Streams that are opened the moment a connection is up get lost in the library's own muxer."""


class Host:
    """One node on the network.

    Args:
        seed: the node key, a 32-byte Ed25519 seed.
        listen: IPv4 or IPv6 address to listen on; `0.0.0.0` for all.
        port: TCP port; 0 for a free one, None for no TCP listener.
        websocket_port: port for WebSocket; 0 for a free one, None for no WebSocket listener.
        bootstrap: addresses `/ip4/…/tcp/…/p2p/<peer>` that are dialled again whenever they are not connected.
        announce: addresses to tell peers instead of those listened on (behind a router that forwards a port).
        keepalive: how often connections are tested; tests shorten it.
        transport: the code under the streams: ours (`fast`) or libp2p's own (`stock`); see `net.transports`.
        wires: what to listen on and dial over instead of TCP, see `MemoryNetwork`.
        limits: on connections, see `net.gate`.
        peers_file: where bans and peers that were met are kept, to be dialled again; None to forget them.

    Raises:
        UserError: a bootstrap address that does not parse.
        ValueError: `transport` is neither.
    """

    def __init__(
        self,
        seed: bytes,
        listen: str = "127.0.0.1",
        port: int | None = 0,
        bootstrap: Sequence[str] = (),
        announce: Sequence[str] = (),
        keepalive: KeepAlive | None = None,
        transport: str = DEFAULT_TRANSPORT,
        wires: Any = None,
        websocket_port: int | None = None,
        limits: Limits | None = None,
        peers_file: Path | None = None,
    ) -> None:
        self._listen, self._announce = listen, tuple(announce)
        wanted = ((port, False), (websocket_port, True))
        self._ports = [(number, websocket) for number, websocket in wanted if number is not None]
        self._bootstrap = [_bootstrap_address(addr) for addr in bootstrap]
        limits = limits or Limits()
        gate = Gate(limits)
        self.raw = new_raw_host(seed, transport, wires, gate)
        self.peer_id: str = self.raw.get_id().to_base58()
        self._network = self.raw.get_network()
        self.standing = Standing(self._cut_soon, peers_file)
        self._remembers = peers_file is not None
        guard(self._network, gate, lambda peer: self.standing.banned(peer) is not None)
        self.external: tuple[str, ...] = ()
        """Locations outside, such as a router's, at which peers have reached this node."""
        self.relayed: tuple[str, ...] = ()
        """Relays' circuit locations, through which this node can be reached."""
        self._opening = Opening(self.raw)
        self._keepalive = keepalive or KeepAlive()
        rest = Backoff[str](self._keepalive.redial_first, self._keepalive.redial_most, random.Random())
        self.dialing = Dialing(self.raw, self.standing, limits, rest, SETTLE_S[transport])
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Listen, keep connections alive and bootstrap peers dialled, until cancelled.

        Raises:
            UserError: the port is in use.
        """
        for port, _ in self._ports:
            if port:
                addresses.check_port_free(self._listen, port)
        places = [addresses.listen_location(self._listen, port, ws) for port, ws in self._ports]
        async with self.raw.run(listen_addrs=[addresses.multiaddr(place) for place in places]):
            if len(self._network.listeners) < len(places):
                raise UserError(f"cannot listen on {', '.join(places)}", "choose another address or port")
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self.standing.run)
                nursery.start_soon(self._keepalive.watch, self)
                if self._remembers:
                    nursery.start_soon(self._keepalive.find_friends, self)
                for addr in self._bootstrap:
                    nursery.start_soon(self._keepalive.redial, self, addr)
                task_status.started()
                try:
                    await trio.sleep_forever()
                finally:
                    self._nursery = None
                    nursery.cancel_scope.cancel()
                    await self._close_sockets()

    async def _close_sockets(self) -> None:
        """Stop listening and cut every connection; libp2p's own farewell is cancelled with us."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            for listener in list(self._network.listeners.values()):
                await listener.close()
            for conns in list(self._network.connections.values()):
                for conn in list(conns):
                    await cut(conn.muxed_conn)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Host]:
        """`async with Host(seed).running() as host:` runs the host for the block."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.run)
            yield self
            nursery.cancel_scope.cancel()

    def addrs(self) -> list[str]:
        """What to tell others: `/ip4/…/tcp/…/p2p/<our id>`, wildcards expanded."""
        if self._announce:
            locations = [addresses.location_of(addr) for addr in self._announce]
        else:
            listening = sorted(
                (str(addr) for addr in self.raw.get_transport_addrs()), key=addresses.is_websocket
            )
            locations = addresses.expand(listening)  # TCP first: it is the faster one
        found = dict.fromkeys([*self.external, *locations, *self.relayed])
        return [f"{location}/p2p/{self.peer_id}" for location in found]

    def ports(self) -> list[list[Any]]:
        """`["tcp" or "ws", port]` of each listener."""
        listening = sorted((str(addr) for addr in self.raw.get_transport_addrs()), key=addresses.is_websocket)
        ports = [
            ["ws" if addresses.is_websocket(addr) else "tcp", int(addr.split("/")[4])] for addr in listening
        ]
        return [port for number, port in enumerate(ports) if port not in ports[:number]]

    @property
    def listens_on_loopback(self) -> bool:
        """Whether only this machine can reach this node."""
        return self._listen in ("127.0.0.1", "::1", "localhost")

    @property
    def listens_on(self) -> str:
        """The IP address that this node listens on; `0.0.0.0` for all."""
        return self._listen

    def remote_ip(self, peer: str) -> str | None:
        """The IP address that a connected peer is at; None where the connection cannot say."""
        for conn in self._network.get_connections(to_raw_peer(peer)):
            secured = conn.muxed_conn.secured_conn
            where = secured.get_remote_address()
            if where is not None and secured.get_connection_type() is ConnectionType.DIRECT and alive([conn]):
                return str(where[0])
        return None

    def connected(self) -> list[str]:
        """Ids of the peers with a live connection."""
        return [peer.to_base58() for peer, conns in self._network.connections.items() if alive(conns)]

    def is_connected(self, peer: str) -> bool:
        """Whether a connection to `peer` is live."""
        return alive(self._network.get_connections(to_raw_peer(peer)))

    def rtt(self, peer: str) -> float | None:
        """The last ping's round trip to a connected peer in seconds; None before the first."""
        return self._keepalive.rtt.get(peer)

    def learn(self, peer: str, addrs: Sequence[str]) -> None:
        """Remember where `peer` was said to be; an address that cannot be dialled is left out."""
        if peer != self.peer_id:
            self.standing.book.learn(peer, addrs, self.standing.wall())

    def known_addrs(self, peer: str) -> list[str]:
        """Where `peer` was said to be."""
        return self.standing.book.get(peer)

    async def connect(self, addr: str, deadline: float = DIAL_S) -> str:
        """Connect to `/ip4/…/tcp/…/p2p/<peer>`; nothing to do when connected.

        Returns:
            The peer's id.

        Raises:
            ValueError: the address does not parse.
            RemoteError: `Unreachable` or `TimedOut`.
        """
        _, peer = addresses.split(addr)
        to_raw_peer(peer)
        self.learn(peer, [addr])
        await self.connect_peer(peer, deadline)
        return peer

    async def connect_peer(self, peer: str, deadline: float = DIAL_S) -> None:
        """Connect to a peer at one of its known addresses, best first.

        Raises:
            RemoteError: `Unreachable` or `TimedOut`.
        """
        await self.dialing.connect(peer, deadline)

    async def disconnect(self, peer: str) -> None:
        """Cut every connection to `peer`, frozen or not."""
        for conn in list(self._network.get_connections(to_raw_peer(peer))):
            await cut(conn.muxed_conn)

    def report(self, peer: str, deed: Deed, why: str) -> None:
        """Note what a peer did; too much of what no honest node does, and it is disconnected and banned."""
        self.standing.report(peer, deed, why)

    def _cut_soon(self, peer: str) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(self.disconnect, peer)

    def handle(self, protocol: str, handler: Handler) -> None:
        """Serve `protocol`: each new stream runs `handler`; the stream is closed after it.

        An exception in the handler resets the stream and is logged; the host lives on.
        """

        async def entry(raw: Any) -> None:
            stream = Stream(raw)
            try:
                await handler(stream)
                await stream.close()
            except RemoteError as error:
                log.debug("%s from %s: %s", protocol, stream.peer, error)
                self.standing.note(stream.peer, error)
            except Exception:
                log.exception("the handler of %s failed", protocol)
            finally:
                await stream.reset()

        self.raw.set_stream_handler(protocol, entry)

    def serve(self, protocol: str, service: Service, max_size: int = 65536, deadline: float = 30.0) -> None:
        """Answer requests of `protocol`: one message in, `await service(peer, message)` out, per stream.

        Args:
            protocol: e.g. `/p2pml/sync/1.0.0`.
            service: raising a `RemoteError` refuses the request by a reset.
            max_size: bytes of the largest request accepted.
            deadline: seconds for the request to come in, and again for the answer to leave.
        """

        async def handler(stream: Stream) -> None:
            message = await stream.recv(max_size, deadline)
            await stream.send(await service(stream.peer, message), deadline)

        self.handle(protocol, handler)

    async def open(self, peer: str, protocol: str, deadline: float = DIAL_S) -> Stream:
        """Open a stream, connecting first where needed. Close or reset it when done: the number is bounded.

        Raises:
            RemoteError: `Unreachable` (also: the peer does not speak the protocol), `TimedOut`.
        """
        with trio.move_on_after(deadline):
            if not self.is_connected(peer):
                await self.connect_peer(peer, deadline)
            if self._nursery is None:
                raise Closed("the host is not running")
            return await self._opening.open(self._nursery, peer, protocol)
        raise TimedOut(f"{peer} opened no {protocol} stream within {deadline:g} s")

    async def request(
        self, peer: str, protocol: str, message: Any, deadline: float = 10.0, max_size: int = 1 << 20
    ) -> Any:
        """One question, one answer, on a stream of its own.

        Args:
            deadline: seconds for all of it.
            max_size: bytes of the largest answer accepted.

        Raises:
            RemoteError: whatever goes wrong on the way or at the peer.
        """
        until = trio.current_time() + deadline
        stream = await self.open(peer, protocol, deadline)
        try:
            await stream.send(message, max(until - trio.current_time(), 0.0))
            answer = await stream.recv(max_size, max(until - trio.current_time(), 0.0))
            await stream.close()
            return answer
        except (Malformed, TimedOut) as error:
            self.standing.note(peer, error)
            raise
        finally:
            await stream.reset()  # nothing happens when it was closed


def _bootstrap_address(addr: str) -> str:
    try:
        _, peer = addresses.split(addr)
        to_raw_peer(peer)
    except ValueError as error:
        raise UserError(
            f"bootstrap address {addr!r} is not usable: {error}",
            "copy the address that `p2pml status` shows on the other node",
        ) from error
    return addr.strip()
