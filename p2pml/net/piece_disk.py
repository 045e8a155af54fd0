"""The disk's side of a swarm's pump: blocks that follow each other are read at once, pieces are written in
batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from p2pml.errors import UserError
from p2pml.net.piece_ports import Disk, Watcher
from torrent import events

_READERS = 8
_READ_BYTES = 1024 * 1024
BATCH_BYTES = 16 * 1024 * 1024

Run = list[events.ReadBlock]
"""Blocks of one piece that follow each other."""


class PieceDisk:
    """Args:
    disk: where pieces come from and go to.
    watcher: told of what fails.
    post: takes what the swarm has to know.

    Attributes:
        writing: whether pieces are on their way to the disk.
    """

    def __init__(self, disk: Disk, watcher: Watcher, post: Callable[[events.Event], None]) -> None:
        self._disk, self._watcher, self._post = disk, watcher, post
        self._unread: deque[events.ReadBlock] = deque()
        self._unread_bytes = 0
        self._readers = 0
        self._starting = 0
        """Readers that have not taken anything yet: each takes `_READ_BYTES` of what waits."""
        self._unwritten: deque[events.VerifyAndWrite] = deque()
        self.writing = False

    def ask(self, block: events.ReadBlock) -> bool:
        """A block is to be read; True when `read` has to be started for it."""
        self._unread.append(block)
        self._unread_bytes += block.length
        if self._readers >= _READERS or self._unread_bytes <= self._starting * _READ_BYTES:
            return False
        self._readers += 1
        self._starting += 1
        return True

    async def read(self) -> None:
        """Read what waits, and post it: blocks that are asked for together make one trip to a thread, and
        those of them that follow each other one read.
        """
        self._starting -= 1
        try:
            while self._unread:
                for result in await self._read_runs(self._next_runs()):
                    self._post(result)
        finally:
            self._readers -= 1

    def _next_runs(self) -> list[Run]:
        """What waits, oldest first, about `_READ_BYTES` of it."""
        runs: list[Run] = []
        size = 0
        while self._unread and size < _READ_BYTES:
            block = self._unread.popleft()
            size += block.length
            if runs and _follows(runs[-1][-1], block):
                runs[-1].append(block)
            else:
                runs.append([block])
        self._unread_bytes -= size
        return runs

    async def _read_runs(self, runs: list[Run]) -> list[events.Event]:
        ranges = [(run[0].index, run[0].begin, sum(block.length for block in run)) for run in runs]
        found = zip(runs, await self._disk.read(ranges), strict=True)
        return [event for run, data in found for event in self._told(run, data)]

    def _told(self, run: Run, data: bytes | UserError) -> list[events.Event]:
        if isinstance(data, UserError):
            self._watcher.local_problem(data)
            return [events.BlockReadFailed(each.peer, each.index, each.begin, each.length) for each in run]
        start = run[0].begin
        parts = (data[each.begin - start : each.begin - start + each.length] for each in run)
        return [
            events.BlockRead(each.peer, each.index, each.begin, part)
            for each, part in zip(run, parts, strict=True)
        ]

    def put(self, piece: events.VerifyAndWrite) -> bool:
        """A piece is to be written; True when `write` has to be started for it."""
        self._unwritten.append(piece)
        return len(self._unwritten) == 1 and not self.writing

    async def write(self) -> None:
        """Write what waits, as much as comes together: a sync costs the same for one piece as for many."""
        self.writing = True
        while self._unwritten:
            batch = [self._unwritten.popleft()]
            while self._unwritten and sum(len(piece.data) for piece in batch) < BATCH_BYTES:
                batch.append(self._unwritten.popleft())
            for result in await self._write_batch(batch):
                self._post(result)
        self.writing = False

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


def _follows(block: events.ReadBlock, following: events.ReadBlock) -> bool:
    return (following.index, following.begin) == (block.index, block.begin + block.length)
