"""Metainfo files, ``.torrent`` (BEP 3, pad files of BEP 47, private flag of BEP 27): parse what is untrusted.

A hybrid file (BEP 52) is taken by its v1 half; a file with a v2 half only is refused.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from torrent import bencode
from torrent.bencode import Value
from torrent.bitfield import indexes
from torrent.errors import LocalError, MetainfoError, RemoteError
from torrent.geometry import Geometry
from torrent.hashing import piece_hash
from torrent.paths import check_collisions, decode_component, decode_path

MAX_METAINFO_BYTES = 10_000_000
MAX_PIECES = 1 << 21
MAX_PIECE_LENGTH = 512 << 20
MAX_TOTAL = 1 << 48
HASH = 20
MIN_AUTO_PIECE = 16_384
MAX_AUTO_PIECE = 16 << 20
AUTO_PIECES = 1024
"""About how many pieces ``choose_piece_length`` aims at: some 20 kB of hashes."""

_T = TypeVar("_T", int, bytes, list[Value], dict[bytes, Value])


@dataclass(frozen=True, slots=True)
class File:
    """One file of a torrent.

    ``path`` is relative to the content root: the folder that holds the file for a single-file torrent,
    the folder named ``Metainfo.name`` otherwise. ``offset`` and ``length`` in bytes of the torrent's
    stream. A pad file is zeros that exist in the stream only, never on disk.
    """

    path: tuple[str, ...]
    length: int
    offset: int
    pad: bool = False


class Segment(NamedTuple):
    """A range of one file: index into ``Metainfo.files``, offset in that file, length in bytes."""

    file: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Metainfo:
    """A checked metainfo file. ``raw`` is the file as received, ``info_hash`` the SHA-1 of its raw
    ``info`` value.
    """

    raw: bytes
    info_hash: bytes
    name: str
    files: tuple[File, ...]
    geometry: Geometry
    hashes: bytes
    private: bool
    single_file: bool

    @classmethod
    def parse(cls, data: bytes) -> Metainfo:
        """Raises ``BencodeError`` or ``MetainfoError`` (both ``RemoteError``)."""
        if len(data) > MAX_METAINFO_BYTES:
            raise MetainfoError(f"metainfo of {len(data)} bytes, more than {MAX_METAINFO_BYTES}")
        value, spans = bencode.decode_with_spans(data)
        if not isinstance(value, dict):
            raise MetainfoError("metainfo is not a dictionary")
        info = _get(value, b"info", dict)
        start, end = spans[b"info"]
        files, single = _files(info)
        geometry = _geometry(info, files)
        return cls(
            raw=data,
            info_hash=hashlib.sha1(data[start:end], usedforsecurity=False).digest(),
            name=decode_component(_get(info, b"name", bytes)),
            files=files,
            geometry=geometry,
            hashes=_hashes(info, geometry),
            private=_get(info, b"private", int) == 1 if b"private" in info else False,
            single_file=single,
        )

    @property
    def hex(self) -> str:
        """The info-hash as 40 hexadecimal digits."""
        return self.info_hash.hex()

    @property
    def total_length(self) -> int:
        return self.geometry.total_length

    @property
    def piece_length(self) -> int:
        return self.geometry.piece_length

    @property
    def piece_count(self) -> int:
        return self.geometry.piece_count

    @property
    def content_length(self) -> int:
        """Bytes of all files without padding."""
        return sum(file.length for file in self.files if not file.pad)

    def piece_size(self, index: int) -> int:
        return self.geometry.piece_size(index)

    def piece_hash(self, index: int) -> bytes:
        self.geometry.piece_size(index)
        return self.hashes[index * HASH : (index + 1) * HASH]

    def file_pieces(self, file: int) -> range:
        """The pieces that hold at least one byte of the file."""
        entry = self.files[file]
        if not entry.length:
            return range(0)
        first = entry.offset // self.piece_length
        return range(first, (entry.offset + entry.length - 1) // self.piece_length + 1)

    def verify_piece(self, index: int, data: bytes | bytearray | memoryview) -> bool:
        """Whether ``data`` is exactly piece ``index``; its hash is compared (let a thread do it)."""
        return len(data) == self.piece_size(index) and piece_hash(data) == self.piece_hash(index)

    def wanted_mask(self, files: Iterable[int] | None) -> int:
        """Bit mask of the pieces that the given files need (``None``: every piece)."""
        if files is None:
            return (1 << self.piece_count) - 1
        mask = 0
        for file in files:
            if not 0 <= file < len(self.files):
                raise LocalError(f"no file {file}")
            span = self.file_pieces(file)
            mask |= ((1 << len(span)) - 1) << span.start
        return mask

    def pieces_of(self, files: Iterable[int] | None) -> frozenset[int]:
        """The pieces that the given files need (``None``: all)."""
        return frozenset(indexes(self.wanted_mask(files)))

    def segments(self, index: int, begin: int = 0, length: int | None = None) -> Iterator[Segment]:
        """Where the bytes ``begin … begin + length`` of a piece lie, in order, pad files included."""
        size = self.piece_size(index)
        length = size - begin if length is None else length
        if begin < 0 or length < 0 or begin + length > size:
            raise LocalError(f"range {begin}+{length} outside piece {index}")
        at = index * self.piece_length + begin
        file = bisect_right(self.files, at, key=lambda entry: entry.offset) - 1
        while length:
            entry = self.files[file]
            take = min(length, entry.offset + entry.length - at)
            if take > 0:
                yield Segment(file, at - entry.offset, take)
                at += take
                length -= take
            file += 1


def _get(table: dict[bytes, Value], key: bytes, kind: type[_T]) -> _T:
    value = table.get(key)
    if not isinstance(value, kind):
        state = "missing" if value is None else "of the wrong type"
        raise MetainfoError(f"{key.decode()!r} is {state}")
    return value


def _files(info: dict[bytes, Value]) -> tuple[tuple[File, ...], bool]:
    if (b"length" in info) == (b"files" in info):
        if b"length" not in info and info.get(b"meta version") == 2:
            raise MetainfoError("a v2-only torrent (BEP 52); only v1 and hybrid ones are supported")
        raise MetainfoError("needs exactly one of 'length' and 'files'")
    if b"length" in info:
        name = decode_component(_get(info, b"name", bytes))
        return (File((name,), _length(info), 0),), True
    entries = _get(info, b"files", list)
    if not entries:
        raise MetainfoError("empty list of files")
    files: list[File] = []
    offset = 0
    for entry in entries:
        if (file := _file(entry, offset)) is not None:
            files.append(file)
            offset += file.length
    check_collisions(file.path for file in files if not file.pad)
    return tuple(files), False


def _file(entry: Value, offset: int) -> File | None:
    """One entry of ``files``; ``None`` for a symbolic link (BEP 47), which holds no bytes and is never
    made.
    """
    if not isinstance(entry, dict):
        raise MetainfoError("an entry of 'files' is not a dictionary")
    attributes = _get(entry, b"attr", bytes) if b"attr" in entry else b""
    parts = _get(entry, b"path", list)
    if not all(isinstance(part, bytes) for part in parts):
        raise MetainfoError("a path component is not a string")
    path = decode_path(part for part in parts if isinstance(part, bytes))
    if b"l" in attributes:
        return None
    return File(path, _length(entry), offset, pad=b"p" in attributes)


def _length(table: dict[bytes, Value]) -> int:
    length = _get(table, b"length", int)
    if not 0 <= length <= MAX_TOTAL:
        raise MetainfoError(f"file length {length}")
    return length


def _geometry(info: dict[bytes, Value], files: tuple[File, ...]) -> Geometry:
    piece_length = _get(info, b"piece length", int)
    if not 0 < piece_length <= MAX_PIECE_LENGTH:
        raise MetainfoError(f"piece length {piece_length}")
    total = sum(file.length for file in files)
    if not 0 < total <= MAX_TOTAL:
        raise MetainfoError(f"total length {total}")
    geometry = Geometry(total, piece_length)
    if geometry.piece_count > MAX_PIECES:
        raise MetainfoError(f"{geometry.piece_count} pieces, more than {MAX_PIECES}")
    return geometry


def _hashes(info: dict[bytes, Value], geometry: Geometry) -> bytes:
    hashes = _get(info, b"pieces", bytes)
    if len(hashes) != geometry.piece_count * HASH:
        raise MetainfoError(f"{len(hashes)} bytes of hashes for {geometry.piece_count} pieces")
    return hashes


def choose_piece_length(total: int) -> int:
    """A power of two from 16 KiB to 16 MiB that cuts ``total`` bytes into about a thousand pieces."""
    length = MIN_AUTO_PIECE
    while length < MAX_AUTO_PIECE and length * AUTO_PIECES < total:
        length *= 2
    return length


def plan(
    files: Sequence[tuple[tuple[str, ...], int]], piece_length: int, *, align: bool = True
) -> tuple[File, ...]:
    """Lay out a torrent's stream; hash it in exactly this order.

    ``files``: paths below the content root and lengths in bytes. ``align`` puts pad files (BEP 47)
    between them so that each starts on a piece boundary.
    """
    if piece_length <= 0:
        raise LocalError("piece length must be positive")
    placed: list[File] = []
    offset = 0
    for position, (path, length) in enumerate(files):
        if length < 0:
            raise LocalError(f"negative length of {'/'.join(path)!r}")
        placed.append(File(path, length, offset))
        offset += length
        gap = -offset % piece_length
        if align and gap and position + 1 < len(files):
            placed.append(File((".pad", str(gap)), gap, offset, pad=True))
            offset += gap
    return tuple(placed)


def create(
    name: str,
    files: Sequence[File],
    piece_length: int,
    pieces: bytes,
    *,
    single_file: bool = False,
    private: bool = False,
    comment: str = "",
) -> Metainfo:
    """Build and check a metainfo file.

    ``files`` as ``plan`` laid them out, ``pieces`` the concatenated hashes of that stream
    (``PieceHasher.finish``). ``single_file`` writes the one file under ``name`` itself, without a
    folder. Raises ``LocalError`` when the result would not pass ``Metainfo.parse``.
    """
    info: dict[bytes, Value] = {
        b"name": _utf8(name),
        b"piece length": piece_length,
        b"pieces": bytes(pieces),
    }
    if private:
        info[b"private"] = 1
    if single_file:
        if len(files) != 1:
            raise LocalError(f"{len(files)} files in a single-file torrent")
        info[b"length"] = files[0].length
    else:
        info[b"files"] = [_entry(file) for file in files]
    outer: dict[bytes, Value] = {b"created by": b"p2pml", b"info": info}
    if comment:
        outer[b"comment"] = _utf8(comment)
    try:
        return Metainfo.parse(bencode.encode(outer))
    except RemoteError as error:
        raise LocalError(f"cannot make a torrent of this: {error}") from error


def _entry(file: File) -> Value:
    entry: dict[bytes, Value] = {b"length": file.length, b"path": [_utf8(part) for part in file.path]}
    if file.pad:
        entry[b"attr"] = b"p"
    return entry


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:  # a file name of this machine that is no text (surrogate escapes)
        raise LocalError(f"{text!r} cannot be written as UTF-8") from error
