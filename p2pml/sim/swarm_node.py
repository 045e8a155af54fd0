"""One peer of a swarm on virtual time: the unchanged `torrent.swarm`, a disk in memory, every link a stream.

Byzantine peers are strategies around an honest machine: they change what it sends, so they obey the protocol except where
they mean to break it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence

from p2pml.sim.world import Send
from torrent.events import (
    BlockRead,
    BytesReceived,
    BytesSent,
    Disconnect,
    Effect,
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

DATA, CLOSE = b"D", b"X"

Tamper = Callable[[bytes], bytes]
"""Changes an outgoing block."""


def poison(data: bytes) -> bytes:
    """Flip the first byte of every block: the piece will not verify."""
    return bytes([data[0] ^ 0xFF]) + data[1:]


class SwarmNode:
    """A seed, a leecher or a liar.

    Args:
        metainfo: the torrent.
        content: its bytes for a seed; None for a leecher.
        neighbours: whom it is connected to from the start.
        rng: of its machine.
        tamper: what it does to the blocks that it sends.
    """

    def __init__(
        self,
        metainfo: Metainfo,
        content: bytes | None,
        neighbours: Sequence[str],
        rng: random.Random,
        tamper: Tamper | None = None,
    ) -> None:
        self.metainfo = metainfo
        self.disk: dict[int, bytes] = {}
        if content is not None:
            size = metainfo.piece_length
            self.disk = {i: content[i * size : (i + 1) * size] for i in range(metainfo.piece_count)}
        self.neighbours = tuple(neighbours)
        self.refused: dict[str, str] = {}
        self.done_at: float | None = 0.0 if content is not None else None
        self._rng = rng
        self._tamper = tamper
        self._open: set[str] = set()
        self.swarm = self._machine()

    def start(self, now: float) -> list[Send]:
        """Begin, or begin again with the verified pieces that the disk kept."""
        self.swarm, self._open = self._machine(), set()
        sends: list[Send] = []
        for peer in self.neighbours:
            sends.append(Send(peer, CLOSE))  # a connection of an earlier life is over
            sends += self._join(peer, now)
        return sends

    def receive(self, source: str, payload: bytes, now: float) -> list[Send]:
        """Bytes of a stream, or its end."""
        if payload[:1] == CLOSE:
            self._open.discard(source)
            return self._feed(PeerDisconnected(source), now)
        sends = [] if source in self._open else self._join(source, now)
        return sends + self._feed(BytesReceived(source, payload[1:]), now)

    def tick(self, now: float) -> list[Send]:
        """The machine's deadline."""
        return self._carry_out(self.swarm.tick(now), now)

    def deadline(self) -> float | None:
        """The machine's deadline."""
        return self.swarm.deadline()

    def digest(self) -> bytes:
        """Which pieces are on its disk."""
        return hashlib.sha256(repr(sorted(self.disk)).encode()).digest()

    @property
    def complete(self) -> bool:
        """Whether it has everything."""
        return len(self.disk) == self.metainfo.piece_count

    def _machine(self) -> Swarm:
        return Swarm(self.metainfo, set(self.disk), rng=self._rng)

    def _join(self, peer: str, now: float) -> list[Send]:
        if peer in self.refused:
            return []
        self._open.add(peer)
        return self._feed(PeerConnected(peer), now)

    def _feed(self, event: PeerConnected | PeerDisconnected | BytesReceived, now: float) -> list[Send]:
        return self._carry_out(self.swarm.receive(event, now), now)

    def _carry_out(self, effects: Sequence[Effect], now: float) -> list[Send]:
        sends: list[Send] = []
        waiting = list(effects)
        while waiting:
            effect = waiting.pop(0)
            match effect:
                case SendBytes(peer, data):
                    sends.append(Send(peer, DATA + data))
                    waiting += self.swarm.receive(BytesSent(peer, len(data)), now)
                case ReadBlock(peer, index, begin, length):
                    block = self.disk[index][begin : begin + length]
                    block = self._tamper(block) if self._tamper else block
                    waiting += self.swarm.receive(BlockRead(peer, index, begin, block), now)
                case VerifyAndWrite(index, data):
                    waiting += self._keep(index, bytes(data), now)
                case Disconnect(peer, reason, banned):
                    self._open.discard(peer)
                    sends.append(Send(peer, CLOSE))
                    if banned:
                        self.refused[peer] = reason
                case _:
                    pass
        return sends

    def _keep(self, index: int, data: bytes, now: float) -> list[Effect]:
        if not self.metainfo.verify_piece(index, data):
            return self.swarm.receive(PieceFailed(index), now)
        self.disk[index] = data
        if self.complete and self.done_at is None:
            self.done_at = now
        return self.swarm.receive(PieceVerified(index), now)
