"""The files of a dataset: one file, the members of an uncompressed tar (read in place), or those in a
folder."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from p2pml.training.datasets.base import DatasetError
from torrent.errors import TarError
from torrent.tar import RECORD, index_tar, is_tar

MAX_FILES = 200_000
GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, which may lie within another.

    Args:
        name: within the tar or folder, with `/`; or the file's own.
        path: of the file that holds its bytes.
        offset, size: of its bytes there.
        whole: what the dataset is called in messages.
    """

    name: str
    path: Path
    offset: int
    size: int
    whole: str

    @property
    def where(self) -> str:
        """How it is called in messages."""
        return self.whole if self.name == self.whole else f"{self.whole}:{self.name}"

    def open(self) -> IO[bytes]:
        """Its bytes. Raises OSError."""
        return io.BufferedReader(_Range(open(self.path, "rb", buffering=0), self.offset, self.size))

    @contextmanager
    def open_unpacked(self) -> Iterator[IO[bytes]]:
        """Its bytes, unpacked while they are read if they are gzip's: whoever reads bounds how much."""
        with self.open() as source:
            if source.peek(2)[:2] != GZIP:  # type: ignore[attr-defined]
                yield source
                return
            with gzip.GzipFile(fileobj=source) as unpacked:
                yield cast(IO[bytes], unpacked)


def entries(path: Path) -> list[Entry]:
    """All files of a dataset in the order of their names, which is no filesystem's.

    Raises:
        DatasetError: a damaged tar, or more than `MAX_FILES`.
        OSError: it cannot be read.
    """
    if path.is_dir():
        found = list(_capped(_folder(path), path))
    else:
        with open(path, "rb") as source:
            head = source.read(RECORD)
            if is_tar(head):
                found = list(_capped(_tar(source, path), path))
            else:
                size = os.fstat(source.fileno()).st_size
                return [Entry(path.name, path, 0, size, path.name)]
    return sorted(found, key=lambda entry: entry.name)


def within(found: list[Entry], member: str | None) -> list[Entry]:
    """The files that `member` names: that file, or those in that folder. Raises DatasetError for none."""
    if member is None:
        return found
    wanted = _plain(member)
    folder = wanted.rstrip("/") + "/" if wanted else ""
    chosen = [entry for entry in found if entry.name == wanted or entry.name.startswith(folder)]
    if not chosen:
        names = ", ".join(entry.name for entry in found[:10]) or "nothing"
        whole = found[0].whole if found else "it"
        raise DatasetError(
            f"{whole} has no member {member!r}; it holds: {names}", "correct data.member in the job spec"
        )
    return chosen


def _folder(path: Path) -> Iterator[Entry]:
    for parent, folders, names in os.walk(path):  # follows no links
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(parent, name)
            if not name.startswith(".") and file.is_file() and not file.is_symlink():
                yield Entry(file.relative_to(path).as_posix(), file, 0, file.stat().st_size, path.name)


def _tar(source: IO[bytes], path: Path) -> Iterator[Entry]:
    def read(offset: int, length: int) -> bytes:
        source.seek(offset)
        return source.read(length)

    try:
        for member in index_tar(read, os.fstat(source.fileno()).st_size):
            name = _plain(member.name)
            # As in a folder nothing hidden is read: macOS puts a `._name` beside each file.
            if not any(part.startswith(".") and part != ".." for part in name.split("/")):
                yield Entry(name, path, member.offset, member.size, path.name)
    except TarError as error:
        raise DatasetError(f"{path.name} is a damaged tar: {error}", "make it anew") from error


def _plain(name: str) -> str:
    """A name without the `.` that says "here": `tar -cf x.tar .` begins each with one."""
    return "/".join(part for part in name.split("/") if part != ".")


def _capped(found: Iterator[Entry], path: Path) -> Iterator[Entry]:
    for count, entry in enumerate(found):
        if count >= MAX_FILES:
            raise DatasetError(f"{path.name} holds more than {MAX_FILES} files", "pack them into an npz")
        yield entry


class _Range(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, source: io.RawIOBase | io.FileIO, offset: int, size: int) -> None:
        self._source, self._offset, self._size = source, offset, size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("a position before the start of the file")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = max(0, min(len(buffer), self._size - self._at))
        self._source.seek(self._offset + self._at)
        read = self._source.readinto(memoryview(buffer)[:count]) or 0
        self._at += read
        return read

    def close(self) -> None:
        self._source.close()
        super().close()
