"""What is present, missing and wanted how much, what every peer has, and so what may be started.

Everything is kept by steps: what one piece or one message changes costs the same in any torrent.
"""

from __future__ import annotations

import random

from torrent.availability import Availability
from torrent.bitfield import indexes
from torrent.pieceset import LOW, SHIFT, PieceSet


class Stock:
    """``have``: mask of what is present; ``priorities``: a byte for each piece, 0 for what is not wanted.

    A piece is on offer while it is wanted, not present, and not started.
    """

    def __init__(self, have: int, priorities: bytes) -> None:
        count = len(priorities)
        self.have = PieceSet(count, have)
        self.missing = PieceSet(count)
        """Wanted and not present."""
        self.peers: dict[str, PieceSet] = {}
        self.useful: dict[str, int] = {}
        """How many missing pieces each peer has."""
        self.availability = Availability(count)
        self.offers = 0
        """Changes with everything that comes on offer."""
        self._started: set[int] = set()
        self._priorities = bytearray(count)
        self.set_priorities(priorities)

    # --- what peers have

    def join(self, peer: str) -> None:
        self.peers[peer] = PieceSet(len(self._priorities))
        self.useful[peer] = 0

    def learn(self, peer: str, chunk: int, bits: int) -> bool:
        """``peer`` has these pieces of a chunk; whether any of them is news."""
        pieces = self.peers[peer]
        known = pieces.chunks[chunk]
        new = bits & ~known
        if new:
            pieces.put(chunk, known | new)
            self.useful[peer] += (new & self.missing.chunks[chunk]).bit_count()
            self.availability.more(chunk, new)
        return bool(new)

    def leave(self, peer: str) -> None:
        for chunk, bits in self.peers.pop(peer).filled():
            self.availability.fewer(chunk, bits)
        del self.useful[peer]

    # --- what is here and what is wanted

    @property
    def wanted(self) -> int:
        """How many pieces are wanted."""
        return len(self._priorities) - self._priorities.count(0)

    def gain(self, index: int) -> None:
        """The piece is present."""
        self._retract(index)
        if index in self.missing:
            self._miss(index, False)
        self.have.add(index)

    def lose(self, index: int) -> None:
        """A piece that was present is gone."""
        self.have.discard(index)
        if self._priorities[index]:
            self._miss(index, True)
        self._offer(index)

    def start(self, index: int) -> None:
        """The piece is being fetched: it is not on offer."""
        self._retract(index)
        self._started.add(index)

    def stop(self, index: int) -> None:
        """It is fetched no more, present or not."""
        self._started.discard(index)
        self._offer(index)

    def open_to(self, index: int, peer: str) -> bool:
        """Whether the piece is on offer and ``peer`` has it."""
        return index in self.missing and index not in self._started and index in self.peers[peer]

    def _miss(self, index: int, missing: bool) -> None:
        (self.missing.add if missing else self.missing.discard)(index)
        for peer, pieces in self.peers.items():
            if index in pieces:
                self.useful[peer] += 1 if missing else -1

    def _offer(self, index: int) -> None:
        if index in self.missing and index not in self._started:
            self.availability.offer(index >> SHIFT, 1 << (index & LOW), self._priorities[index])
            self.offers += 1

    def _retract(self, index: int) -> None:
        if index in self.missing and index not in self._started:
            self.availability.withdraw(index >> SHIFT, 1 << (index & LOW), self._priorities[index])

    def set_priorities(self, priorities: bytes) -> None:
        """Change what is wanted, and how much; what is started stays so."""
        for chunk in range(len(self.missing.chunks)):
            part = slice(chunk << SHIFT, (chunk + 1) << SHIFT)
            if self._priorities[part] != priorities[part]:
                self._regrade(chunk, bytes(self._priorities[part]), priorities[part])
                self._priorities[part] = priorities[part]

    def _regrade(self, chunk: int, old: bytes, new: bytes) -> None:
        started = sum(1 << (index & LOW) for index in self._started if index >> SHIFT == chunk)
        before, after = self.missing.chunks[chunk], 0
        for level, bits in _by_level(old):
            if level and (gone := bits & before & ~started):
                self.availability.withdraw(chunk, gone, level)
        for level, bits in _by_level(new):
            if level and (missing := bits & ~self.have.chunks[chunk]):
                after |= missing
                self.availability.offer(chunk, missing & ~started, level)
        self.missing.put(chunk, after)
        self.offers += 1
        for peer, pieces in self.peers.items():
            has = pieces.chunks[chunk]
            self.useful[peer] += (has & after).bit_count() - (has & before).bit_count()

    # --- choosing

    def rarest(self, peer: str, rng: random.Random, within: int = -1) -> int | None:
        """On offer, of the highest priority that ``peer`` has, and of these one of the rarest; of the mask
        ``within``, which leaves few out.
        """
        return self.availability.rarest(self._pieces(peer, within), rng)

    def any(self, peer: str, rng: random.Random, within: int = -1) -> int | None:
        """On offer, of the highest priority that ``peer`` has; ``within`` as above."""
        return self.availability.any(self._pieces(peer, within), rng)

    def _pieces(self, peer: str, within: int) -> PieceSet:
        pieces = self.peers[peer]
        if within == -1:
            return pieces
        left = pieces.copy()
        for index in indexes(~within):
            left.discard(index)
        return left


def _by_level(priorities: bytes) -> list[tuple[int, int]]:
    """The priorities that occur, each with the mask of its pieces."""
    levels = sorted(set(priorities))
    if len(levels) == 1:
        return [(levels[0], (1 << len(priorities)) - 1)]
    last_first = bytes(reversed(priorities))
    return [(level, int("".join("1" if p == level else "0" for p in last_first), 2)) for level in levels]
