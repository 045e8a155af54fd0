"""How a torrent's bytes divide into pieces and blocks (BEP 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torrent.errors import LocalError

BLOCK = 16_384
"""Bytes per request: what every client serves."""


class Block(NamedTuple):
    """A range of one piece, in bytes."""

    piece: int
    begin: int
    length: int


@dataclass(frozen=True, slots=True)
class Geometry:
    """Total length and piece length in bytes, both positive (``LocalError``); all else follows."""

    total_length: int
    piece_length: int

    def __post_init__(self) -> None:
        if self.total_length <= 0 or self.piece_length <= 0:
            raise LocalError("total length and piece length must be positive")

    @property
    def piece_count(self) -> int:
        return -(-self.total_length // self.piece_length)

    def piece_size(self, index: int) -> int:
        """Bytes of piece ``index``: the last one may be shorter."""
        start = index * self.piece_length
        if index < 0 or start >= self.total_length:
            raise LocalError(f"no piece {index}")
        return min(self.piece_length, self.total_length - start)

    def contains(self, block: Block) -> bool:
        """Whether ``block`` is a non-empty range inside an existing piece (safe on hostile numbers)."""
        return (
            0 <= block.piece < self.piece_count
            and block.begin >= 0
            and block.length > 0
            and block.begin + block.length <= self.piece_size(block.piece)
        )
