"""The pump of one torrent's swarm: streams below, the pure `torrent.swarm` machine above.

Protocol `/p2pml/bt/1.0.0`: one bidirectional stream per (peer, info-hash) that carries BEP 3 from the
handshake on; the peer is who the connection proved it to be. Ordinary clients come by plain TCP
(`net.plain_port`) and are known by their connection. One task owns the machine: streams, disk and timers
reach it through one inbox, and what it decides goes out through one outbox per peer.

Two peers may dial each other at once: the stream that the smaller peer id opened is kept. A private torrent
speaks only to the peers on its list; for all others it does not exist.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import trio

from p2pml.net.host import Host
from p2pml.net.piece_dialling import Dialling
from p2pml.net.piece_disk import PieceDisk
from p2pml.net.piece_link import Link
from p2pml.net.piece_ports import Disk, Machine, PieceStream, Watcher
from p2pml.net.plain_peer import address_of, ipv4_of, is_plain
from p2pml.net.plain_port import PlainPort
from p2pml.net.plain_stream import PlainStream
from p2pml.net.scores import Deed
from p2pml.net.twins import worse_of
from torrent import events
from torrent.client_id import client_name
from torrent.priorities import Priorities

log = logging.getLogger(__name__)

PROTOCOL = "/p2pml/bt/1.0.0"
MAX_LINKS = 60
MAX_DIALLED = 30
MAX_PLAIN = 30
"""Links by plain TCP: half of all, so that no number of strangers keeps libp2p's peers out."""
MAX_PLAIN_DIALLED = 20
RETRY_DISK_S = 30.0
_UNREAD_CHUNKS = 32
"""Chunks that wait for the machine; more are left with the streams."""
_AT_ONCE = 16
"""Items that are dealt with before others have their turn: waiting for each costs as much as many of them."""
_USEFUL_BYTES = 4096


@dataclass(frozen=True, slots=True)
class _Opened:
    link: Link
    handshake: bytes


@dataclass(frozen=True, slots=True)
class _Ended:
    link: Link


@dataclass(frozen=True, slots=True)
class _FromLink:
    """An event that counts only while the link is the peer's current one."""

    link: Link
    event: events.Event


_Item = _Opened | _Ended | _FromLink | events.Event


