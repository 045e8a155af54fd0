"""The disk's side of a swarm's pump: blocks are read a few at a time, pieces are written in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from p2pml.errors import UserError
from p2pml.net.piece_ports import Disk, Watcher
from torrent import events

_READS_AT_ONCE = 8
_BATCH_BYTES = 16 * 1024 * 1024


class PieceDisk:
    """Args:
    disk: where pieces come from and go to.
    watcher: told of what fails.
    post: takes what the swarm has to know.
    """

    def __init__(self, disk: Disk, watcher: Watcher, post: Callable[[events.Event], None]) -> None:
        self._disk, self._watcher, self._post = disk, watcher, post
        self._reads = trio.CapacityLimiter(_READS_AT_ONCE)
        self._unwritten: deque[events.VerifyAndWrite] = deque()
        self._writing = False

    async def read(self, block: events.ReadBlock) -> None:
        """Read a block and post it, or that it cannot be read."""
        result: events.Event
        try:
            async with self._reads:
                data = await self._disk.read(block.index, block.begin, block.length)
            result = events.BlockRead(block.peer, block.index, block.begin, data)
        except UserError as error:
            self._watcher.local_problem(error)
            result = events.BlockReadFailed(block.peer, block.index, block.begin, block.length)
        self._post(result)

    def put(self, piece: events.VerifyAndWrite) -> bool:
        """A piece is to be written; True when `write` has to be started for it."""
        self._unwritten.append(piece)
        return len(self._unwritten) == 1 and not self._writing

    async def write(self) -> None:
        """Write what waits, as much as comes together: a sync costs the same for one piece as for many."""
        self._writing = True
        while self._unwritten:
            batch = [self._unwritten.popleft()]
            while self._unwritten and sum(len(piece.data) for piece in batch) < _BATCH_BYTES:
                batch.append(self._unwritten.popleft())
            for result in await self._write_batch(batch):
                self._post(result)
        self._writing = False

    async def _write_batch(self, batch: list[events.VerifyAndWrite]) -> list[events.Event]:
        try:
            verdicts = await self._disk.write([(piece.index, piece.data) for piece in batch])
        except UserError as error:
            self._watcher.local_problem(error)
            return [events.WriteFailed(piece.index, error.cause) for piece in batch]
        return [
            events.PieceVerified(piece.index) if right else events.PieceFailed(piece.index)
            for piece, right in zip(batch, verdicts, strict=True)
        ]
