"""A bounded memory: the latest entries, the oldest forgotten first."""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A dictionary of at most `size` entries."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: dict[K, V] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The value, or None."""
        return self._entries.get(key)

    def pop(self, key: K) -> V | None:
        """Forget an entry; returns its value, or None."""
        return self._entries.pop(key, None)

    def items(self) -> tuple[tuple[K, V], ...]:
        """All entries, oldest first."""
        return tuple(self._entries.items())

    def put(self, key: K, value: V) -> None:
        """Remember; forgets the oldest entry when full."""
        self._entries.pop(key, None)
        self._entries[key] = value
        if len(self._entries) > self._size:
            del self._entries[next(iter(self._entries))]