class SwarmPump:
    """Runs one torrent's swarm.

    Args:
        host: opens streams; `PieceExchange` brings those that others open.
        info_hash: 20 bytes.
        machine: the swarm, owned by this pump from now on.
        disk: where pieces come from and go to.
        watcher: told about progress.
        allowed: the only peers to speak to; None for everybody.
        plain: the way to ordinary clients; None for none.
    """

    def __init__(
        self,
        host: Host,
        info_hash: bytes,
        machine: Machine,
        disk: Disk,
        watcher: Watcher,
        allowed: frozenset[str] | None = None,
        plain: PlainPort | None = None,
    ) -> None:
        self.info_hash = info_hash
        self._host = host
        self._machine = machine
        self._watcher = watcher
        self._allowed = allowed
        self._plain = plain
        self._dialling = Dialling(self, self._open, MAX_DIALLED)
        self._plain_dialling = None if plain is None else Dialling(self, plain.open, MAX_PLAIN_DIALLED, True)
        self._links: dict[str, Link] = {}
        self._open_links: set[Link] = set()
        self._inbox_send, self._inbox = trio.open_memory_channel[_Item](math.inf)
        self._room = trio.Semaphore(_UNREAD_CHUNKS)
        self._disk = PieceDisk(disk, watcher, self._inbox_send.send_nowait)
        self._nursery: trio.Nursery | None = None

    # -- asking and telling --------------------------------------------------------------------------

    def stats(self) -> events.SwarmStats:
        """The machine's counters at this moment."""
        return self._machine.stats(trio.current_time())

    def connected(self) -> tuple[str, ...]:
        """The libp2p peers with a stream of this swarm."""
        return tuple(peer for peer in self._links if not is_plain(peer))

    def clients(self) -> dict[str, str]:
        """The programs that connected peers say they are; for display."""
        return {peer: client_name(link.remote_id) for peer, link in self._links.items()}

    @property
    def peer_id(self) -> bytes:
        """What this swarm goes by in BEP 3's handshakes, 20 bytes."""
        return self._machine.peer_id

    @property
    def public(self) -> bool:
        """Whether ordinary clients may know of this torrent."""
        return self._allowed is None and self._plain is not None

    def admits(self, peer: str) -> bool:
        """Whether this torrent may be spoken of with a peer."""
        return self._allowed is None or peer in self._allowed

    def allow(self, peers: frozenset[str] | None) -> None:
        """Replace the list of peers to speak to; streams of others end."""
        self._allowed = peers
        for peer, link in list(self._links.items()):
            if not self.admits(peer):
                link.end()

    def offer(self, peers: Iterable[str]) -> None:
        """Peers that may hold pieces: they are dialled while pieces are missing.

        Args:
            peers: libp2p's ids, or names of `net.plain_peer`, which count only with a way to such peers.
        """
        known = [peer for peer in peers if peer != self._host.peer_id and self.admits(peer)]
        self._dialling.offer(peer for peer in known if not is_plain(peer))
        if self._plain_dialling is not None and self._plain is not None:
            others = [peer for peer in known if is_plain(peer) and not self._plain.is_own(*address_of(peer))]
            self._plain_dialling.offer(others)

    def set_priorities(self, priorities: Priorities) -> None:
        """Fetch by these from now on."""
        self._inbox_send.send_nowait(events.SetPriorities(priorities))

    def lost(self, pieces: Iterable[int]) -> None:
        """Pieces that were found damaged on disk: they are fetched again."""
        for piece in pieces:
            self._inbox_send.send_nowait(events.PieceLost(piece))

    def retry(self) -> None:
        """Somebody waits for the data: forget back-offs, and try the disk again after an error."""
        for dialling in self._diallings():
            dialling.retry()
        self._inbox_send.send_nowait(events.Resumed())

    # -- the owner of the machine --------------------------------------------------------------------

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Own the machine until cancelled; every stream of it ends with it."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for dialling in self._diallings():
                nursery.start_soon(dialling.run)
            task_status.started()
            try:
                await self._own()
            finally:
                self._nursery = None
                for link in self._open_links:
                    link.end()
                self._links.clear()
                self._machine.close()
                nursery.cancel_scope.cancel()

    async def _own(self) -> None:
        while True:
            deadline = self._machine.deadline()
            with trio.move_on_at(math.inf if deadline is None else deadline) as scope:
                item = await self._inbox.receive()
            if scope.cancelled_caught:
                self._carry_out(self._machine.tick(trio.current_time()))
                continue
            self._handle(item)
            for _ in range(min(_AT_ONCE, self._inbox.statistics().current_buffer_used)):
                self._handle(self._inbox.receive_nowait())

    def _handle(self, item: _Item) -> None:
        match item:
            case _Opened(link, handshake):
                self._admit(link, handshake)
            case _Ended(link):
                if self._links.get(link.peer) is link:
                    self._forget(link)
            case _FromLink(link, event):
                if isinstance(event, events.BytesReceived):
                    self._room.release()
                if self._links.get(link.peer) is link and self._is_to_stay(link):
                    self._feed(event)
            case events.PieceVerified(index):
                self._feed(item)
                self._watcher.piece_kept(index)
            case _:
                self._feed(item)

    def _feed(self, event: events.Event) -> None:
        self._carry_out(self._machine.receive(event, trio.current_time()))

    def _admit(self, link: Link, handshake: bytes) -> None:
        """Make a new stream the peer's link, unless another one is to be kept."""
        old = self._links.get(link.peer)
        full = old is None and len(self._links) >= MAX_LINKS
        crowded = is_plain(link.peer) and len(self.linked(plain=True)) >= MAX_PLAIN
        if full or crowded or not self.admits(link.peer):
            link.end()
            return
        if old is not None:
            # Of two that crossed, both sides keep the one opened by the smaller id. Of two in one direction
            # the newer one stands: the peer lost the older one before we noticed.
            if old.dialled != link.dialled and not self._is_preferred(link):
                link.end()
                return
            self._forget(old)
        self._links[link.peer] = link
        self._feed(events.PeerConnected(link.peer, ipv4_of(link.peer)))
        if handshake and self._links.get(link.peer) is link:
            link.greeted(handshake)
            if self._is_to_stay(link):
                self._feed(events.BytesReceived(link.peer, handshake))

    def _is_preferred(self, link: Link) -> bool:
        return link.dialled == (self._host.peer_id < link.peer)

    def _is_to_stay(self, link: Link) -> bool:
        """Once a handshake has come: end one of two links with the same client, and a link with ourselves."""
        if link.known or not link.remote_id:
            return True
        link.known = True
        if link.remote_id == self.peer_id:
            self._met_ourselves(link)
        for other in list(self._links.values()):
            worse = worse_of(link, other, self.peer_id, self._ip_of)
            if worse is not None:
                self._forget(worse)
        return self._links.get(link.peer) is link

    def _met_ourselves(self, link: Link) -> None:
        """An address turned out to be our own: it is not dialled again."""
        if self._plain is not None and self._plain_dialling is not None:
            own = link.peer if link.dialled else self._plain.dialled_from(link.peer)
            if own is not None:
                self._plain_dialling.ban(own)

    def _ip_of(self, peer: str) -> str | None:
        return address_of(peer)[0] if is_plain(peer) else self._host.remote_ip(peer)

    def _forget(self, link: Link) -> None:
        del self._links[link.peer]
        link.end()
        self._feed(events.PeerDisconnected(link.peer))

    def _carry_out(self, effects: list[events.Effect]) -> None:
        for effect in effects:
            match effect:
                case events.Send(peer, data):
                    link = self._links.get(peer)
                    if link is not None:
                        link.send(data)
                case events.ReadBlock():
                    if self._disk.ask(effect):
                        self._start(self._disk.read)
                case events.VerifyAndWrite():
                    if self._disk.put(effect):
                        self._start(self._disk.write)
                case events.Disconnect(peer, reason, banned):
                    self._disconnect(peer, reason, banned)
                case events.Credit(peer, count):
                    if not is_plain(peer):
                        self._host.standing.useful(peer, count)
                case events.Completed():
                    self._watcher.completed()
                case events.Halted():
                    self._start(self._resume_later)

    def _start(self, function: Callable[..., Any], *arguments: Any) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(function, *arguments)

    def _disconnect(self, peer: str, reason: str, banned: bool) -> None:
        log.log(logging.WARNING if banned else logging.DEBUG, "%s leaves the swarm: %s", peer, reason)
        if banned:
            self._ban(peer, reason)
        link = self._links.pop(peer, None)
        if link is not None:
            link.end()

    def _ban(self, peer: str, reason: str) -> None:
        if not is_plain(peer):
            if self._dialling.ban(peer):  # or it was told of before, and only comes again
                self._host.report(peer, Deed.LIED, reason)
        elif self._plain is not None and self._plain_dialling is not None:
            self._plain_dialling.ban(peer)
            self._plain.lied(peer, reason)

    async def _resume_later(self) -> None:
        await trio.sleep(RETRY_DISK_S)
        self._inbox_send.send_nowait(events.Resumed())

    # -- streams -------------------------------------------------------------------------------------

    async def accept(self, stream: PieceStream, handshake: bytes) -> None:
        """Serve a stream that a peer opened, until its end."""
        if self._nursery is not None:
            await self._serve(Link(stream, False, self._from_link, self._room), handshake)

    def _from_link(self, link: Link, event: events.Event) -> None:
        self._inbox_send.send_nowait(_FromLink(link, event))

    async def _serve(self, link: Link, handshake: bytes) -> None:
        self._inbox_send.send_nowait(_Opened(link, handshake))
        self._open_links.add(link)
        try:
            await link.run()
        finally:
            self._open_links.discard(link)
            self._inbox_send.send_nowait(_Ended(link))

    # -- dialling ------------------------------------------------------------------------------------

    def _diallings(self) -> list[Dialling]:
        return [self._dialling, *([] if self._plain_dialling is None else [self._plain_dialling])]

    def wants_peers(self) -> bool:
        """Whether pieces are missing."""
        return not self._machine.complete

    def linked(self, plain: bool) -> frozenset[str]:
        """Peers of a kind that have a link."""
        return frozenset(peer for peer in self._links if is_plain(peer) == plain)

    async def _open(self, peer: str) -> PieceStream:
        return await self._host.open(peer, PROTOCOL)

    async def serve_dialled(self, stream: PieceStream) -> bool:
        """Run a stream that was opened here to its end; whether the peer was of use."""
        link = Link(stream, True, self._from_link, self._room)
        try:
            await self._serve(link, b"")
        finally:
            if isinstance(stream, PlainStream) and self._plain is not None:
                self._plain.release(stream)
        return link.received > _USEFUL_BYTES or link.peer in self._links
