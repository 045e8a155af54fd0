"""Makes a torrent of files on this machine: lists them, hashes them in threads, writes the metainfo."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from p2pml.errors import UserError
from p2pml.storage.payload import Payload, PayloadFile, Stamp
from torrent.errors import LocalError
from torrent.hashing import PieceDigest, digest_piece, piece_hash
from torrent.metainfo import HASH, File, Metainfo, choose_piece_length, create, plan
from torrent.metainfo_v1 import MAX_PIECES
from torrent.tracker import with_trackers

_MAX_FILES = 200_000


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to be seeded: its path in the torrent, where it lies (absolute, links resolved), its stamp."""

    path: tuple[str, ...]
    place: Path
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Source:
    """What is to become one torrent.

    Args:
        name: the torrent's name.
        files: in the order in which they go into the torrent.
        single: one file that the torrent is named after, and no folder.
    """

    name: str
    files: tuple[SourceFile, ...]
    single: bool = False

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.stamp.size for file in self.files)


@dataclass(frozen=True, slots=True)
class Seeded:
    """A torrent of local files; `places` and `stamps` by file index, pad files left out."""

    metainfo: Metainfo
    places: dict[int, Path]
    stamps: dict[int, Stamp]


def scan(path: Path, name: str | None = None) -> Source:
    """List a file, or everything below a folder, in the order of its paths.

    Symbolic links inside a folder are left out, since what they point to is not in it.

    Raises:
        UserError: it is not there, unreadable, empty, or neither a file nor a folder.
    """
    try:
        place = path.expanduser().resolve(strict=True)
        info = place.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    name = name if name is not None else path.expanduser().absolute().name
    if stat.S_ISREG(info.st_mode):
        return _checked(Source(name, (SourceFile((name,), place, Stamp.of(place)),), single=True), path)
    if not stat.S_ISDIR(info.st_mode):
        raise UserError(f"{path} is neither a file nor a folder", "name a file or a folder")
    return _checked(Source(name, tuple(_walk(place, ()))), path)


def listed(name: str, files: Sequence[tuple[str, Path]]) -> Source:
    """The files of a torrent, given as (relative name with `/`, place).

    Raises:
        UserError: a file is not there, or there is none.
    """
    found = []
    for relative, path in files:
        try:
            place = path.resolve(strict=True)
            found.append(SourceFile(tuple(relative.split("/")), place, Stamp.of(place)))
        except OSError as error:
            raise _unreadable(path, error) from error
    return _checked(Source(name, tuple(found)), Path(name))


@dataclass(frozen=True, slots=True)
class Making:
    """How a torrent is made.

    Args:
        hybrid: with a v2 half (BEP 52) beside the v1 half; needs files in the order of their paths (`scan`).
        private: BEP 27's flag.
        piece_length: bytes, a power of two from 16 KiB up; None to choose by size.
        trackers: HTTP addresses, each a tier of its own (BEP 12).
    """

    hybrid: bool = True
    private: bool = False
    piece_length: int | None = None
    trackers: tuple[str, ...] = ()


_DEFAULT = Making()


def make_torrent(
    source: Source,
    making: Making = _DEFAULT,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Seeded:
    """Hash the files and write their metainfo: each file starts on a piece, so each can be fetched alone.

    Blocks; hashes in a thread per processor, SHA-1 and SHA-256 in one pass over the data.

    Args:
        progress: called with (bytes hashed, bytes in all).
        cancelled: asked now and then; True ends it with InterruptedError.

    Raises:
        UserError: a file cannot be read or changed meanwhile, or has a name that no torrent can hold.
    """
    piece_length = choose_piece_length(source.size) if making.piece_length is None else making.piece_length
    try:
        files = plan([(file.path, file.stamp.size) for file in source.files], piece_length)
        real = [index for index, file in enumerate(files) if not file.pad]
        seeded_files = dict(zip(real, source.files, strict=True))
        places = {index: file.place for index, file in seeded_files.items()}
        count = -(-(files[-1].offset + files[-1].length) // piece_length)
        if count > MAX_PIECES:
            raise LocalError(f"{count} pieces, more than {MAX_PIECES}")
        finish = partial(
            create, source.name, files, piece_length, single_file=source.single, private=making.private
        )
        # a name or tracker that cannot be is told before all the hashing, not after
        with_trackers(finish(bytes(count * HASH)), making.trackers)
        digests = _hash(files, places, piece_length, making.hybrid, progress, cancelled)
        _check_unchanged(source.files)
        metainfo = finish(
            b"".join(digest.v1 for digest in digests),
            pieces_v2=b"".join(digest.v2 for digest in digests) if making.hybrid else None,
        )
        metainfo = with_trackers(metainfo, making.trackers)
    except LocalError as error:
        raise UserError(
            f"{source.name!r} cannot become a torrent: {error}",
            "rename what is named there; a longer piece length, or one tar of many files, makes it smaller",
        ) from error
    return Seeded(metainfo, places, {index: file.stamp for index, file in seeded_files.items()})


def _check_unchanged(files: Iterable[SourceFile]) -> None:
    for file in files:
        try:
            same = Stamp.of(file.place) == file.stamp
        except OSError as error:
            raise _unreadable(file.place, error) from error
        if not same:
            raise UserError(
                f"{file.place} changed while it was hashed", "seed it again when nothing writes to it"
            )


def _hash(
    files: Sequence[File],
    places: dict[int, Path],
    piece_length: int,
    hybrid: bool,
    progress: Callable[[int, int], None] | None,
    cancelled: Callable[[], bool],
) -> list[PieceDigest]:
    ranges = [PayloadFile(file.path, file.offset, file.length, file.pad) for file in files]
    payload = Payload(Path("/"), ranges, places, frozenset())
    total = ranges[-1].end

    def digest(start: int) -> PieceDigest:
        if cancelled():
            raise InterruptedError
        data = payload.read(start, min(piece_length, total - start))
        return digest_piece(files, piece_length, start, data) if hybrid else PieceDigest(piece_hash(data))

    digests = []
    with ThreadPoolExecutor(os.cpu_count() or 1, "hash") as threads:
        for number, value in enumerate(threads.map(digest, range(0, total, piece_length)), start=1):
            digests.append(value)
            if progress is not None:
                progress(min(number * piece_length, total), total)
    return digests


def _walk(folder: Path, above: tuple[str, ...]) -> list[SourceFile]:
    found: list[SourceFile] = []
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                place, path = folder / entry.name, (*above, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    found += _walk(place, path)
                elif entry.is_file(follow_symlinks=False):
                    found.append(SourceFile(path, place, Stamp.of(place)))
                if len(found) > _MAX_FILES:
                    raise UserError(
                        f"{folder} holds more than {_MAX_FILES} files", "pack them into one tar file"
                    )
    except OSError as error:
        raise _unreadable(folder, error) from error
    return found


def _checked(source: Source, path: Path) -> Source:
    if source.size == 0:
        raise UserError(f"{path} holds no data", "name a file or folder with something in it")
    if not 0 < len(source.name) <= 200 or not source.name.isprintable() or "/" in source.name:
        raise UserError(
            f"{source.name!r} is no name for a data set", "give it 1 to 200 printable characters without /"
        )
    return source


def _unreadable(path: Path, error: OSError) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(f"there is no file or folder {path}", "check the path")
    return UserError(f"{path} cannot be read: {error.strerror or error}", "check the path and its rights")
