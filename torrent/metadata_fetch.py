"""Fetching the info dictionary of an info-hash from peers (BEP 9): what a magnet link needs before a swarm.

The same kind of machine as ``torrent.swarm``. One peer at a time gives all of it, so that the one who lied is
known when the hash is wrong; at most one dictionary is in memory.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field

from torrent.config import SwarmConfig
from torrent.errors import LocalError, ProtocolError
from torrent.events import BytesReceived, Disconnect, PeerConnected, PeerDisconnected, Send
from torrent.extended import HANDSHAKE, NUMBERS, UT_METADATA, Terms
from torrent.geometry import BLOCK
from torrent.messages import Decoder, Extended, Handshake, Message, reserved_bytes
from torrent.metadata import REJECT, REQUEST, MetadataMessage
from torrent.metainfo import MAX_METAINFO_BYTES

WINDOW = 8
"""Parts asked for at once."""
MAX_PEERS = 30


@dataclass(frozen=True, slots=True)
class MetadataFound:
    """``info``: the raw info dictionary, whose SHA-1 is the info-hash; nothing else of it is checked."""

    info: bytes

    def metainfo(self) -> bytes:
        """A metainfo file of it, for ``Metainfo.parse``: without trackers, and without BEP 52's piece layers,
        which are not part of the info dictionary.
        """
        return b"d4:info" + self.info + b"e"


@dataclass(slots=True)
class _Source:
    """A peer: what it said, and what it was asked for."""

    since: float
    decoder: Decoder = field(default_factory=Decoder)
    terms: Terms = field(default_factory=Terms)
    size: int = 0
    parts: dict[int, bytes] = field(default_factory=dict)
    asked: set[int] = field(default_factory=set)

    @property
    def count(self) -> int:
        return -(-self.size // BLOCK)


Event = PeerConnected | PeerDisconnected | BytesReceived
Effect = Send | Disconnect | MetadataFound


class MetadataFetch:
    """Feed it events of connections, carry out its effects, call ``tick`` at ``deadline()``; it is over with
    ``MetadataFound``. Nothing that a peer sends makes it raise.
    """

    def __init__(
        self, info_hash: bytes, *, rng: random.Random, client: bytes, config: SwarmConfig | None = None
    ) -> None:
        """``client``: the first bytes of the peer id (BEP 20)."""
        self._info_hash = info_hash
        self._peer_id = client + rng.randbytes(20 - len(client))
        self._config = SwarmConfig() if config is None else config
        self._sources: dict[str, _Source] = {}
        self._active: str | None = None
        self._effects: list[Effect] = []
        self.found: bytes | None = None

    @property
    def peers(self) -> tuple[str, ...]:
        return tuple(self._sources)

    def receive(self, event: Event, now: float) -> list[Effect]:
        match event:
            case PeerConnected(peer):
                self._connected(peer, now)
            case PeerDisconnected(peer):
                self._forget(peer, now)
            case BytesReceived(peer, data) if peer in self._sources:
                self._received(peer, data, now)
            case _:
                pass
        return self._take()

    def tick(self, now: float) -> list[Effect]:
        """Give up peers that answer nothing; harmless when called early."""
        for peer, source in list(self._sources.items()):
            if now - source.since >= self._config.request_timeout and self._owes(peer):
                self._drop(peer, "gave no metadata", now)
        return self._take()

    def deadline(self) -> float | None:
        """When a peer will have taken too long."""
        due = [source.since for peer, source in self._sources.items() if self._owes(peer)]
        return min(due) + self._config.request_timeout if due else None

    def _owes(self, peer: str) -> bool:
        """It has not said what it has, or is asked; one that waits for its turn owes nothing."""
        return peer == self._active or not self._sources[peer].size

    def _take(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects

    # --- connections

    def _connected(self, peer: str, now: float) -> None:
        if peer in self._sources:
            raise LocalError(f"{peer} is connected already")
        if self.found is not None or len(self._sources) >= MAX_PEERS:
            self._effects.append(Disconnect(peer, "not needed"))
            return
        self._sources[peer] = _Source(now)
        reserved = reserved_bytes(fast=False, extended=True)
        self._say(peer, Handshake(self._info_hash, self._peer_id, reserved).encode())

    def _forget(self, peer: str, now: float) -> None:
        self._sources.pop(peer, None)
        if self._active == peer:
            self._active = None
            self._choose(now)

    def _drop(self, peer: str, reason: str, now: float, *, banned: bool = False) -> None:
        self._effects.append(Disconnect(peer, reason, banned))
        self._forget(peer, now)

    def _say(self, peer: str, data: bytes) -> None:
        self._effects.append(Send(peer, data))

    # --- messages

    def _received(self, peer: str, data: bytes, now: float) -> None:
        source = self._sources[peer]
        try:
            for message in source.decoder.feed(data):
                self._message(peer, source, message, now)
                if self._sources.get(peer) is not source:
                    return
        except ProtocolError as error:
            self._drop(peer, str(error), now)

    def _message(self, peer: str, source: _Source, message: Message, now: float) -> None:
        match message:
            case Handshake():
                self._greeted(peer, message, now)
            case Extended(number, payload) if number == HANDSHAKE:
                self._hear_terms(peer, source, payload, now)
            case Extended(number, payload) if number == NUMBERS[UT_METADATA]:
                if (part := MetadataMessage.decode(payload)) is not None:
                    self._part(peer, source, part, now)
            case _:
                pass  # what it has and whom it chokes is the swarm's business, later

    def _greeted(self, peer: str, hello: Handshake, now: float) -> None:
        if hello.info_hash != self._info_hash or hello.peer_id == self._peer_id:
            raise ProtocolError("handshake for another torrent, or of ourselves")
        if not hello.extended:
            self._drop(peer, "speaks no extensions", now)
            return
        terms = Terms({UT_METADATA: NUMBERS[UT_METADATA]})
        self._say(peer, Extended(HANDSHAKE, terms.encode()).encode())

    def _hear_terms(self, peer: str, source: _Source, payload: bytes, now: float) -> None:
        source.terms = terms = source.terms.updated(payload)
        if source.size:
            return  # the size on which its parts were asked for stands
        if UT_METADATA not in terms.ids or not terms.metadata_size:
            self._drop(peer, "has no metadata", now)
        elif terms.metadata_size > MAX_METAINFO_BYTES:
            self._drop(peer, f"metadata of {terms.metadata_size} bytes", now)
        else:
            source.size = terms.metadata_size
            self._choose(now)

    def _part(self, peer: str, source: _Source, part: MetadataMessage, now: float) -> None:
        if part.kind == REQUEST:
            number = source.terms.ids.get(UT_METADATA)
            if number is not None:
                answer = MetadataMessage(REJECT, part.piece).encode()
                self._say(peer, Extended(number, answer).encode())
            return
        if part.piece not in source.asked:
            raise ProtocolError("sends metadata that was not asked for")
        source.asked.discard(part.piece)
        if part.kind == REJECT:
            self._drop(peer, "gave no metadata", now)
            return
        if len(part.data) != min(BLOCK, source.size - part.piece * BLOCK):
            raise ProtocolError(f"metadata part of {len(part.data)} bytes")
        source.parts[part.piece] = part.data
        source.since = now
        if len(source.parts) == source.count:
            self._judge(peer, source, now)
        else:
            self._ask(peer, source)

    # --- asking

    def _choose(self, now: float) -> None:
        """When nobody is asked, ask the next one who has it."""
        if self._active is not None or self.found is not None:
            return
        for peer, source in self._sources.items():
            if source.size:
                self._active = peer
                source.since = now
                self._ask(peer, source)
                return

    def _ask(self, peer: str, source: _Source) -> None:
        number = source.terms.ids.get(UT_METADATA)
        for piece in range(len(source.parts) + len(source.asked), source.count):
            if number is None or len(source.asked) >= WINDOW:
                return
            source.asked.add(piece)
            self._say(peer, Extended(number, MetadataMessage(REQUEST, piece).encode()).encode())

    def _judge(self, peer: str, source: _Source, now: float) -> None:
        info = b"".join(source.parts[piece] for piece in range(source.count))
        if hashlib.sha1(info, usedforsecurity=False).digest() != self._info_hash:
            self._drop(peer, "sent false metadata", now, banned=True)
            return
        self.found = info
        self._effects.append(MetadataFound(info))
        for other in list(self._sources):
            self._drop(other, "metadata is complete", now)
