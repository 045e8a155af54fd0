"""A set of pieces in chunks of a fixed width: what concerns one piece costs the same in any torrent.

One integer for all pieces (`torrent.bitfield`) makes set algebra word-parallel, but each change of one bit
copies it whole: 12 kB with 10⁵ pieces. Here a set is a list of integers of ``CHUNK`` bits and a summary with
one bit for each chunk that is not empty. What is found by chance is drawn chunk first.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from torrent.bitfield import lowest

SHIFT = 10
CHUNK = 1 << SHIFT
"""Pieces in a chunk."""
LOW = CHUNK - 1
_BYTES = CHUNK // 8


class PieceSet:
    """A mutable set of the pieces below ``count``."""

    __slots__ = ("chunks", "count", "summary")

    def __init__(self, length: int, mask: int = 0) -> None:
        number = -(-length // CHUNK)
        self.chunks = [0] * number
        """Bit ``i`` of chunk ``c`` is piece ``c * CHUNK + i``. Only ``put`` may change it."""
        self.summary = 0
        """Bit ``c`` tells whether chunk ``c`` holds anything."""
        self.count = 0
        """How many pieces are in the set."""
        if mask:
            data = mask.to_bytes(number * _BYTES, "little")
            for chunk in range(number):
                self.put(chunk, int.from_bytes(data[chunk * _BYTES : (chunk + 1) * _BYTES], "little"))

    def put(self, chunk: int, bits: int) -> None:
        """Replace a whole chunk."""
        self.count += bits.bit_count() - self.chunks[chunk].bit_count()
        self.chunks[chunk] = bits
        if bits:
            self.summary |= 1 << chunk
        else:
            self.summary &= ~(1 << chunk)

    def add(self, index: int) -> None:
        chunk = index >> SHIFT
        self.put(chunk, self.chunks[chunk] | 1 << (index & LOW))

    def discard(self, index: int) -> None:
        chunk = index >> SHIFT
        self.put(chunk, self.chunks[chunk] & ~(1 << (index & LOW)))

    def copy(self) -> PieceSet:
        """The same pieces; linear in the number of chunks only."""
        twin = PieceSet(0)
        twin.chunks, twin.summary, twin.count = self.chunks.copy(), self.summary, self.count
        return twin

    def filled(self) -> Iterator[tuple[int, int]]:
        """The chunks that are not empty, as (number, bits)."""
        return ((chunk, bits) for chunk, bits in enumerate(self.chunks) if bits)

    @property
    def mask(self) -> int:
        """All of it as one integer; linear in the number of pieces."""
        return int.from_bytes(b"".join(bits.to_bytes(_BYTES, "little") for bits in self.chunks), "little")

    def __contains__(self, index: int) -> bool:
        return bool(self.chunks[index >> SHIFT] >> (index & LOW) & 1)


def random_bit(mask: int, rng: random.Random) -> int:
    """A set bit of a non-zero mask, each as likely as another."""
    rank = int(rng.random() * mask.bit_count())
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


def draw(one: PieceSet, other: PieceSet, rng: random.Random) -> int | None:
    """A random piece of both sets, ``None`` when they have none in common.

    Within a chunk each is as likely as another; the chunk is the next one after a random place.
    """
    rest = one.summary & other.summary
    while rest:
        place = int(rng.random() * rest.bit_length())
        chunk = lowest(rest >> place << place or rest)
        if found := one.chunks[chunk] & other.chunks[chunk]:
            return (chunk << SHIFT) + random_bit(found, rng)
        rest ^= 1 << chunk
    return None
