"""What the voters of a chain can change: the data set of the baseline test, and what quality it asks for."""

from __future__ import annotations

from dataclasses import dataclass

from chain.codec import Item, array, octets, uint
from chain.errors import ParamsError

INFOHASH_BYTES = 20
PPM = 10**6
BUNDLED = bytes(INFOHASH_BYTES)
"""Stands for the handwritten digits that every node has: no torrent has this infohash."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The baseline data set and the quality bounds. Raises ParamsError when a value is out of range.

    Args:
        infohash: 20 bytes, v1; `BUNDLED` for the digits that come with every node.
        q_min: quality below which a rating is 0, ppm.
        q_ref: quality from which on more earns nothing, ppm; above `q_min`.
    """

    infohash: bytes
    q_min: int
    q_ref: int

    def __post_init__(self) -> None:
        if len(self.infohash) != INFOHASH_BYTES:
            raise ParamsError(f"the baseline's infohash must have {INFOHASH_BYTES} bytes")
        if not 0 <= self.q_min < self.q_ref <= PPM:
            raise ParamsError(f"the quality bounds must be 0 <= q_min < q_ref <= {PPM}")

    def to_item(self) -> tuple[Item, ...]:
        return (self.infohash, self.q_min, self.q_ref)

    @classmethod
    def from_item(cls, item: Item) -> Baseline:
        """Raises DecodeError."""
        infohash, q_min, q_ref = array(item, 3, "baseline")
        low = uint(q_min, "q_min", high=PPM - 1)
        return cls(octets(infohash, INFOHASH_BYTES, "infohash"), low, uint(q_ref, "q_ref", low + 1, PPM))
