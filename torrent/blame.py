"""Who lied: find the sender of a false block among the several senders of a piece ("smart ban").

A failed piece from one sender convicts it. From several, a digest of each block is kept with its sender;
when the piece has come right, whoever sent a block that differs from the right one is convicted.
"""

from __future__ import annotations

import hashlib

from torrent.geometry import BLOCK
from torrent.partial import Partial

MAX_PIECES = 256
"""Failed pieces remembered at once; beyond, the oldest is forgotten."""


def _digest(data: memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


class Blame:
    def __init__(self) -> None:
        self._suspects: dict[int, set[tuple[int, str, bytes]]] = {}

    def failed(self, piece: Partial) -> set[str]:
        """The piece's hash was wrong. Returns the convicted."""
        sources = piece.sources()
        if len(sources) <= 1:
            return sources
        if piece.index not in self._suspects and len(self._suspects) >= MAX_PIECES:
            del self._suspects[next(iter(self._suspects))]
        notes = self._suspects.setdefault(piece.index, set())
        for number, (sender, data) in enumerate(piece.received()):
            notes.add((number, sender, _digest(data)))
        return set()

    def verified(self, piece: Partial) -> set[str]:
        """The piece is right now. Returns those who sent a wrong block of it earlier."""
        notes = self._suspects.pop(piece.index, None)
        if not notes:
            return set()
        view = memoryview(piece.data)
        right = {number: _digest(view[number * BLOCK : (number + 1) * BLOCK]) for number, _, _ in notes}
        return {sender for number, sender, digest in notes if digest != right[number]}

    def forget(self, index: int) -> None:
        """The piece came from elsewhere: its suspects cannot be judged."""
        self._suspects.pop(index, None)
