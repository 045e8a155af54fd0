"""Which block to ask which peer for (Cohen, "Incentives Build Robustness in BitTorrent", 2003).

Started pieces first; then a new one: random for the first four, rarest first after that; when every
block is asked for, the endgame asks a second peer for what a first one has not sent yet.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from torrent.availability import Availability, random_bit
from torrent.bitfield import indexes
from torrent.config import SwarmConfig
from torrent.geometry import Block, Geometry
from torrent.partial import Partial


@dataclass(frozen=True, slots=True)
class Accepted:
    """A block that was needed. ``others`` were asked for it too; ``complete`` is the piece, if this
    ended it.
    """

    others: frozenset[str]
    complete: Partial | None


class Picker:
    """Owns what is present, wanted, started and being verified; knows what every peer has.

    Masks have bit ``i`` for piece ``i``. Every index and block that comes from a peer must have been
    checked against the geometry before.
    """

    def __init__(
        self, geometry: Geometry, have: int, wanted: int, config: SwarmConfig, rng: random.Random
    ) -> None:
        self._geometry = geometry
        self._config = config
        self._rng = rng
        self._peers: dict[str, int] = {}
        self._suspect: set[int] = set()
        self._open: dict[int, Partial] = {}
        self._asked: dict[int, Partial] = {}
        self._verifying: dict[int, Partial] = {}
        self._started = 0
        self.availability = Availability(geometry.piece_count)
        self.have = have
        self.wanted = wanted
        self.held_bytes = 0
        """Memory held by pieces that are not yet verified."""

    # --- what peers have

    def join(self, peer: str) -> None:
        self._peers[peer] = 0

    def learn(self, peer: str, mask: int) -> None:
        """``peer`` has these pieces (besides those already known)."""
        new = mask & ~self._peers[peer]
        self._peers[peer] |= new
        self.availability.add(new)

    def leave(self, peer: str) -> None:
        self.part(peer)
        self.availability.remove(self._peers.pop(peer))

    def pieces_of(self, peer: str) -> int:
        return self._peers[peer]

    @property
    def missing(self) -> int:
        """Mask of the wanted pieces that are not present."""
        return self.wanted & ~self.have

    def interesting(self, peer: str) -> bool:
        """Whether ``peer`` has a wanted piece that is not present."""
        return bool(self._peers[peer] & self.missing)

    # --- asking

    def pick(self, peer: str, room: int, within: int = -1) -> list[Block]:
        """Up to ``room`` blocks, of the pieces in the mask ``within``, that nobody is asked for and that
        ``peer`` has; they count as asked of it.
        """
        blocks: list[Block] = []
        mask = self._peers[peer] & within
        for piece in list(self._open.values()):
            if len(blocks) >= room:
                return blocks
            if mask >> piece.index & 1 and piece.allows(peer):
                self._take(piece, peer, room, blocks)
        while len(blocks) < room:
            index = self._choose(mask)
            if index is None:
                break
            self._take(self._start(index, peer), peer, room, blocks)
        return blocks

    def pick_again(self, peer: str, room: int, within: int = -1) -> list[Block]:
        """In the endgame, up to ``room`` blocks that other peers are asked for already."""
        blocks: list[Block] = []
        if room <= 0 or not self.endgame:
            return blocks
        mask = self._peers[peer] & within
        pieces = [p for p in self._asked.values() if mask >> p.index & 1 and p.allows(peer)]
        self._rng.shuffle(pieces)
        for piece in pieces:
            for block in piece.take_again(peer, self._config.endgame_copies):
                blocks.append(block)
                if len(blocks) >= room:
                    return blocks
        return blocks

    @property
    def endgame(self) -> bool:
        """Every wanted block that some connected peer has is here or asked for."""
        nowhere = self.availability.nowhere
        if self._unstarted & ~nowhere:
            return False
        # what one peer alone may give keeps nobody else busy
        return all(piece.solo is not None or nowhere >> piece.index & 1 for piece in self._open.values())

    @property
    def _unstarted(self) -> int:
        return self.missing & ~self._started

    def _choose(self, mask: int) -> int | None:
        candidates = mask & self._unstarted
        if not candidates or (self.held_bytes and self.held_bytes >= self._config.piece_buffer):
            return None
        if self.have.bit_count() < self._config.random_first:
            return random_bit(candidates, self._rng)
        return self.availability.rarest(candidates, self._rng)

    def _start(self, index: int, peer: str) -> Partial:
        size = self._geometry.piece_size(index)
        piece = Partial(index, size, solo=peer if index in self._suspect else None)
        self._open[index] = piece
        self._started |= 1 << index
        self.held_bytes += size
        return piece

    def _take(self, piece: Partial, peer: str, room: int, blocks: list[Block]) -> None:
        while len(blocks) < room and (block := piece.take(peer)) is not None:
            blocks.append(block)
        self._file(piece)

    def _file(self, piece: Partial) -> None:
        """Keep the piece among those with blocks to ask for, or among those without."""
        here, there = (self._open, self._asked) if piece.unasked else (self._asked, self._open)
        there.pop(piece.index, None)
        here.setdefault(piece.index, piece)

    # --- what comes of it

    def accept(self, peer: str, block: Block, data: bytes) -> Accepted | None:
        """A block has arrived; ``None`` when it is not needed (any more)."""
        piece = self._open.get(block.piece) or self._asked.get(block.piece)
        others = None if piece is None else piece.accept(peer, block, data)
        if piece is None or others is None:
            return None
        if piece.left:
            self._file(piece)
            return Accepted(frozenset(others), None)
        self._open.pop(piece.index, None)
        self._asked.pop(piece.index, None)
        self._verifying[piece.index] = piece
        return Accepted(frozenset(others), piece)

    def release(self, peer: str, block: Block) -> None:
        """``peer`` will not send a block that it was asked for."""
        piece = self._open.get(block.piece) or self._asked.get(block.piece)
        if piece is None:
            return
        if piece.solo == peer:
            self._drop(piece)
            return
        piece.release(peer, block.begin)
        self._file(piece)

    def part(self, peer: str) -> None:
        """``peer`` gives nothing at present: what it alone may give starts anew with somebody else."""
        for piece in [*self._open.values(), *self._asked.values()]:
            if piece.solo == peer:
                self._drop(piece)

    def verified(self, index: int) -> Partial | None:
        """The piece is present. Returns what it was made of, ``None`` when it did not come through here."""
        piece = self._drop_index(index)
        self.have |= 1 << index
        self._suspect.discard(index)
        return piece

    def failed(self, index: int) -> Partial | None:
        """A complete piece was false: it starts anew, from one peer only. ``None`` when none is being
        verified.
        """
        if index not in self._verifying:
            return None
        self._suspect.add(index)
        return self._drop_index(index)

    def unstored(self, index: int) -> None:
        """A complete piece was right but could not be kept: it starts anew."""
        if index in self._verifying:
            self._drop_index(index)

    def lost(self, index: int) -> None:
        self.have &= ~(1 << index)

    def set_wanted(self, wanted: int) -> set[int]:
        """Change what is wanted. Returns the started pieces that are not wanted any more, now dropped."""
        self.wanted = wanted
        dropped = {index for index in indexes(self._started & ~wanted) if index not in self._verifying}
        for index in dropped:
            self._drop_index(index)
        return dropped

    def _drop_index(self, index: int) -> Partial | None:
        for where in (self._open, self._asked, self._verifying):
            if (piece := where.get(index)) is not None:
                self._drop(piece)
                return piece
        return None

    def _drop(self, piece: Partial) -> None:
        for where in (self._open, self._asked, self._verifying):
            where.pop(piece.index, None)
        self._started &= ~(1 << piece.index)
        self.held_bytes -= piece.size
