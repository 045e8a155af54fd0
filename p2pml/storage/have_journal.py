"""Which pieces of a torrent are on disk and verified: a journal that survives SIGKILL and power loss.

The caller syncs a piece's data first and adds the piece here afterwards, so a piece in the journal is always
wholly on disk. Whatever is damaged or torn is forgotten, never believed: the piece is only verified again.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

from p2pml.storage.journal import write_atomic

_HEADER = struct.Struct(">8sI")
_RECORD = struct.Struct(">II")
_MAGIC = b"p2pmlhv1"


class HaveJournal:
    """The set of verified pieces of one torrent, on disk.

    Args:
        path: the journal's file; made when it is missing.
        pieces: how many pieces the torrent has. A journal for another count is dropped.

    Raises:
        OSError: the file cannot be opened or written.
    """

    def __init__(self, path: Path, pieces: int) -> None:
        self.path = path
        self._pieces = pieces
        self._have: set[int] = set()
        good = self._load()
        if good == 0:
            write_atomic(path, _HEADER.pack(_MAGIC, pieces))
            good = _HEADER.size
        self._size = good
        self._file = self._open()
        if os.fstat(self._file).st_size != good:
            os.ftruncate(self._file, good)
            os.fsync(self._file)

    @property
    def have(self) -> frozenset[int]:
        """The pieces that are on disk and were verified."""
        return frozenset(self._have)

    def __contains__(self, piece: int) -> bool:
        return piece in self._have

    def __len__(self) -> int:
        return len(self._have)

    def add(self, pieces: Iterable[int]) -> None:
        """Note that pieces are on disk, their data synced already. Returns when the note is synced."""
        new = [piece for piece in pieces if piece not in self._have]
        if not new:
            return
        records = b"".join(_record(piece) for piece in new)
        view = memoryview(records)
        try:
            while view:
                view = view[os.write(self._file, view) :]
            os.fdatasync(self._file)
        except OSError:
            os.ftruncate(self._file, self._size)  # a full disk leaves half a record: later ones would be lost
            raise
        self._size += len(records)
        self._have.update(new)

    def replace(self, pieces: Iterable[int]) -> None:
        """Forget everything and note these pieces instead, in one atomic step."""
        have = set(pieces)
        data = _HEADER.pack(_MAGIC, self._pieces) + b"".join(_record(piece) for piece in sorted(have))
        write_atomic(self.path, data)
        os.close(self._file)
        self._file = self._open()
        self._size = len(data)
        self._have = have

    def close(self) -> None:
        os.close(self._file)

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)

    def _load(self) -> int:
        """Read the file; returns the length of its good part, 0 when there is none."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return 0
        if len(data) < _HEADER.size or _HEADER.unpack_from(data) != (_MAGIC, self._pieces):
            return 0
        good = _HEADER.size
        while good + _RECORD.size <= len(data):
            piece, check = _RECORD.unpack_from(data, good)
            if piece >= self._pieces or check != _check(piece):
                break
            self._have.add(piece)
            good += _RECORD.size
        return good


def _record(piece: int) -> bytes:
    return _RECORD.pack(piece, _check(piece))


def _check(piece: int) -> int:
    return zlib.crc32(_MAGIC + struct.pack(">I", piece))
