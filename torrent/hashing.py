"""SHA-1 over pieces of a byte stream."""

from __future__ import annotations

import hashlib

from torrent.errors import LocalError

_ZEROS = bytes(65_536)


def piece_hash(data: bytes | bytearray | memoryview) -> bytes:
    """The 20-byte v1 hash of one whole piece (BEP 3)."""
    return hashlib.sha1(data, usedforsecurity=False).digest()


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
