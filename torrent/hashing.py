"""Hashes of pieces: SHA-1 (v1), and the SHA-256 tree of the part of a piece that is a file's (v2)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from torrent import merkle
from torrent.errors import LocalError
from torrent.files import File, file_at

_ZEROS = bytes(65_536)


def piece_hash(data: bytes | bytearray | memoryview) -> bytes:
    """The 20-byte v1 hash of one whole piece (BEP 3)."""
    return hashlib.sha1(data, usedforsecurity=False).digest()


class PieceDigest(NamedTuple):
    """``v1``: 20 bytes; ``v2``: 32 bytes, empty where none was asked for."""

    v1: bytes
    v2: bytes = b""


class FilePart(NamedTuple):
    """What of a piece is a file's: its length in bytes, the rest is padding; leaves of its hash tree."""

    length: int
    width: int


def file_part(files: Sequence[File], piece_length: int, start: int, size: int) -> FilePart:
    """The file part of the piece of ``size`` bytes at ``start``; files begin on pieces, as in a hybrid."""
    file = files[file_at(files, start)]
    length = min(file.offset + file.length - start, size)
    return FilePart(length, merkle.piece_width(file.length, piece_length))


def digest_piece(
    files: Sequence[File], piece_length: int, start: int, data: bytes | bytearray | memoryview
) -> PieceDigest:
    """Both hashes of the piece whose first byte is at ``start`` of the stream."""
    length, width = file_part(files, piece_length, start, len(data))
    return PieceDigest(piece_hash(data), merkle.data_root(memoryview(data)[:length], width))


class PieceHasher:
    """Feed a torrent's bytes in order; ``finish`` gives the concatenated 20-byte piece hashes."""

    def __init__(self, piece_length: int) -> None:
        if piece_length <= 0:
            raise LocalError("piece length must be positive")
        self._piece_length = piece_length
        self._room = piece_length
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._hashes = bytearray()

    def update(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        while len(view):
            part = view[: self._room]
            self._sha1.update(part)
            self._room -= len(part)
            view = view[len(part) :]
            if not self._room:
                self._cut()

    def pad(self, length: int) -> None:
        """As ``update`` with ``length`` zero bytes: the contents of a BEP 47 pad file."""
        while length > 0:
            step = min(length, len(_ZEROS))
            self.update(memoryview(_ZEROS)[:step])
            length -= step

    def finish(self) -> bytes:
        if self._room < self._piece_length:
            self._cut()
        return bytes(self._hashes)

    def _cut(self) -> None:
        self._hashes += self._sha1.digest()
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._room = self._piece_length
