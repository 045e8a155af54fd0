"""The pump of one torrent's swarm: libp2p streams below, the pure `torrent.swarm` machine above.

Protocol `/p2pml/bt/1.0.0`: one bidirectional stream per (peer, info-hash) that carries BEP 3 from the
handshake on; the peer is who the connection proved it to be. One task owns the machine: streams, disk and
timers reach it through one inbox, and what it decides goes out through one outbox per peer.

Two peers may dial each other at once: the stream that the smaller peer id opened is kept. A private torrent
speaks only to the peers on its list; for all others it does not exist.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import trio

from p2pml.errors import UserError
from p2pml.net.dialer import Dialer
from p2pml.net.errors import RemoteError
from p2pml.net.host import Host
from p2pml.net.piece_link import Link
from p2pml.net.piece_ports import Disk, Machine, Watcher
from p2pml.net.scores import Deed
from p2pml.net.streams import Stream
from torrent import events
from torrent.priorities import Priorities

log = logging.getLogger(__name__)

PROTOCOL = "/p2pml/bt/1.0.0"
MAX_LINKS = 60
MAX_DIALLED = 30
RETRY_DISK_S = 30.0
_LOOK_S = 5.0
_READS_AT_ONCE = 8
_BATCH_BYTES = 16 * 1024 * 1024
_UNREAD_CHUNKS = 32
"""Chunks that wait for the machine; more are left with the streams."""
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
    """

    def __init__(
        self,
        host: Host,
        info_hash: bytes,
        machine: Machine,
        disk: Disk,
        watcher: Watcher,
        allowed: frozenset[str] | None = None,
    ) -> None:
        self.info_hash = info_hash
        self._host = host
        self._machine = machine
        self._disk = disk
        self._watcher = watcher
        self._allowed = allowed
        self._dialer = Dialer()
        self._links: dict[str, Link] = {}
        self._open_links: set[Link] = set()
        self._dialling: set[str] = set()
        self._inbox_send, self._inbox = trio.open_memory_channel[_Item](math.inf)
        self._room = trio.Semaphore(_UNREAD_CHUNKS)
        self._reads = trio.CapacityLimiter(_READS_AT_ONCE)
        self._unwritten: deque[events.VerifyAndWrite] = deque()
        self._writing = False
        self._dial_now = trio.Event()
        self._nursery: trio.Nursery | None = None

    # -- asking and telling --------------------------------------------------------------------------

    def stats(self) -> events.SwarmStats:
        """The machine's counters at this moment."""
        return self._machine.stats(trio.current_time())

    def connected(self) -> tuple[str, ...]:
        """Peers with a stream of this swarm."""
        return tuple(self._links)

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
        """Peers that may hold pieces: they are dialled while pieces are missing."""
        new = [self._dialer.add(peer) for peer in peers if peer != self._host.peer_id and self.admits(peer)]
        if any(new):
            self._dial_now.set()

    def set_priorities(self, priorities: Priorities) -> None:
        """Fetch by these from now on."""
        self._inbox_send.send_nowait(events.SetPriorities(priorities))

    def lost(self, pieces: Iterable[int]) -> None:
        """Pieces that were found damaged on disk: they are fetched again."""
        for piece in pieces:
            self._inbox_send.send_nowait(events.PieceLost(piece))

    def retry(self) -> None:
        """Somebody waits for the data: forget back-offs, and try the disk again after an error."""
        self._dialer.retry_now()
        self._dial_now.set()
        self._inbox_send.send_nowait(events.Resumed())

    # -- the owner of the machine --------------------------------------------------------------------

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Own the machine until cancelled; every stream of it ends with it."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._keep_dialling)
            task_status.started()
            try:
                await self._own()
            finally:
                self._nursery = None
                for link in self._open_links:
                    link.end()
                self._links.clear()
                nursery.cancel_scope.cancel()

    async def _own(self) -> None:
        while True:
            deadline = self._machine.deadline()
            with trio.move_on_at(math.inf if deadline is None else deadline) as scope:
                item = await self._inbox.receive()
            if scope.cancelled_caught:
                self._carry_out(self._machine.tick(trio.current_time()))
            else:
                self._handle(item)

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
                if self._links.get(link.peer) is link:
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
        if full or not self.admits(link.peer):
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
        self._feed(events.PeerConnected(link.peer))
        if handshake and self._links.get(link.peer) is link:
            self._feed(events.BytesReceived(link.peer, handshake))

    def _is_preferred(self, link: Link) -> bool:
        return link.dialled == (self._host.peer_id < link.peer)

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
                    self._start(self._read, effect)
                case events.VerifyAndWrite():
                    self._unwritten.append(effect)
                    if len(self._unwritten) == 1 and not self._writing:
                        self._start(self._write)
                case events.Disconnect(peer, reason, banned):
                    self._disconnect(peer, reason, banned)
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
            if not self._dialer.is_banned(peer):  # or it was told of before, and only comes again
                self._host.report(peer, Deed.LIED, reason)
            self._dialer.ban(peer)
        link = self._links.pop(peer, None)
        if link is not None:
            link.end()

    # -- disk ----------------------------------------------------------------------------------------

    async def _read(self, block: events.ReadBlock) -> None:
        result: events.Event
        try:
            async with self._reads:
                data = await self._disk.read(block.index, block.begin, block.length)
            result = events.BlockRead(block.peer, block.index, block.begin, data)
        except UserError as error:
            self._watcher.local_problem(error)
            result = events.BlockReadFailed(block.peer, block.index, block.begin, block.length)
        self._inbox_send.send_nowait(result)

    async def _write(self) -> None:
        """Write what waits, as much as comes together: a sync costs the same for one piece as for many."""
        self._writing = True
        while self._unwritten:
            batch = [self._unwritten.popleft()]
            while self._unwritten and sum(len(piece.data) for piece in batch) < _BATCH_BYTES:
                batch.append(self._unwritten.popleft())
            for result in await self._write_batch(batch):
                self._inbox_send.send_nowait(result)
        self._writing = False

    async def _write_batch(self, batch: list[events.VerifyAndWrite]) -> list[events.Event]:
        try:
            verdicts = await self._disk.write([(piece.index, piece.data) for piece in batch])
        except UserError as error:
            self._watcher.local_problem(error)
            return [events.WriteFailed(piece.index, error.cause) for piece in batch]
        return [
            events.PieceVerified(piece.index) if right else events.PieceFailed(piece.index)
            for piece, right in zip(batch, verdicts, strict=True)
        ]

    async def _resume_later(self) -> None:
        await trio.sleep(RETRY_DISK_S)
        self._inbox_send.send_nowait(events.Resumed())

    # -- streams -------------------------------------------------------------------------------------

    async def accept(self, stream: Stream, handshake: bytes) -> None:
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
            self._host.standing.useful(link.peer, link.received)
            self._inbox_send.send_nowait(_Ended(link))

    # -- dialling ------------------------------------------------------------------------------------

    async def _keep_dialling(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                self._dial_now = trio.Event()
                now = trio.current_time()
                busy = frozenset(self._links) | self._dialling
                if not self._machine.complete:
                    for peer in self._dialer.ready(now, busy, MAX_DIALLED - len(busy)):
                        self._dialling.add(peer)
                        nursery.start_soon(self._dial, peer)
                upcoming = self._dialer.next_time(busy | self._dialling)
                wait = _LOOK_S if upcoming is None else min(max(upcoming - now, 0.05), _LOOK_S)
                with trio.move_on_after(wait):
                    await self._dial_now.wait()

    async def _dial(self, peer: str) -> None:
        try:
            stream = await self._host.open(peer, PROTOCOL)
        except RemoteError as error:
            log.debug("no piece stream: %s", error)
            self._dialer.failed(peer, trio.current_time())
            return
        finally:
            self._dialling.discard(peer)
        link = Link(stream, True, self._from_link, self._room)
        await self._serve(link, b"")
        if link.received > _USEFUL_BYTES or peer in self._links:
            self._dialer.worked(peer, trio.current_time())
        else:
            self._dialer.failed(peer, trio.current_time())
