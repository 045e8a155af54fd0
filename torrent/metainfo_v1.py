"""The v1 half of an ``info`` dictionary (BEP 3, attributes of BEP 47): files, geometry, SHA-1 hashes."""

from __future__ import annotations

from torrent.bencode import Value
from torrent.errors import MetainfoError
from torrent.files import File
from torrent.geometry import Geometry
from torrent.metainfo_fields import MAX_TOTAL, attributes, field, file_length
from torrent.paths import check_collisions, decode_component, decode_path

HASH = 20
MAX_PIECES = 1 << 21
MAX_PIECE_LENGTH = 512 << 20


def parse_files(info: dict[bytes, Value]) -> tuple[tuple[File, ...], bool]:
    """The files, laid out, and whether it is a single-file torrent. Raises ``MetainfoError``."""
    if (b"length" in info) == (b"files" in info):
        if b"length" not in info and info.get(b"meta version") == 2:
            raise MetainfoError("a v2-only torrent (BEP 52); only v1 and hybrid ones are supported")
        raise MetainfoError("needs exactly one of 'length' and 'files'")
    if b"length" in info:
        name = decode_component(field(info, b"name", bytes))
        return (File((name,), file_length(info), 0),), True
    entries = field(info, b"files", list)
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
    letters = attributes(entry)
    parts = field(entry, b"path", list)
    if not all(isinstance(part, bytes) for part in parts):
        raise MetainfoError("a path component is not a string")
    path = decode_path(part for part in parts if isinstance(part, bytes))
    if b"l" in letters:
        return None
    return File(path, file_length(entry), offset, pad=b"p" in letters)


def parse_geometry(info: dict[bytes, Value], files: tuple[File, ...]) -> Geometry:
    """Raises ``MetainfoError`` for lengths out of bounds and for a torrent without data."""
    piece_length = field(info, b"piece length", int)
    if not 0 < piece_length <= MAX_PIECE_LENGTH:
        raise MetainfoError(f"piece length {piece_length}")
    total = sum(file.length for file in files)
    if not any(file.length for file in files if not file.pad):
        raise MetainfoError("no file holds any data")
    if total > MAX_TOTAL:
        raise MetainfoError(f"total length {total}")
    geometry = Geometry(total, piece_length)
    if geometry.piece_count > MAX_PIECES:
        raise MetainfoError(f"{geometry.piece_count} pieces, more than {MAX_PIECES}")
    return geometry


def parse_hashes(info: dict[bytes, Value], geometry: Geometry) -> bytes:
    """The pieces' SHA-1 hashes, joined. Raises ``MetainfoError``."""
    hashes = field(info, b"pieces", bytes)
    if len(hashes) % HASH:
        raise MetainfoError(f"'pieces' has {len(hashes)} bytes, not a multiple of {HASH}")
    if len(hashes) != geometry.piece_count * HASH:
        raise MetainfoError(f"{len(hashes) // HASH} hashes for {geometry.piece_count} pieces")
    return hashes
