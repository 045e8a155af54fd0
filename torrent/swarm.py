"""One torrent's swarm: joins peers, picker and choker to one machine without clock or IO.

Feed events, carry out effects (both in ``torrent.events``, whose docstring is the pump's recipe), arm
one timer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

from torrent.bitfield import Bitfield
from torrent.budget import Budget
from torrent.choker import Choker
from torrent.config import SwarmConfig
from torrent.dispatch import Dispatch
from torrent.download import Downloader
from torrent.errors import LocalError, ProtocolError
from torrent.events import (
    BlockRead,
    BlockReadFailed,
    BytesReceived,
    BytesSent,
    Completed,
    Disconnect,
    Effect,
    Event,
    Halted,
    PeerConnected,
    PeerDisconnected,
    PeerStats,
    PieceFailed,
    PieceLost,
    PieceVerified,
    ReadBlock,
    Resumed,
    Send,
    SetPriorities,
    SetWanted,
    SwarmStats,
    VerifyAndWrite,
    WriteFailed,
)
from torrent.extended import Terms
from torrent.fast import Grants
from torrent.geometry import Block
from torrent.messages import Handshake
from torrent.metadata import MetadataServer
from torrent.metainfo import Metainfo
from torrent.peer import Session
from torrent.priorities import Priorities
from torrent.stats import swarm_stats
from torrent.upload import Uploader

CLIENT = b"-PM0010-"
"""Start of the peer id (BEP 20)."""
CLIENT_NAME = "p2pml 0.1"
"""What we call ourselves (BEP 10)."""
MAX_BANNED = 10_000


class Swarm:
    """The machine of one torrent.

    ``have``: pieces present at the start. ``wanted``: indexes into ``metainfo.files`` to fetch, ``None``
    for all; ``priorities`` say it more exactly, in its place. ``receive`` and ``tick`` return effects in the
    order in which they are to be carried out; ``deadline`` is the time of the next ``tick``, ``None`` while
    no peer is connected. Nothing that a peer sends makes them raise. ``budget``: memory for pieces on their
    way, shared with other swarms; ``close`` gives back what this one holds, and is its end.
    """

    def __init__(
        self,
        metainfo: Metainfo,
        have: Iterable[int],
        *,
        rng: random.Random,
        wanted: Iterable[int] | None = None,
        priorities: Priorities | None = None,
        config: SwarmConfig | None = None,
        budget: Budget | None = None,
    ) -> None:
        self._metainfo = metainfo
        self._config = config = SwarmConfig() if config is None else config
        self._sessions: dict[str, Session] = {}
        self._banned: dict[str, None] = {}
        self._effects: list[Effect] = []
        self._next_tick: float | None = None
        self._peer_id = CLIENT + rng.randbytes(20 - len(CLIENT))
        self._choker = Choker(config, rng, metainfo.piece_length)
        self._down = Downloader(
            metainfo.geometry,
            Bitfield(metainfo.piece_count, have),
            (Priorities.only(wanted) if priorities is None else priorities).table(metainfo),
            self._sessions,
            config,
            rng,
            self._emit,
            budget,
        )
        grants = Grants(metainfo.info_hash, metainfo.piece_count, config)
        self._up = Uploader(self._present, self._sessions, self._choker, grants, config, self._emit)
        self._metadata = MetadataServer(None if metainfo.private else metainfo.raw_info)
        self._dispatch = Dispatch(self._down, self._up, self._choker, self._metadata, metainfo.piece_count)
        self._said = self._terms()
        self._on_event: dict[type, Callable[[Any, float], None]] = {
            PeerConnected: self._connected,
            PeerDisconnected: self._disconnected,
            BytesReceived: self._received,
            BytesSent: self._sent,
            BlockRead: self._read,
            BlockReadFailed: self._unreadable,
            PieceVerified: self._verified,
            PieceFailed: self._failed,
            WriteFailed: lambda event, now: self._down.unstored(event.index, event.reason),
            PieceLost: self._lost,
            SetWanted: lambda event, now: self._prioritize(Priorities.only(event.files), now),
            SetPriorities: lambda event, now: self._prioritize(event.priorities, now),
            Resumed: lambda event, now: self._down.resume(now),
        }

    # --- the machine

    def receive(self, event: Event, now: float) -> list[Effect]:
        self._on_event[type(event)](event, now)
        return self._finish(now)

    def tick(self, now: float) -> list[Effect]:
        """Time-outs, rates and choke rounds; harmless when called early."""
        if self._next_tick is None or now < self._next_tick:
            return []
        self._next_tick = now + self._config.tick
        for session in list(self._sessions.values()):
            self._look_after(session, now)
        self._down.fill_all(now)
        return self._finish(now)

    def deadline(self) -> float | None:
        return self._next_tick

    def close(self) -> None:
        self._down.picker.close()

    # --- looking in

    @property
    def have(self) -> Bitfield:
        """A copy of the set of pieces that are present."""
        return Bitfield(self._metainfo.piece_count, mask=self._down.picker.have)

    @property
    def complete(self) -> bool:
        """Whether every wanted piece is present."""
        return self._down.complete

    @property
    def peer_id(self) -> bytes:
        """The 20 bytes that this swarm goes by in handshakes."""
        return self._peer_id

    @property
    def peers(self) -> tuple[str, ...]:
        return tuple(self._sessions)

    @property
    def banned(self) -> frozenset[str]:
        """Peers that sent false data."""
        return frozenset(self._banned)

    def stats(self, now: float) -> SwarmStats:
        sessions = self._sessions.values()
        return swarm_stats(sessions, self._down, self._up, self._choker, self._metainfo.piece_count, now)

    # --- connections

    def _connected(self, event: PeerConnected, now: float) -> None:
        peer = event.peer
        if peer in self._sessions:
            raise LocalError(f"{peer} is connected already")
        if peer in self._banned:
            self._emit(Disconnect(peer, "banned: it sent false data", banned=True))
            return
        session = Session(
            peer,
            self._metainfo.info_hash,
            self._peer_id,
            self._metainfo.geometry,
            self._config,
            now,
            event.ipv4,
        )
        self._sessions[peer] = session
        self._down.picker.join(peer)
        self._choker.join(peer, now)
        if self._next_tick is None:
            self._next_tick = now + self._config.tick

    def _disconnected(self, event: PeerDisconnected, now: float) -> None:
        if event.peer in self._sessions:
            self._forget(event.peer, now)

    def _forget(self, peer: str, now: float) -> None:
        session = self._sessions.pop(peer)
        self._choker.leave(peer)
        self._down.leave(session, now)
        if not self._sessions:
            self._next_tick = None

    def _drop(self, peer: str, reason: str, now: float, *, banned: bool = False) -> None:
        self._forget(peer, now)
        self._emit(Disconnect(peer, reason, banned))

    def _ban(self, peers: set[str], now: float) -> None:
        for peer in sorted(peers):
            if len(self._banned) >= MAX_BANNED:
                del self._banned[next(iter(self._banned))]
            self._banned[peer] = None
            if peer in self._sessions:
                self._drop(peer, "sent false data", now, banned=True)

    def _look_after(self, session: Session, now: float) -> None:
        if not session.greeted and now - session.connected >= self._config.handshake_timeout:
            self._drop(session.peer, "no handshake", now)
        elif now - session.heard >= self._config.idle_timeout:
            self._drop(session.peer, "silent", now)
        elif session.unsent > self._config.max_unsent:
            self._drop(session.peer, "does not read", now)
        elif self._both_seeds(session):
            self._drop(session.peer, "both are seeds", now)
        else:
            self._down.tick(session, now)
            self._choker.expect(session.peer, session.am_interested, now)
            if now - session.spoke >= self._config.keepalive:
                session.keep_alive()

    def _both_seeds(self, session: Session) -> bool:
        """Neither needs the other (BEP 21): a link that can serve nobody is in the way of others."""
        if not (session.theirs.upload_only and self._down.complete and self.have.complete):
            return False
        return self._down.picker.pieces_of(session.peer) == self._metainfo.piece_count

    # --- bytes and messages

    def _received(self, event: BytesReceived, now: float) -> None:
        session = self._sessions.get(event.peer)
        if session is None:
            return
        try:
            for message in session.feed(event.data, now):
                if isinstance(message, Handshake):
                    session.open(self.have, self._said)
                self._dispatch.message(session, message, now)
                if self._sessions.get(event.peer) is not session:
                    return
        except ProtocolError as error:
            self._drop(event.peer, str(error), now)

    def _terms(self) -> Terms:
        return Terms(
            self._metadata.numbers,
            metadata_size=self._metadata.size,
            reqq=self._config.max_requests,
            upload_only=self._down.complete,
            client=CLIENT_NAME,
            largest_block=self._config.max_block,
        )

    def _tell_terms(self) -> None:
        """Tell everybody when it changed whether there is anything left to fetch."""
        if (terms := self._terms()) != self._said:
            self._said = terms
            for session in self._sessions.values():
                session.tell(terms)

    def _sent(self, event: BytesSent, now: float) -> None:
        if (session := self._sessions.get(event.peer)) is not None:
            self._up.sent(session, event.count, now)

    # --- the store

    def _read(self, event: BlockRead, now: float) -> None:
        if (session := self._sessions.get(event.peer)) is not None:
            block = Block(event.index, event.begin, len(event.data))
            self._up.read(session, block, event.data, now)

    def _unreadable(self, event: BlockReadFailed, now: float) -> None:
        if (session := self._sessions.get(event.peer)) is not None:
            self._up.unreadable(session, Block(event.index, event.begin, event.length), now)

    def _verified(self, event: PieceVerified, now: float) -> None:
        fresh = not self._present(event.index)
        liars = self._down.verified(event.index, now)
        if fresh:
            for session in self._sessions.values():
                session.have(event.index)
        self._tell_terms()
        self._ban(liars, now)

    def _lost(self, event: PieceLost, now: float) -> None:
        self._down.lost(event.index, now)
        self._tell_terms()

    def _failed(self, event: PieceFailed, now: float) -> None:
        self._ban(self._down.failed(event.index, now), now)

    def _present(self, index: int) -> bool:
        return self._down.picker.has(index)

    def _prioritize(self, priorities: Priorities, now: float) -> None:
        self._down.set_priorities(priorities.table(self._metainfo), now)
        self._tell_terms()

    # --- effects

    def _emit(self, effect: Effect) -> None:
        self._effects.append(effect)

    def _finish(self, now: float) -> list[Effect]:
        due = self._choker.deadline(now)
        if due is not None and due <= now:
            self._up.carry_out(self._choker.tick(now, seeding=self._down.complete))
        for session in self._sessions.values():
            if data := session.flush(now):
                self._emit(Send(session.peer, data))
        effects, self._effects = self._effects, []
        return effects


__all__ = [
    "BlockRead",
    "BlockReadFailed",
    "BytesReceived",
    "BytesSent",
    "Completed",
    "Disconnect",
    "Effect",
    "Event",
    "Halted",
    "PeerConnected",
    "PeerDisconnected",
    "PeerStats",
    "PieceFailed",
    "PieceLost",
    "PieceVerified",
    "ReadBlock",
    "Resumed",
    "Send",
    "SetPriorities",
    "SetWanted",
    "Swarm",
    "SwarmStats",
    "VerifyAndWrite",
    "WriteFailed",
]
