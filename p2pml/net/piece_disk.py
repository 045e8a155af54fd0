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
_RUN_BYTES = 1024 * 1024
_BATCH_BYTES = 16 * 1024 * 1024


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
        self._readers = 0
        self._unwritten: deque[events.VerifyAndWrite] = deque()
        self.writing = False

    def ask(self, block: events.ReadBlock) -> bool:
        """A block is to be read; True when `read` has to be started for it."""
        continues = bool(self._unread) and _follows(self._unread[-1], block)
        self._unread.append(block)
        if continues or self._readers >= _READERS:
            return False
        self._readers += 1
        return True

    async def read(self) -> None:
        """Read what waits, and post it: peers ask for small blocks in order, many of which make one read."""
        try:
            while self._unread:
                run = self._next_run()
                for result in await self._read_run(run):
                    self._post(result)
        finally:
            self._readers -= 1

    def _next_run(self) -> list[events.ReadBlock]:
        """The first block that waits, and those behind it that continue it."""
        run = [self._unread.popleft()]
        size = run[0].length
        while self._unread and size < _RUN_BYTES:
            following = self._unread[0]
            if not _follows(run[-1], following):
                break
            run.append(self._unread.popleft())
            size += following.length
        return run

    async def _read_run(self, run: list[events.ReadBlock]) -> list[events.Event]:
        start = run[0].begin
        try:
            data = await self._disk.read(run[0].index, start, run[-1].begin + run[-1].length - start)
        except UserError as error:
            self._watcher.local_problem(error)
            return [events.BlockReadFailed(each.peer, each.index, each.begin, each.length) for each in run]
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
            while self._unwritten and sum(len(piece.data) for piece in batch) < _BATCH_BYTES:
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
