"""How a torrent's bytes divide into pieces and blocks (BEP 3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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


def joined(blocks: Iterable[Block], most: int) -> Iterator[Block]:
    """Neighbours in ``blocks``, each of at most ``BLOCK`` bytes, made one block of up to ``most`` of them."""
    run: Block | None = None
    for block in blocks:
        if run is None:
            run = block
        elif (run.piece, run.begin + run.length) == block[:2] and run.length < most * BLOCK:
            run = Block(run.piece, run.begin, run.length + block.length)
        else:
            yield run
            run = block
    if run is not None:
        yield run


def units(block: Block) -> list[Block]:
    """``block`` cut into blocks of ``BLOCK`` bytes, the last one shorter."""
    if block.length <= BLOCK:
        return [block]
    end = block.begin + block.length
    return [Block(block.piece, begin, min(BLOCK, end - begin)) for begin in range(block.begin, end, BLOCK)]


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
