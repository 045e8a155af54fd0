"""One node on the network: listens, dials, opens and serves streams, keeps connections tested."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio
from libp2p.peer.peerinfo import PeerInfo

from p2pml.errors import UserError
from p2pml.net import addresses
from p2pml.net.cancelsafe import cut
from p2pml.net.errors import Closed, RemoteError, TimedOut, Unreachable
from p2pml.net.keepalive import KeepAlive
from p2pml.net.raw_host import alive, new_raw_host, to_raw_peer
from p2pml.net.streams import Stream

log = logging.getLogger(__name__)

Handler = Callable[[Stream], Awaitable[None]]
Service = Callable[[str, Any], Awaitable[Any]]

STREAMS_PER_PEER = 128
"""Streams that we hold open to one peer: yamux blocks without a word at 256, and gossip needs a few."""
DIAL_S = 10.0
ADDRESS_S = 4.0
"""Seconds for one of a peer's addresses, so that a dead one leaves time for the next."""


class Host:
    """One node on the network.

    Args:
        seed: the node key, a 32-byte Ed25519 seed.
        listen: IPv4 or IPv6 address to listen on; `0.0.0.0` for all.
        port: TCP port; 0 for a free one.
        bootstrap: addresses `/ip4/…/tcp/…/p2p/<peer>` that are dialled again whenever they are not connected.
        announce: addresses to tell peers instead of those listened on (behind a router that forwards a port).
        keepalive: how often connections are tested; tests shorten it.
        transport: the code under the streams: libp2p's own (`stock`) or ours (`fast`); see `net.transports`.
        wires: what to listen on and dial over instead of TCP, see `MemoryNetwork`.

    Raises:
        UserError: a bootstrap address that does not parse.
        ValueError: `transport` is neither.
    """

    def __init__(
        self,
        seed: bytes,
        listen: str = "127.0.0.1",
        port: int = 0,
        bootstrap: Sequence[str] = (),
        announce: Sequence[str] = (),
        keepalive: KeepAlive | None = None,
        transport: str = "stock",
        wires: Any = None,
    ) -> None:
        self._listen, self._port, self._announce = listen, port, tuple(announce)
        self._bootstrap = [_bootstrap_address(addr) for addr in bootstrap]
        self.raw = new_raw_host(seed, transport, wires)
        self.peer_id: str = self.raw.get_id().to_base58()
        self._network = self.raw.get_network()
        self._book = addresses.AddressBook()
        self._dials: dict[str, trio.Event] = {}
        self._slots: dict[str, trio.Semaphore] = {}
        self._keepalive = keepalive or KeepAlive()
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Listen, keep connections alive and bootstrap peers dialled, until cancelled.

        Raises:
            UserError: the port is in use.
        """
        if self._port:
            addresses.check_port_free(self._listen, self._port)
        where = addresses.listen_location(self._listen, self._port)
        async with self.raw.run(listen_addrs=[addresses.multiaddr(where)]):
            if not self.raw.get_transport_addrs():
                raise UserError(f"cannot listen on {where}", "choose another address or port")
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._keepalive.watch, self)
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
            locations = [addr.partition("/p2p/")[0] for addr in self._announce]
        else:
            locations = addresses.expand(str(addr) for addr in self.raw.get_transport_addrs())
        return [f"{location}/p2p/{self.peer_id}" for location in locations]

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
            self._book.learn(peer, addrs)

    def known_addrs(self, peer: str) -> list[str]:
        """Where `peer` was said to be."""
        return self._book.get(peer)

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
        with trio.move_on_after(deadline):
            while peer in self._dials:  # two dials at once would make two connections
                await self._dials[peer].wait()
            if self.is_connected(peer):
                return
            self._dials[peer] = trio.Event()
            try:
                await self._dial(peer)
            finally:
                self._dials.pop(peer).set()
            return
        raise TimedOut(f"{peer} did not answer the dial within {deadline:g} s")

    async def _dial(self, peer: str) -> None:
        known = self._book.get(peer)
        if peer == self.peer_id or not known:
            raise Unreachable(f"no address of {peer} is known")
        target, last = to_raw_peer(peer), ""
        for dead in self._network.get_connections(target):
            self._network.remove_conn(dead)  # still closing: libp2p would take it for a connection
        for location in known:
            # libp2p dials one TCP address of those it knows and then refuses the peer for a minute.
            self.raw.get_peerstore().clear_addrs(target)
            self._network.unblock_peer(target)
            last = f"{location}: no answer"
            try:
                with trio.move_on_after(ADDRESS_S):
                    await self.raw.connect(PeerInfo(target, [addresses.multiaddr(location)]))
                    self._book.prefer(peer, location)
                    return
            except Exception as error:
                last = f"{location}: {error.__cause__ or error}"
        raise Unreachable(f"cannot reach {peer} at {last}")

    async def disconnect(self, peer: str) -> None:
        """Cut every connection to `peer`, frozen or not."""
        for conn in list(self._network.get_connections(to_raw_peer(peer))):
            await cut(conn.muxed_conn)

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
            slots = self._slots_of(peer)
            await slots.acquire()
            return await self._open(peer, protocol, slots.release)
        raise TimedOut(f"{peer} opened no {protocol} stream within {deadline:g} s")

    def _slots_of(self, peer: str) -> trio.Semaphore:
        if len(self._slots) > addresses.MAX_PEERS:
            in_use = {name: slots for name, slots in self._slots.items() if slots.value < STREAMS_PER_PEER}
            self._slots = in_use
        return self._slots.setdefault(peer, trio.Semaphore(STREAMS_PER_PEER))

    async def _open(self, peer: str, protocol: str, release: Callable[[], None]) -> Stream:
        """Negotiate in a task of its own: cancelled half way, it would damage the connection."""
        pending = _PendingOpen()
        if self._nursery is None:
            release()
            raise Closed("the host is not running")
        self._nursery.start_soon(self._negotiate, peer, protocol, pending, release)
        try:
            await pending.done.wait()
        except trio.Cancelled:
            pending.abandoned = True
            if pending.stream is not None:
                await pending.stream.reset()
            raise
        if pending.stream is None:
            raise Unreachable(pending.problem)
        return pending.stream

    async def _negotiate(
        self, peer: str, protocol: str, pending: _PendingOpen, release: Callable[[], None]
    ) -> None:
        try:
            raw = await self.raw.new_stream(to_raw_peer(peer), [protocol])
        except Exception as error:
            pending.problem = f"{peer} opened no {protocol} stream: {error.__cause__ or error}"
            release()
        else:
            pending.stream = Stream(raw, release)
            if pending.abandoned:
                await pending.stream.reset()
        finally:
            pending.done.set()

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
        finally:
            await stream.reset()  # nothing happens when it was closed


class _PendingOpen:
    """What a waiting `open` and its negotiating task share."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.stream: Stream | None = None
        self.problem = ""
        self.abandoned = False


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
