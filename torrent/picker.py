"""Which block to ask which peer for (Cohen, "Incentives Build Robustness in BitTorrent", 2003).

Started pieces first; then a new one of the highest priority: random for the first four, rarest first after
that; when every block is asked for, the endgame asks a second peer for what a first one has not sent yet.

A piece that came false starts anew before all others and from one peer only. Until it has come right, those
who had a part in it are on parole: each gives whole pieces alone, so that none can spoil another shared one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from torrent.bitfield import indexes
from torrent.budget import Budget
from torrent.config import SwarmConfig
from torrent.geometry import Block, Geometry, units
from torrent.partial import Partial
from torrent.pieceset import LOW, SHIFT, PieceSet
from torrent.stock import Stock


@dataclass(frozen=True, slots=True)
class Accepted:
    """What came of blocks that arrived together: how many bytes were ``needed``; which ``others`` were asked
    for which of these blocks too; the piece that is ``complete`` by them.
    """

    needed: int = 0
    others: Sequence[tuple[str, Block]] = ()
    complete: Partial | None = None


_UNNEEDED = Accepted()


class Picker:
    """Owns what is present, wanted, started and being verified; knows what every peer has.

    Masks have bit ``i`` for piece ``i``; ``priorities`` has a byte for each piece, 0 for what is not wanted.
    Every index and block that comes from a peer must have been checked against the geometry before.
    ``budget`` bounds the pieces that are started, ``None``: by the configuration, for this picker alone.
    """

    def __init__(
        self,
        geometry: Geometry,
        have: int,
        priorities: bytes,
        config: SwarmConfig,
        rng: random.Random,
        budget: Budget | None = None,
    ) -> None:
        self._geometry = geometry
        self._config = config
        self._rng = rng
        self._stock = Stock(have, priorities)
        self._dry: dict[str, int] = {}
        """Peers that had nothing to pick, and ``Stock.offers`` at that time."""
        self._open: dict[int, Partial] = {}
        self._asked: dict[int, Partial] = {}
        self._verifying: dict[int, Partial] = {}
        self._suspect: set[int] = set()
        self._parole: dict[str, set[int]] = {}
        """Peers that had a part in these suspect pieces."""
        self.held_bytes = 0
        """Memory held by pieces that are not yet verified."""
        self._budget = Budget(config.piece_buffer) if budget is None else budget

    # --- what peers have

    def join(self, peer: str) -> None:
        self._stock.join(peer)

    def learn(self, peer: str, mask: int) -> None:
        """``peer`` has these pieces (besides those already known)."""
        for chunk, bits in PieceSet(self._geometry.piece_count, mask).filled():
            self._learn(peer, chunk, bits)

    def learn_one(self, peer: str, index: int) -> None:
        """``peer`` has this piece."""
        self._learn(peer, index >> SHIFT, 1 << (index & LOW))

    def _learn(self, peer: str, chunk: int, bits: int) -> None:
        if self._stock.learn(peer, chunk, bits):
            self._dry.pop(peer, None)

    def leave(self, peer: str) -> None:
        self.part(peer)
        self._stock.leave(peer)
        self._dry.pop(peer, None)
        self._parole.pop(peer, None)

    def pieces_of(self, peer: str) -> int:
        """How many pieces ``peer`` has."""
        return self._stock.peers[peer].count

    def interesting(self, peer: str) -> bool:
        """Whether ``peer`` has a wanted piece that is not present."""
        return self._stock.useful[peer] > 0

    @property
    def copies(self) -> float:
        """Copies of the whole torrent, here and among the connected peers (``Availability.distributed``)."""
        return self._stock.availability.distributed(self._stock.have)

    # --- what is here and what is wanted

    @property
    def have(self) -> int:
        """Mask of the pieces that are present; linear in their number, as the next one."""
        return self._stock.have.mask

    @property
    def missing(self) -> int:
        """Mask of the wanted pieces that are not present."""
        return self._stock.missing.mask

    @property
    def wanted(self) -> int:
        """How many pieces are wanted."""
        return self._stock.wanted

    @property
    def complete(self) -> bool:
        """Whether every wanted piece is present."""
        return not self._stock.missing.count

    def has(self, index: int) -> bool:
        return index in self._stock.have

    def set_priorities(self, priorities: bytes) -> set[int]:
        """Change what is wanted, and how much. Returns the started pieces that are not wanted any more, now
        dropped.
        """
        self._stock.set_priorities(priorities)
        dropped = {index for index in (*self._open, *self._asked) if not priorities[index]}
        for index in dropped:
            self._drop_index(index)
        return dropped

    # --- asking

    def pick(self, peer: str, room: int, within: int = -1) -> list[Block]:
        """Up to ``room`` blocks, of the pieces in the mask ``within``, that nobody is asked for and that
        ``peer`` has; they count as asked of it.
        """
        blocks: list[Block] = []
        pieces, alone = self._stock.peers[peer], peer in self._parole
        for piece in list(self._open.values()):
            if len(blocks) >= room:
                return blocks
            if not within >> piece.index & 1 or piece.index not in pieces:
                continue
            if piece.solo == peer if alone else piece.allows(peer):
                self._take(piece, peer, room, blocks)
        while len(blocks) < room and (index := self._choose(peer, within)) is not None:
            self._take(self._start(index, peer), peer, room, blocks)
        return blocks

    def pick_again(self, peer: str, room: int, within: int = -1) -> list[Block]:
        """In the endgame, up to ``room`` blocks that other peers are asked for already."""
        blocks: list[Block] = []
        if room <= 0 or peer in self._parole or not self.endgame:
            return blocks
        mine = self._stock.peers[peer]
        asked = [piece for piece in self._asked.values() if within >> piece.index & 1]
        pieces = [piece for piece in asked if piece.index in mine and piece.allows(peer)]
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
        # what one peer alone may give keeps nobody else busy
        availability = self._stock.availability
        return not availability.in_reach and all(
            piece.solo is not None or not availability.copies(piece.index) for piece in self._open.values()
        )

    def _choose(self, peer: str, within: int) -> int | None:
        if self._dry.get(peer) == self._stock.offers:
            return None
        if self.held_bytes and self._budget.spent:
            return None
        for index in self._suspect:
            if within >> index & 1 and self._stock.open_to(index, peer):
                return index
        if within >= 0:  # only a few: those that a choking peer allows
            return next((index for index in indexes(within) if self._stock.open_to(index, peer)), None)
        at_random = self._stock.have.count < self._config.random_first
        found = (self._stock.any if at_random else self._stock.rarest)(peer, self._rng, within)
        if found is None and peer in self._parole:
            found = self._abandoned(self._stock.peers[peer], within)
        elif found is None and within == -1:
            self._dry[peer] = self._stock.offers
        return found

    def _abandoned(self, pieces: PieceSet, within: int) -> int | None:
        """A shared piece that nobody works on, given up: a peer on parole may only begin it anew."""
        for piece in self._open.values():
            if piece.idle and piece.solo is None and piece.index in pieces and within >> piece.index & 1:
                self._drop(piece)
                return piece.index
        return None

    def _start(self, index: int, peer: str) -> Partial:
        self._stock.start(index)
        size = self._geometry.piece_size(index)
        alone = index in self._suspect or peer in self._parole
        piece = self._open[index] = Partial(index, size, solo=peer if alone else None)
        self._hold(size)
        return piece

    def _hold(self, size: int) -> None:
        self.held_bytes += size
        self._budget.used += size

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

    def accept(self, peer: str, block: Block, data: bytes | memoryview) -> Accepted:
        """A block has arrived, or neighbours as one; some may not be needed (any more)."""
        piece = self._open.get(block.piece) or self._asked.get(block.piece)
        if piece is None:
            return _UNNEEDED
        if peer in self._parole and piece.solo != peer:
            for unit in units(block):
                self.release(peer, unit)
            return _UNNEEDED
        needed, others = piece.accept(peer, block, data)
        if piece.left:
            self._file(piece)
            return Accepted(needed, others)
        self._open.pop(piece.index, None)
        self._asked.pop(piece.index, None)
        self._verifying[piece.index] = piece
        return Accepted(needed, others, piece)

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
        self._stock.gain(index)
        self._acquit(index)
        return piece

    def failed(self, index: int) -> Partial | None:
        """A complete piece was false: it starts anew, from one peer only. ``None`` when none is being
        verified.
        """
        piece = self._verifying.get(index)
        if piece is None:
            return None
        self._suspect.add(index)
        sources = piece.sources()
        if len(sources) > 1:
            for peer in sources & self._stock.peers.keys():
                self._parole.setdefault(peer, set()).add(index)
        self._drop(piece)
        return piece

    def on_parole(self, peers: AbstractSet[str]) -> dict[str, set[int]]:
        """Of ``peers`` those that must give whole pieces alone, and the pieces that each is giving so."""
        started = [*self._open.values(), *self._asked.values()]
        return {
            peer: {piece.index for piece in started if piece.solo == peer}
            for peer in sorted(peers & self._parole.keys())
        }

    def _acquit(self, index: int) -> None:
        """The piece is right: nobody is suspected because of it any more."""
        if index in self._suspect:
            self._suspect.discard(index)
            for peer, pieces in list(self._parole.items()):
                pieces.discard(index)
                if not pieces:
                    del self._parole[peer]
            self._dry.clear()

    def unstored(self, index: int) -> None:
        """A complete piece was right but could not be kept: it starts anew."""
        if index in self._verifying:
            self._drop_index(index)

    def lost(self, index: int) -> None:
        """A piece that was present is gone."""
        if self.has(index):
            self._stock.lose(index)

    def _drop_index(self, index: int) -> Partial | None:
        for where in (self._open, self._asked, self._verifying):
            if (piece := where.get(index)) is not None:
                self._drop(piece)
                return piece
        return None

    def _drop(self, piece: Partial) -> None:
        for where in (self._open, self._asked, self._verifying):
            where.pop(piece.index, None)
        self._hold(-piece.size)
        self._stock.stop(piece.index)

    def close(self) -> None:
        """Give what is held back to the budget; nothing may be picked any more."""
        self._hold(-self.held_bytes)
