"""A set of piece indexes and its wire form (BEP 3: the high bit of the first byte is piece 0).

Kept as one integer whose bit ``i`` is piece ``i``: set algebra over all pieces is then a single word-parallel
operation, which is what the picker lives on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torrent.errors import LocalError, ProtocolError

_SHORT = 32
"""Bits of a mask that are stripped off one by one."""
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def lowest(mask: int) -> int:
    """Index of the lowest set bit of a non-zero mask."""
    return (mask & -mask).bit_length() - 1


def indexes(mask: int) -> Iterator[int]:
    """The set bits of ``mask``, ascending.

    Halves it, so that what is empty costs nothing: stripping bits off one big integer would be quadratic in
    the number of pieces, looking at all its bytes linear even for a few.
    """
    rest = [(0, mask)]
    while rest:
        first, part = rest.pop()
        width = part.bit_length()
        if width > _SHORT:
            half = width // 2
            rest += [(first + half, part >> half), (first, part & (1 << half) - 1)]
            continue
        while part:
            yield first + lowest(part)
            part &= part - 1


def mask_of(pieces: Iterable[int], length: int) -> int:
    """The mask of ``pieces``, each in ``range(length)``; linear in ``length``."""
    bits = bytearray((length + 7) // 8)
    for index in pieces:
        if not 0 <= index < length:
            raise LocalError(f"piece {index} is not below {length}")
        bits[index >> 3] |= 1 << (index & 7)
    return int.from_bytes(bits, "little")


class Bitfield:
    """A mutable set of pieces out of ``length``; ``mask`` may be read and used in set algebra."""

    __slots__ = ("length", "mask")

    def __init__(self, length: int, pieces: Iterable[int] = (), *, mask: int = 0) -> None:
        if length < 0 or mask < 0 or mask >> length:
            raise LocalError("mask outside the bitfield")
        self.length = length
        self.mask = mask | mask_of(pieces, length)

    @classmethod
    def full(cls, length: int) -> Bitfield:
        return cls(length, mask=(1 << length) - 1)

    @classmethod
    def from_bytes(cls, data: bytes, length: int) -> Bitfield:
        """Decode the wire form; raises ``ProtocolError`` unless the size is exact and spare bits are zero."""
        if len(data) != (length + 7) // 8:
            raise ProtocolError(f"bitfield of {len(data)} bytes for {length} pieces")
        mask = int.from_bytes(data.translate(_REVERSED), "little")
        if mask >> length:
            raise ProtocolError("bitfield with spare bits set")
        return cls(length, mask=mask)

    def to_bytes(self) -> bytes:
        return self.mask.to_bytes((self.length + 7) // 8, "little").translate(_REVERSED)

    def add(self, index: int) -> None:
        self._check(index)
        self.mask |= 1 << index

    def discard(self, index: int) -> None:
        self._check(index)
        self.mask &= ~(1 << index)

    def _check(self, index: int) -> None:
        if not 0 <= index < self.length:
            raise LocalError(f"piece {index} is not below {self.length}")

    @property
    def count(self) -> int:
        """How many pieces are in the set."""
        return self.mask.bit_count()

    @property
    def complete(self) -> bool:
        return self.count == self.length

    def missing(self) -> Iterator[int]:
        return indexes(((1 << self.length) - 1) & ~self.mask)

    def copy(self) -> Bitfield:
        return Bitfield(self.length, mask=self.mask)

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and 0 <= index < self.length and bool(self.mask >> index & 1)

    def __iter__(self) -> Iterator[int]:
        return indexes(self.mask)

    def __len__(self) -> int:
        return self.length

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bitfield) and (self.length, self.mask) == (other.length, other.mask)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Bitfield({self.count} of {self.length})"
