"""The libp2p host: one Ed25519 identity, TCP with noise and yamux, nothing else.

Security: the only security protocol offered is noise (plaintext would let anyone claim any identity), the
only muxer is yamux. Each stream handler is guarded: libp2p would otherwise let one exception end the whole
host.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux

from p2pml.errors import UserError
from p2pml.net import addresses
from p2pml.net.cancelsafe import cut, uninterrupted
from p2pml.net.errors import Closed, Malformed, RemoteError, TimedOut, Unreachable
from p2pml.net.keepalive import KeepAlive
from p2pml.net.streams import Stream

log = logging.getLogger(__name__)
logging.getLogger("libp2p").setLevel(logging.CRITICAL)  # it logs what peers do as errors of this process

Handler = Callable[[Stream], Awaitable[None]]
Service = Callable[[str, Any], Awaitable[Any]]

STREAMS_PER_PEER = 128
"""Streams that we hold open to one peer: yamux blocks without a word at 256, and gossip needs a few."""
INBOUND_PER_PEER = 192
"""Streams that one peer may hold open to us; more are reset."""
DIAL_S = 10.0


class Host:
    """One node on the network.

    Args:
        seed: the node key, a 32-byte Ed25519 seed.
        listen: IPv4 or IPv6 address to listen on; `0.0.0.0` for all.
        port: TCP port; 0 for a free one.
        bootstrap: addresses `/ip4/…/tcp/…/p2p/<peer>` that are dialled again whenever they are not connected.
        announce: addresses to tell peers instead of those listened on (behind a router that forwards a port).
        keepalive: how often connections are tested; tests shorten it.

    Raises:
        UserError: a bootstrap address that does not parse.
    """

    def __init__(
        self,
        seed: bytes,
        listen: str = "127.0.0.1",
        port: int = 0,
        bootstrap: Sequence[str] = (),
        announce: Sequence[str] = (),
        keepalive: KeepAlive | None = None,
    ) -> None:
        self._listen, self._port, self._announce = listen, port, tuple(announce)
        self._bootstrap = [_bootstrap_address(addr) for addr in bootstrap]
        self.raw = _new_raw_host(seed)
        self.peer_id: str = self.raw.get_id().to_base58()
        self._network = self.raw.get_network()
        # The one place that every stream passes, libp2p's own protocols included.
        self._network.set_stream_handler(self._guard(self.raw._swarm_stream_handler))
        self._book = addresses.AddressBook()
        self._dials: dict[str, trio.Event] = {}
        self._slots: dict[str, trio.Semaphore] = {}
        self._inbound: Counter[str] = Counter()
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
        return [peer.to_base58() for peer, conns in self._network.connections.items() if _alive(conns)]

    def is_connected(self, peer: str) -> bool:
        """Whether a connection to `peer` is live."""
        return _alive(self._network.get_connections(to_raw_peer(peer)))

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
        for location in known:
            # libp2p dials one TCP address of those it knows and then refuses the peer for a minute.
            self.raw.get_peerstore().clear_addrs(target)
            self._network.unblock_peer(target)
            try:
                await self.raw.connect(PeerInfo(target, [addresses.multiaddr(location)]))
            except Exception as error:
                last = f"{location}: {error.__cause__ or error}"
                continue
            self._book.prefer(peer, location)
            return
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
            slots = self._slots.setdefault(peer, trio.Semaphore(STREAMS_PER_PEER))
            await slots.acquire()
            return await self._open(peer, protocol, slots.release)
        raise TimedOut(f"{peer} opened no {protocol} stream within {deadline:g} s")

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

    def _guard(self, inner: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        async def guarded(raw: Any) -> None:
            peer = raw.muxed_conn.peer_id.to_base58()
            self._inbound[peer] += 1
            try:
                if self._inbound[peer] > INBOUND_PER_PEER:
                    raise Malformed(f"{peer} opened more than {INBOUND_PER_PEER} streams")
                await inner(raw)
            except Exception as error:
                log.debug("a stream from %s ended: %s %s", peer, type(error).__name__, error)
                await _reset_quietly(raw)
            finally:
                self._inbound[peer] -= 1
                if not self._inbound[peer]:
                    del self._inbound[peer]

        return guarded


class _PendingOpen:
    """What a waiting `open` and its negotiating task share."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.stream: Stream | None = None
        self.problem = ""
        self.abandoned = False


def _new_raw_host(seed: bytes) -> Any:
    keys = create_new_key_pair(seed)
    noise = NoiseTransport(keys, noise_privkey=create_noise_key_pair().private_key)
    config = ConnectionConfig(min_connections=0, low_watermark=0, max_connections=300, high_watermark=300)
    host = new_host(
        key_pair=keys,
        sec_opt={NOISE: noise},
        muxer_opt={YAMUX: Yamux},
        connection_config=config,
        disable_identify_address_discovery=True,
    )
    network = host.get_network()
    network.retry_config = RetryConfig(max_retries=0)
    network.auto_connector.maybe_connect = trio.lowlevel.checkpoint  # whom to dial is decided here
    # Its accounting loses slots on abrupt disconnects until nothing can be opened: our limits replace it.
    network.set_resource_manager(None)
    return host


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


def to_raw_peer(peer: str) -> Any:
    """libp2p's form of a peer id. Raises ValueError when `peer` is not base58 text of one."""
    if not isinstance(peer, str) or len(peer) > 128:
        raise ValueError("a peer id is a short text")
    try:
        target = ID.from_base58(peer)
        if target.to_base58() != peer or not 34 <= len(target.to_bytes()) <= 64:
            raise ValueError(peer)
    except Exception as error:
        raise ValueError(f"{peer!r} is not a peer id") from error
    return target


def is_peer_id(value: Any) -> bool:
    """Whether `value` is the base58 text of a peer id."""
    try:
        to_raw_peer(value)
    except ValueError:
        return False
    return True


def _alive(conns: Sequence[Any]) -> bool:
    return any(not conn.is_closed and not conn.muxed_conn.event_shutting_down.is_set() for conn in conns)


async def _reset_quietly(raw: Any) -> None:
    try:
        await uninterrupted(raw, partial(raw.reset), 10.0)
    except Exception as error:
        log.debug("a reset failed: %s", error)
