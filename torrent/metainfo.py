"""Metainfo files, ``.torrent`` (BEP 3, BEP 27's private flag, BEP 47's attributes, BEP 52's hybrids): parse
what is untrusted, make our own.

A hybrid file is known by its v1 info-hash; its v2 half is checked against the v1 half and verifies pieces
too. A file with a v2 half only is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torrent import bencode, merkle, metainfo_v2
from torrent.bencode import Span, Value
from torrent.bitfield import indexes
from torrent.errors import LocalError, MetainfoError, RemoteError
from torrent.files import File, Segment, file_at
from torrent.geometry import BLOCK, Geometry
from torrent.hashing import file_part, piece_hash
from torrent.metainfo_fields import field
from torrent.metainfo_v1 import HASH, parse_files, parse_geometry, parse_hashes
from torrent.metainfo_v2 import V2, is_hybrid, parse_v2
from torrent.paths import decode_component

MAX_METAINFO_BYTES = 10_000_000
MIN_AUTO_PIECE = BLOCK
MAX_AUTO_PIECE = 16 << 20
AUTO_PIECES = 1024
"""About how many pieces ``choose_piece_length`` aims at: some 20 kB of hashes."""


@dataclass(frozen=True, slots=True)
class Metainfo:
    """A checked metainfo file. ``raw`` is the file as received, ``info_hash`` the SHA-1 of its raw
    ``info`` value, which lies at ``info_span`` of it, ``hashes`` the pieces' SHA-1 hashes, joined, ``v2``
    the second half of a hybrid.
    """

    raw: bytes
    info_hash: bytes
    name: str
    files: tuple[File, ...]
    geometry: Geometry
    hashes: bytes
    private: bool
    single_file: bool
    info_span: Span
    v2: V2 | None = None

    @classmethod
    def parse(cls, data: bytes) -> Metainfo:
        """Raises ``BencodeError`` or ``MetainfoError`` (both ``RemoteError``)."""
        if len(data) > MAX_METAINFO_BYTES:
            raise MetainfoError(f"metainfo of {len(data)} bytes, more than {MAX_METAINFO_BYTES}")
        value, spans = bencode.decode_with_spans(data)
        if not isinstance(value, dict):
            raise MetainfoError("metainfo is not a dictionary")
        info = field(value, b"info", dict)
        start, end = spans[b"info"]
        raw_info = memoryview(data)[start:end]
        hybrid = is_hybrid(info)
        files, single = parse_files(info)
        geometry = parse_geometry(info, files)
        return cls(
            raw=data,
            info_hash=hashlib.sha1(raw_info, usedforsecurity=False).digest(),
            name=decode_component(field(info, b"name", bytes)),
            files=files,
            geometry=geometry,
            hashes=parse_hashes(info, geometry),
            private=field(info, b"private", int) == 1 if b"private" in info else False,
            single_file=single,
            info_span=(start, end),
            v2=parse_v2(value, info, raw_info, files, geometry) if hybrid else None,
        )

    @property
    def hex(self) -> str:
        """The info-hash as 40 hexadecimal digits."""
        return self.info_hash.hex()

    @property
    def raw_info(self) -> memoryview:
        """The info dictionary as received."""
        start, end = self.info_span
        return memoryview(self.raw)[start:end]

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
        """Whether ``data`` is exactly piece ``index``; its hashes are compared (let a thread do it).

        Raises ``MetainfoError`` when the halves of a hybrid contradict each other about it: then no bytes
        are right for both, and whoever sent these is not to blame.
        """
        if len(data) != self.piece_size(index):
            return False
        right = piece_hash(data) == self.piece_hash(index)
        if self.v2 is not None and self._verify_v2(self.v2, index, data) != right:
            raise MetainfoError(f"the v1 and v2 hashes of piece {index} contradict each other")
        return right

    def _verify_v2(self, v2: V2, index: int, data: bytes | bytearray | memoryview) -> bool:
        length, width = file_part(self.files, self.piece_length, index * self.piece_length, len(data))
        view = memoryview(data)
        # v2 hashes leave padding out: without a look at it a peer could make the halves seem to disagree
        return merkle.data_root(view[:length], width) == v2.piece_hash(index) and not any(view[length:])

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
        file = file_at(self.files, at)
        while length:
            entry = self.files[file]
            take = min(length, entry.offset + entry.length - at)
            if take > 0:
                yield Segment(file, at - entry.offset, take)
                at += take
                length -= take
            file += 1


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
    before those with data so that each of them starts on a piece boundary, as libtorrent does.
    """
    if piece_length <= 0:
        raise LocalError("piece length must be positive")
    placed: list[File] = []
    offset = 0
    for path, length in files:
        if length < 0:
            raise LocalError(f"negative length of {'/'.join(path)!r}")
        gap = -offset % piece_length
        if align and length and gap:
            placed.append(File((".pad", str(gap)), gap, offset, pad=True))
            offset += gap
        placed.append(File(path, length, offset))
        offset += length
    return tuple(placed)


def create(
    name: str,
    files: Sequence[File],
    piece_length: int,
    pieces: bytes,
    *,
    pieces_v2: bytes | None = None,
    single_file: bool = False,
    private: bool = False,
    comment: str = "",
) -> Metainfo:
    """Build and check a metainfo file.

    ``files`` as ``plan`` laid them out, ``pieces`` the concatenated hashes of that stream
    (``PieceHasher.finish``). ``pieces_v2`` makes a hybrid: the concatenated roots of the pieces
    (``merkle.data_root``), of files that are aligned and in the order of their paths. ``single_file``
    writes the one file under ``name`` itself, without a folder. Raises ``LocalError`` when the result
    would not pass ``Metainfo.parse``.
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
    if pieces_v2 is not None:
        info[b"meta version"] = metainfo_v2.META_VERSION
        info[b"file tree"], outer[b"piece layers"] = metainfo_v2.build(files, piece_length, pieces_v2)
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


__all__ = [
    "HASH",
    "MAX_METAINFO_BYTES",
    "File",
    "Metainfo",
    "Segment",
    "choose_piece_length",
    "create",
    "plan",
]
