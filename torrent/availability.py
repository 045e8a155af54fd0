"""How many connected peers have each piece, and the pieces to pick from in buckets of equal availability.

Counts are bit-sliced: plane ``k`` of a chunk holds bit ``k`` of its pieces' counts, so that a peer's whole
bitfield is added with a few operations per chunk. Of the pieces that may be picked there is a bucket for each
priority and number of copies; a HAVE moves one piece to the next bucket, and the rarest piece of a peer lies
in the first bucket that has something in common with it. Nothing looks at all pieces one by one.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from torrent.pieceset import CHUNK, LOW, SHIFT, PieceSet, draw


class Availability:
    """Copies of each of ``count`` pieces, and which of them are on offer to be picked."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._planes: list[list[int]] = [[] for _ in range(-(-count // CHUNK))]
        self._buckets: dict[int, list[PieceSet]] = {}
        """By priority, the highest first; by number of copies."""
        self._offered: dict[int, PieceSet] = {}
        """All buckets of a priority together."""

    def copies(self, index: int) -> int:
        bit = index & LOW
        planes = enumerate(self._planes[index >> SHIFT])
        return sum((plane >> bit & 1) << weight for weight, plane in planes)

    def distributed(self, mine: PieceSet) -> float:
        """Copies of the whole among the peers and in ``mine``: of the rarest piece there are as many as the
        integer part says; the fraction is the share of the pieces that have more.
        """
        counts: Counter[int] = Counter()
        for chunk, here in enumerate(mine.chunks):
            whole = (1 << min(CHUNK, self._count - (chunk << SHIFT))) - 1
            for copies, group in self._by_copies(chunk, whole):
                counts[copies + 1] += (group & here).bit_count()
                counts[copies] += (group & ~here).bit_count()
        least = min(copies for copies, pieces in counts.items() if pieces)
        return least + sum(pieces for copies, pieces in counts.items() if copies > least) / self._count

    # --- what peers have

    def more(self, chunk: int, bits: int) -> None:
        """One more peer has each of these pieces of a chunk."""
        for priority, offered in self._offered.items():
            if moving := bits & offered.chunks[chunk]:
                self._up(self._buckets[priority], chunk, moving)
        planes = self._planes[chunk]
        for weight, plane in enumerate(planes):
            planes[weight] = plane ^ bits
            bits &= plane
            if not bits:
                return
        planes.append(bits)

    def fewer(self, chunk: int, bits: int) -> None:
        """One peer fewer has each of these pieces; each must have been counted before."""
        for priority, offered in self._offered.items():
            if moving := bits & offered.chunks[chunk]:
                self._down(self._buckets[priority], chunk, moving)
        planes = self._planes[chunk]
        for weight, plane in enumerate(planes):
            planes[weight] = plane ^ bits
            bits &= ~plane
            if not bits:
                return

    def _up(self, buckets: list[PieceSet], chunk: int, moving: int) -> None:
        carried = 0
        for bucket in buckets:
            here = bucket.chunks[chunk]
            moved = here & moving
            if moved or carried:
                bucket.put(chunk, here ^ moved | carried)
            moving ^= moved
            carried = moved
            if not moving and not carried:
                return
        buckets.append(PieceSet(self._count))
        buckets[-1].put(chunk, carried)

    @staticmethod
    def _down(buckets: list[PieceSet], chunk: int, moving: int) -> None:
        for below, bucket in pairwise(buckets):
            if moved := bucket.chunks[chunk] & moving:
                bucket.put(chunk, bucket.chunks[chunk] ^ moved)
                below.put(chunk, below.chunks[chunk] | moved)
                moving ^= moved
                if not moving:
                    return

    # --- what may be picked

    def offer(self, chunk: int, bits: int, priority: int) -> None:
        """These pieces of a chunk may be picked; none of them may be on offer already."""
        if priority not in self._offered:
            self._offered[priority] = PieceSet(self._count)
            self._buckets[priority] = []
            self._buckets = dict(sorted(self._buckets.items(), reverse=True))
        offered, buckets = self._offered[priority], self._buckets[priority]
        offered.put(chunk, offered.chunks[chunk] | bits)
        for copies, group in self._by_copies(chunk, bits):
            while len(buckets) <= copies:
                buckets.append(PieceSet(self._count))
            buckets[copies].put(chunk, buckets[copies].chunks[chunk] | group)

    def withdraw(self, chunk: int, bits: int, priority: int) -> None:
        """These pieces of a chunk may not be picked any more."""
        offered = self._offered[priority]
        offered.put(chunk, offered.chunks[chunk] & ~bits)
        for copies, group in self._by_copies(chunk, bits):
            bucket = self._buckets[priority][copies]
            bucket.put(chunk, bucket.chunks[chunk] & ~group)

    def _by_copies(self, chunk: int, bits: int) -> Iterator[tuple[int, int]]:
        groups = [(0, bits)]
        for weight, plane in enumerate(self._planes[chunk]):
            split = [(copies, group & ~plane) for copies, group in groups]
            split += [(copies | 1 << weight, group & plane) for copies, group in groups]
            groups = [pair for pair in split if pair[1]]
        return iter(groups)

    @property
    def in_reach(self) -> bool:
        """Whether a piece is on offer that some connected peer has."""
        return any(bucket.summary for buckets in self._buckets.values() for bucket in buckets[1:])

    def rarest(self, peer: PieceSet, rng: random.Random) -> int | None:
        """Of what is on offer and the peer has, one of the highest priority, and of these one of the fewest
        copies; ``None`` for none.
        """
        for buckets in self._buckets.values():
            for bucket in buckets:
                if bucket.summary & peer.summary and (found := draw(bucket, peer, rng)) is not None:
                    return found
        return None

    def any(self, peer: PieceSet, rng: random.Random) -> int | None:
        """The same, but however many copies there are."""
        for priority in self._buckets:
            if (found := draw(self._offered[priority], peer, rng)) is not None:
                return found
        return None
