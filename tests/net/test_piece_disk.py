"""Blocks that are asked for together are read together, and one that cannot be read harms no other."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from p2pml.errors import UserError
from p2pml.net.piece_disk import PieceDisk
from p2pml.net.piece_ports import Range
from torrent import events

BLOCK = 65_536


class Shelf:
    """A disk that notes each trip to it; piece 9 is unreadable, every other byte is its piece's number."""

    def __init__(self) -> None:
        self.trips: list[Sequence[Range]] = []
        self.problems: list[UserError] = []
        self.told: list[events.Event] = []
        self.disk = PieceDisk(self, self, self.told.append)

    async def read(self, ranges: Sequence[Range]) -> Sequence[bytes | UserError]:
        self.trips.append(ranges)
        await trio.lowlevel.checkpoint()
        return [
            UserError("gone", "put it back") if index == 9 else bytes([index]) * length
            for index, _, length in ranges
        ]

    async def write(self, pieces: Sequence[tuple[int, bytes | bytearray]]) -> Sequence[bool]:
        raise AssertionError("nothing is written here")

    def piece_kept(self, index: int) -> None: ...

    def completed(self) -> None: ...

    def local_problem(self, error: UserError) -> None:
        self.problems.append(error)

    async def serve(self, *blocks: tuple[int, int]) -> int:
        """Ask for blocks, given by piece and number; how many readers that took."""
        asks = [events.ReadBlock("a", index, number * BLOCK, BLOCK) for index, number in blocks]
        readers = sum(self.disk.ask(block) for block in asks)
        async with trio.open_nursery() as nursery:
            for _ in range(readers):
                nursery.start_soon(self.disk.read)
        return readers


async def test_one_trip_for_blocks_that_are_asked_for_together() -> None:
    shelf = Shelf()
    assert await shelf.serve((1, 0), (1, 1), (3, 4), (3, 6)) == 1
    (trip,) = shelf.trips
    assert trip == [(1, 0, 2 * BLOCK), (3, 4 * BLOCK, BLOCK), (3, 6 * BLOCK, BLOCK)]
    assert shelf.told == [
        events.BlockRead("a", index, number * BLOCK, bytes([index]) * BLOCK)
        for index, number in ((1, 0), (1, 1), (3, 4), (3, 6))
    ]


async def test_more_than_one_trip_takes_gets_more_readers() -> None:
    shelf = Shelf()
    assert await shelf.serve(*((1, number) for number in range(40))) == 3
    assert sum(length for trip in shelf.trips for _, _, length in trip) == 40 * BLOCK
    assert max(sum(length for _, _, length in trip) for trip in shelf.trips) == 16 * BLOCK
    assert len(shelf.told) == 40
    assert await shelf.serve((2, 0)) == 1


async def test_what_cannot_be_read_harms_no_other() -> None:
    shelf = Shelf()
    await shelf.serve((1, 0), (9, 0), (9, 1), (2, 0))
    assert len(shelf.problems) == 1
    assert [type(event) for event in shelf.told] == [
        events.BlockRead,
        events.BlockReadFailed,
        events.BlockReadFailed,
        events.BlockRead,
    ]
