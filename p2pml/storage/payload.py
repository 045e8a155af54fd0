"""The files of one torrent as one range of bytes on disk.

Three places for a file: the user's own file when it is seeded in place (only read), `content/` for a file
that is wanted, and `parts/<index>` for the few bytes of an unwanted file that share a piece with a wanted
one. Pad files (BEP 47) are zeros that never reach the disk. Every path is walked from the root with
O_NOFOLLOW, so a symbolic link that somebody planted inside the folder cannot lead out of it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from p2pml.errors import UserError

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class PayloadFile:
    """One file of a torrent: its path below `content/`, its start in the payload and its length in bytes."""

    path: tuple[str, ...]
    start: int
    length: int
    pad: bool = False

    @property
    def end(self) -> int:
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a finished file looked like, to see that somebody changed it: size in bytes, mtime in ns."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """The stamp of a file, of what it points to when it is a link."""
        info = os.stat(path)
        return cls(info.st_size, info.st_mtime_ns)


class Payload:
    """Reads and writes ranges of a torrent's bytes.

    Args:
        root: the torrent's folder; `content/` and `parts/` are below it.
        files: the torrent's files in order, their ranges touch.
        references: files that live elsewhere, by index; they are read there and never written.
        placed: indexes of the files that live in `content/`; the rest is in `parts/`.
    """

    def __init__(
        self,
        root: Path,
        files: Sequence[PayloadFile],
        references: Mapping[int, Path],
        placed: frozenset[int],
    ) -> None:
        self.root = root
        self.files = tuple(files)
        self._references = dict(references)
        self._placed = set(placed)
        self.stamps: dict[int, Stamp] = {}
        """Stamps of finished files; a read of one that changed since is refused."""

    @property
    def placed(self) -> frozenset[int]:
        return frozenset(self._placed)

    def location(self, index: int) -> Path:
        """Where a file is, or will be once a byte of it is written."""
        reference = self._references.get(index)
        return reference if reference is not None else self.root.joinpath(*self._inside(index))

    def overlapping(self, start: int, length: int) -> Iterator[tuple[int, int, int]]:
        """The parts of a range: (file index, offset in that file, length); empty files are left out."""
        end = start + length
        for index in range(self._first(start), len(self.files)):
            file = self.files[index]
            if file.start >= end:
                return
            low, high = max(start, file.start), min(end, file.end)
            if low < high:
                yield index, low - file.start, high - low

    def read(self, start: int, length: int) -> bytes:
        """The bytes of a range.

        Raises:
            UserError: a file is missing, too short, or changed since it was finished.
        """
        parts: list[bytes] = []
        for index, offset, size in self.overlapping(start, length):
            if self.files[index].pad:
                parts.append(bytes(size))
                continue
            try:
                with self._opened(index, os.O_RDONLY) as handle:
                    self._check_stamp(index, handle)
                    parts.append(_read_all(handle, offset, size))
            except (OSError, EOFError) as error:
                raise self._unreadable(index, error) from error
        return b"".join(parts)

    def write(self, ranges: Iterable[tuple[int, bytes | bytearray]]) -> None:
        """Put bytes into their files, given as (start, bytes); returns when they are synced.

        Each file is synced once, so that many small pieces together cost little more than one.

        Raises:
            OSError: the disk is full or a file cannot be written.
        """
        by_file: dict[int, list[tuple[int, memoryview]]] = {}
        for start, data in ranges:
            done = 0
            for index, offset, size in self.overlapping(start, len(data)):
                if not self.files[index].pad:
                    view = memoryview(data)[done : done + size]
                    by_file.setdefault(index, []).append((offset, view))
                done += size
        for index, parts in by_file.items():
            self._write_file(index, parts)

    def place(self, index: int) -> None:
        """Make `content/` the place of a file; bytes that were kept in `parts/` move there.

        Raises:
            OSError: the file or its folders cannot be made.
        """
        file = self.files[index]
        if index in self._placed or index in self._references or file.pad:
            return
        kept = self.root.joinpath(*self._inside(index))
        self._placed.add(index)
        if kept.exists():
            with self._folder(self._inside(index)[:-1], create=True) as folder:
                os.replace(kept, self._inside(index)[-1], dst_dir_fd=folder)
                os.fsync(folder)
            return
        with self._opened(index, os.O_RDWR | os.O_CREAT, create=True) as handle:
            if os.fstat(handle).st_size != file.length:
                os.ftruncate(handle, file.length)  # sparse: takes no space yet
                os.fsync(handle)

    def allocated(self, index: int) -> int:
        """Bytes of disk that a file takes now."""
        try:
            return self.location(index).stat().st_blocks * 512
        except OSError:
            return 0

    def stamp(self, index: int) -> Stamp | None:
        """What a file looks like now; None when it is not there."""
        try:
            return Stamp.of(self.location(index))
        except OSError:
            return None

    def filled(self, index: int) -> list[tuple[int, int]]:
        """The ranges of the payload in which a file holds data, as (start, end); holes are left out."""
        file = self.files[index]
        ranges: list[tuple[int, int]] = []
        if file.pad or file.length == 0:
            return ranges
        try:
            with self._opened(index, os.O_RDONLY) as handle:
                low = 0
                while low < file.length:
                    low = os.lseek(handle, low, os.SEEK_DATA)
                    high = min(os.lseek(handle, low, os.SEEK_HOLE), file.length)
                    if low < high:
                        ranges.append((file.start + low, file.start + high))
                    low = high
        except OSError as error:
            if error.errno not in (errno.ENXIO, errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
        return ranges

    def _first(self, start: int) -> int:
        low, high = 0, len(self.files)
        while low < high:
            middle = (low + high) // 2
            if self.files[middle].end <= start:
                low = middle + 1
            else:
                high = middle
        return low

    def _inside(self, index: int) -> tuple[str, ...]:
        if index in self._placed:
            return ("content", *self.files[index].path)
        return ("parts", str(index))

    def _write_file(self, index: int, parts: list[tuple[int, memoryview]]) -> None:
        if index in self._references:
            raise PermissionError(
                errno.EPERM, "a file seeded in place is never written", str(self.location(index))
            )
        length = self.files[index].length
        with self._opened(index, os.O_RDWR | os.O_CREAT, create=True) as handle:
            if os.fstat(handle).st_size != length:
                os.ftruncate(handle, length)
                os.fsync(handle)
            for offset, data in parts:
                while data:
                    count = os.pwrite(handle, data, offset)
                    data, offset = data[count:], offset + count
            os.fdatasync(handle)

    @contextmanager
    def _opened(self, index: int, flags: int, create: bool = False) -> Iterator[int]:
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC
        reference = self._references.get(index)
        if reference is not None:
            handle = os.open(reference, flags)
        else:
            path = self._inside(index)
            with self._folder(path[:-1], create) as folder:
                handle = os.open(path[-1], flags, 0o644, dir_fd=folder)
                if create and os.fstat(handle).st_size == 0:
                    os.fsync(folder)  # a new name must survive power loss as its data does
        try:
            yield handle
        finally:
            os.close(handle)

    @contextmanager
    def _folder(self, path: tuple[str, ...], create: bool) -> Iterator[int]:
        """An open handle of a folder below the root, with no link on the way."""
        handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in path:
                below = _step(handle, name, create)
                os.close(handle)
                handle = below
            yield handle
        finally:
            os.close(handle)

    def _check_stamp(self, index: int, handle: int) -> None:
        stamp = self.stamps.get(index)
        if stamp is None:
            return
        info = os.fstat(handle)
        if (info.st_size, info.st_mtime_ns) != (stamp.size, stamp.mtime_ns):
            raise UserError(
                f"{self.location(index)} was changed after it was offered or fetched",
                "seed it again under a new name, or remove the data set and fetch it anew",
            )

    def _unreadable(self, index: int, error: OSError | EOFError) -> UserError:
        reason = error.strerror or "cannot be read" if isinstance(error, OSError) else "it became shorter"
        return UserError(
            f"{self.location(index)} of a data set cannot be read: {reason}",
            "put the file back and restart the node, or remove the data set",
        )


def _step(handle: int, name: str, create: bool) -> int:
    try:
        return os.open(name, _FOLDER_FLAGS, dir_fd=handle)
    except FileNotFoundError:
        if not create:
            raise
        os.mkdir(name, 0o755, dir_fd=handle)
        os.fsync(handle)
        return os.open(name, _FOLDER_FLAGS, dir_fd=handle)


def _read_all(handle: int, offset: int, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = os.pread(handle, size, offset)
        if not part:
            raise EOFError
        parts.append(part)
        offset, size = offset + len(part), size - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
