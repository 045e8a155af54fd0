"""How many peers have each piece: buckets of equal availability, each a bit mask over all pieces.

A peer's arrival, departure and HAVE move bits between neighbouring buckets with word-parallel
operations, and the rarest piece that a peer can give is found by one AND per level: no loop over pieces,
however many there are.
"""

from __future__ import annotations

import random


def random_bit(mask: int, rng: random.Random) -> int:
    """A set bit of a non-zero mask, each as likely as another."""
    rank = rng.randrange(mask.bit_count())
    offset = 0
    width = mask.bit_length()
    # halve the mask towards the bit of that rank: the halves add up to about two passes over its words
    while width > 1:
        half = width // 2
        low = mask & ((1 << half) - 1)
        below = low.bit_count()
        if rank < below:
            mask, width = low, half
        else:
            rank -= below
            mask >>= half
            offset += half
            width -= half
    return offset


class Availability:
    """Copies of each of ``count`` pieces among the connected peers."""

    def __init__(self, count: int) -> None:
        self._levels = [(1 << count) - 1]

    @property
    def nowhere(self) -> int:
        """Mask of the pieces that no connected peer has."""
        return self._levels[0]

    def add(self, mask: int) -> None:
        """One more peer has each piece of ``mask``."""
        carried = 0
        for level, bucket in enumerate(self._levels):
            moved = bucket & mask
            self._levels[level] = bucket ^ moved | carried
            mask ^= moved
            carried = moved
            if not mask and not carried:
                return
        if carried:
            self._levels.append(carried)

    def remove(self, mask: int) -> None:
        """One peer fewer has each piece of ``mask``; each must have been added before."""
        for level in range(1, len(self._levels)):
            moved = self._levels[level] & mask
            self._levels[level] ^= moved
            self._levels[level - 1] |= moved
            mask ^= moved
            if not mask:
                break
        while len(self._levels) > 1 and not self._levels[-1]:
            self._levels.pop()

    def copies(self, index: int) -> int:
        return next(level for level, bucket in enumerate(self._levels) if bucket >> index & 1)

    def rarest(self, candidates: int, rng: random.Random) -> int | None:
        """One of the least available pieces of ``candidates``, random among equals; ``None`` for none."""
        for bucket in self._levels:
            if found := bucket & candidates:
                return random_bit(found, rng)
        return None
