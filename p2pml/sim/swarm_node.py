"""One peer of a swarm on virtual time: the unchanged `torrent.swarm`, a disk in memory, links as streams.

A message of the world is a segment of a connection: kind, connection number, offset in the stream, bytes. As
with TCP, segments of a connection that the receiver does not know are answered by a reset, a gap ends the
connection, and whoever dialled dials again after a while.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from p2pml.sim.swarm_liars import HONEST, Behaviour
from p2pml.sim.world import Send
from torrent.config import SwarmConfig
from torrent.events import (
    BlockRead,
    BytesReceived,
    BytesSent,
    Disconnect,
    Effect,
    Event,
    PeerConnected,
    PeerDisconnected,
    PieceFailed,
    PieceVerified,
    ReadBlock,
    VerifyAndWrite,
)
from torrent.events import Send as SendBytes
from torrent.metainfo import Metainfo
from torrent.swarm import Swarm

OPEN, DATA, CLOSE = b"O", b"D", b"X"
_NUMBER = 8
_HEAD = 1 + 2 * _NUMBER
REDIAL_S = 5.0
BABBLE_S = 1.0


@dataclass(slots=True)
class _Connection:
    number: bytes
    sent: int = 0
    received: int = 0


class SwarmNode:
    """A seed, a leecher or a liar.

    Args:
        metainfo: the torrent.
        content: its bytes for a seed; None for a leecher.
        dials: whom it connects to; others may connect to it.
        rng: of its machine.
        behaviour: how it misbehaves.
        config: of its machine.
        holds: which pieces of `content` it has; None for all.
    """

    def __init__(
        self,
        metainfo: Metainfo,
        content: bytes | None,
        dials: Sequence[str],
        rng: random.Random,
        behaviour: Behaviour = HONEST,
        config: SwarmConfig | None = None,
        holds: Iterable[int] | None = None,
    ) -> None:
        self.metainfo = metainfo
        self.disk: dict[int, bytes] = {}
        if content is not None:
            size = metainfo.piece_length
            held = range(metainfo.piece_count) if holds is None else sorted(holds)
            self.disk = {i: content[i * size : (i + 1) * size] for i in held}
        self._digested, self._digest = -1, b""
        self.dials = tuple(dials)
        self.refused: dict[str, str] = {}
        """Peers that it banned, and why; kept on disk."""
        self.bad_before_ban: dict[str, int] = {}
        """How many pieces had come false when it banned each of them."""
        self.bad_pieces = 0
        """How many pieces came false."""
        self.kept_at: list[float] = []
        """When each piece that it fetched was on its disk, in that order."""
        self.done_at: float | None = 0.0 if self.complete else None
        self._rng = rng
        self._behaviour = behaviour
        config = config or SwarmConfig()
        self._config = config if behaviour.shares else replace(config, upload_slots=0, optimistic_slots=0)
        self._connections: dict[str, _Connection] = {}
        self._redial: dict[str, float] = {}
        self.swarm = self._machine()

    # -- the actor's doors -------------------------------------------------------------------------------

    def start(self, now: float) -> list[Send]:
        """Begin, or begin again with the verified pieces that the disk kept."""
        self.swarm, self._connections, self._redial = self._machine(), {}, {}
        sends: list[Send] = []
        for peer in self.dials:
            sends += self._dial(peer, now)
        return sends

    def receive(self, source: str, payload: bytes, now: float) -> list[Send]:
        """A segment."""
        kind, number, data = payload[:1], payload[1 : 1 + _NUMBER], payload[_HEAD:]
        offset = int.from_bytes(payload[1 + _NUMBER : _HEAD], "big")
        connection = self._connections.get(source)
        if kind == OPEN:
            return self._accept(source, number, now)
        if connection is None or connection.number != number:
            return [] if kind == CLOSE else [_segment(source, CLOSE, number)]
        if kind == CLOSE:
            return self._ended(source, now)
        if offset != connection.received:
            return [_segment(source, CLOSE, number), *self._ended(source, now)]
        connection.received += len(data)
        return self._feed(BytesReceived(source, data), now)

    def tick(self, now: float) -> list[Send]:
        """The machine's deadline, or the time to dial again."""
        sends: list[Send] = []
        for peer in [peer for peer, due in self._redial.items() if due <= now]:
            del self._redial[peer]
            if peer not in self._connections:
                sends += self._dial(peer, now)
        return sends + self._carry_out(self.swarm.tick(now), now)

    def deadline(self) -> float | None:
        """The earliest of both."""
        times = list(self._redial.values())
        machine = self.swarm.deadline()
        return min([*times, machine] if machine is not None else times, default=None)

    def digest(self) -> bytes:
        """Which pieces are on its disk; computed when there are more, for none ever leaves it."""
        if len(self.disk) != self._digested:
            self._digested = len(self.disk)
            self._digest = hashlib.sha256(repr(sorted(self.disk)).encode()).digest()
        return self._digest

    def farewell(self) -> list[Send]:
        """What the kernel sends when the process ends: the end of every connection."""
        return [_segment(peer, CLOSE, c.number) for peer, c in self._connections.items()]

    @property
    def complete(self) -> bool:
        """Whether it has everything."""
        return len(self.disk) == self.metainfo.piece_count

    @property
    def connected(self) -> set[str]:
        """Peers with an open connection."""
        return set(self._connections)

    # -- connections -------------------------------------------------------------------------------------

    def _machine(self) -> Swarm:
        return Swarm(self.metainfo, set(self.disk), rng=self._rng, config=self._config)

    def _dial(self, peer: str, now: float) -> list[Send]:
        if peer in self.refused:
            return []
        connection = _Connection(self._rng.randbytes(_NUMBER))
        self._connections[peer] = connection
        return [_segment(peer, OPEN, connection.number), *self._joined(peer, now)]

    def _accept(self, source: str, number: bytes, now: float) -> list[Send]:
        sends = self._ended(source, now, redial=False) if source in self._connections else []
        if source in self.refused:
            return [*sends, _segment(source, CLOSE, number)]
        self._connections[source] = _Connection(number)
        return sends + self._joined(source, now)

    def _joined(self, peer: str, now: float) -> list[Send]:
        if self._behaviour.babbles:
            return [self._data(peer, self._rng.randbytes(200))]
        return self._feed(PeerConnected(peer), now)

    def _ended(self, peer: str, now: float, *, redial: bool = True) -> list[Send]:
        self._connections.pop(peer, None)
        self._dial_later(peer, now, redial)
        return self._feed(PeerDisconnected(peer), now)

    def _dial_later(self, peer: str, now: float, redial: bool = True) -> None:
        if redial and peer in self.dials and peer not in self.refused:
            self._redial[peer] = now + (BABBLE_S if self._behaviour.babbles else REDIAL_S)

    def _data(self, peer: str, data: bytes) -> Send:
        connection = self._connections[peer]
        segment = _segment(peer, DATA, connection.number, connection.sent, data)
        connection.sent += len(data)
        return segment

    # -- the machine -------------------------------------------------------------------------------------

    def _feed(self, event: Event, now: float) -> list[Send]:
        return [] if self._behaviour.babbles else self._carry_out(self.swarm.receive(event, now), now)

    def _carry_out(self, effects: Sequence[Effect], now: float) -> list[Send]:
        sends: list[Send] = []
        waiting = list(effects)
        while waiting:
            effect = waiting.pop(0)
            match effect:
                case SendBytes(peer, data):
                    if peer in self._connections:
                        sends.append(self._data(peer, data))
                        waiting += self.swarm.receive(BytesSent(peer, len(data)), now)
                case ReadBlock(peer, index, begin, length):
                    if self._behaviour.answers:
                        block = self._behaviour.block(self.disk[index][begin : begin + length])
                        waiting += self.swarm.receive(BlockRead(peer, index, begin, block), now)
                case VerifyAndWrite(index, data):
                    waiting += self._keep(index, bytes(data), now)
                case Disconnect(peer, reason, banned):
                    sends += self._hang_up(peer, reason if banned else None, now)
                case _:
                    pass
        return sends

    def _hang_up(self, peer: str, banned: str | None, now: float) -> list[Send]:
        if banned is not None:
            self.refused[peer] = banned
            self.bad_before_ban[peer] = self.bad_pieces
        connection = self._connections.pop(peer, None)
        self._dial_later(peer, now)
        return [] if connection is None else [_segment(peer, CLOSE, connection.number)]

    def _keep(self, index: int, data: bytes, now: float) -> list[Effect]:
        if not self.metainfo.verify_piece(index, data):
            self.bad_pieces += 1
            return self.swarm.receive(PieceFailed(index), now)
        self.disk[index] = data
        self.kept_at.append(now)
        if self.complete and self.done_at is None:
            self.done_at = now
        return self.swarm.receive(PieceVerified(index), now)


def _segment(to: str, kind: bytes, number: bytes, offset: int = 0, data: bytes = b"") -> Send:
    return Send(to, kind + number + offset.to_bytes(_NUMBER, "big") + data)
