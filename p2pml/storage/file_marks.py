"""How this node left each file of a torrent, to see later that somebody else wrote to it.

A finished file has a stamp in `state.json`. One that is still being fetched changes too often for that: what
it was left with is one number in `marks`, a table with 8 bytes (mtime in ns, big-endian, 0 for unknown) for
each file, written in place. The number is taken away before a write and put back after it, so that a kill in
between is no sign of a stranger: then the file is not compared. The table is never synced; an old number
after a power cut costs a hashing of that file.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from p2pml.storage.payload import Payload

MARKS_NAME = "marks"
_MARK = struct.Struct(">q")


class FileMarks:
    """Stamps and marks of one torrent's files.

    Args:
        path: the table; made with the first mark.
        payload: the files; `payload.stamps` are those of the finished ones.

    Raises:
        OSError: the table is there and cannot be read.
    """

    def __init__(self, path: Path, payload: Payload) -> None:
        self._path = path
        self._payload = payload
        self._marks = self._load()

    def changed(self, index: int) -> bool:
        """Whether a file is gone, has another length, or was written to by somebody else."""
        now, stamp = self._payload.stamp(index), self._payload.stamps.get(index)
        if now is None or now.size != self._payload.files[index].length:
            return True
        return now != stamp if stamp is not None else self._marks.get(index, now.mtime_ns) != now.mtime_ns

    def writing(self, files: Iterable[int]) -> None:
        """These files are about to be written to; `note` has to follow. Raises OSError."""
        self._put(dict.fromkeys(files, 0))

    def note(self, files: Iterable[int], finished: Callable[[int], bool]) -> bool:
        """Remember how files look that were just written or hashed.

        Args:
            finished: tells whether a file is wholly here.

        Returns:
            Whether stamps changed, which are to be saved then.

        Raises:
            OSError: the table cannot be written.
        """
        marks: dict[int, int] = {}
        stamped = False
        for index in files:
            now, done = self._payload.stamp(index), finished(index)
            marks[index] = 0 if now is None or done else now.mtime_ns
            if now is not None and done and now != self._payload.stamps.get(index):
                self._payload.stamps[index] = now
                stamped = True
        self._put(marks)
        return stamped

    def _put(self, marks: Mapping[int, int]) -> None:
        news = {index: mark for index, mark in marks.items() if mark != self._marks.get(index, 0)}
        if not news:
            return
        table = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            for index, mark in news.items():
                os.pwrite(table, _MARK.pack(mark), index * _MARK.size)
        finally:
            os.close(table)
        self._marks.update(news)
        for index in [index for index, mark in news.items() if not mark]:
            del self._marks[index]

    def _load(self) -> dict[int, int]:
        try:
            table = self._path.read_bytes()
        except FileNotFoundError:
            return {}
        whole = len(table) - len(table) % _MARK.size  # a torn end belongs to a file that was being written
        return {index: mark for index, (mark,) in enumerate(_MARK.iter_unpack(table[:whole])) if mark}
