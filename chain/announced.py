"""Sealed headers on their way: which were passed on, and which wait for their parent. Bounded; no clock."""

from __future__ import annotations

from chain.header import SealedHeader
from chain.recent import Recent

MAX_SLOTS = 4096
MAX_WAITING = 64


class Announced:
    """The headers that were passed on, by proposer and slot."""

    def __init__(self) -> None:
        self._ids: Recent[tuple[bytes, int], tuple[bytes, ...]] = Recent(MAX_SLOTS)

    def add(self, sealed: SealedHeader) -> None:
        """Remember; the oldest slots are forgotten first."""
        if not self.has(sealed):
            self._ids.put(_key(sealed), (*self._of(sealed), sealed.block_id))

    def has(self, sealed: SealedHeader) -> bool:
        """Whether this header, under whatever seal, was passed on."""
        return sealed.block_id in self._of(sealed)

    def count(self, sealed: SealedHeader) -> int:
        """How many headers of the same proposer for the same slot were passed on."""
        return len(self._of(sealed))

    def _of(self, sealed: SealedHeader) -> tuple[bytes, ...]:
        return self._ids.get(_key(sealed)) or ()


class Waiting:
    """Headers that came before their parents, each with who sent it; the oldest leave first."""

    def __init__(self) -> None:
        self._headers: dict[bytes, tuple[SealedHeader, str]] = {}

    def __len__(self) -> int:
        return len(self._headers)

    def add(self, sealed: SealedHeader, peer: str, limit: int) -> bool:
        """Keep a header; False if it waits here already, or `limit` others of its proposer and slot do."""
        rivals = sum(_key(other) == _key(sealed) for other, _ in self._headers.values())
        if sealed.block_id in self._headers or rivals >= limit:
            return False
        self._headers[sealed.block_id] = sealed, peer
        if len(self._headers) > MAX_WAITING:
            del self._headers[next(iter(self._headers))]
        return True

    def has(self, block_id: bytes) -> bool:
        """Whether the header of this block waits here."""
        return block_id in self._headers

    def release(self, parent: bytes) -> tuple[tuple[SealedHeader, str], ...]:
        """Take out the headers that waited for `parent`."""
        found = tuple(entry for entry in self._headers.values() if entry[0].prev == parent)
        for sealed, _ in found:
            del self._headers[sealed.block_id]
        return found


def _key(sealed: SealedHeader) -> tuple[bytes, int]:
    return sealed.proposer, sealed.timestamp_ms
