"""When something that failed may be tried again: waits that double, with some chance in them.

One mechanism for all dials: of peers, of a peer's addresses, of a swarm's candidates.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

FIRST_S = 1.0
MOST_S = 60.0
MAX_KEYS = 4096
_SPREAD = 0.25

K = TypeVar("K")


@dataclass(slots=True)
class _Entry:
    failures: int
    wait: float
    not_before: float


class Backoff(Generic[K]):
    """Failures in a row of each key, and until when it rests.

    Args:
        first: seconds of the first wait; each failure doubles it.
        most: the longest wait.
        rng: spreads each wait by a quarter, so that many who lost the same peer do not return together; None
            for exact waits.
        keys: that are remembered; who failed longest ago is forgotten first.
    """

    def __init__(
        self,
        first: float = FIRST_S,
        most: float = MOST_S,
        rng: random.Random | None = None,
        keys: int = MAX_KEYS,
    ) -> None:
        self._first, self._most, self._rng, self._keys = first, most, rng, keys
        self._entries: OrderedDict[K, _Entry] = OrderedDict()

    def failed(self, key: K, now: float) -> float:
        """A try at `now` (seconds) failed. Returns when the next one may begin."""
        old = self._entries.get(key)
        wait = min(self._first if old is None else old.wait * 2, self._most)
        spread = 1.0 if self._rng is None else self._rng.uniform(1 - _SPREAD, 1 + _SPREAD)
        self._entries[key] = _Entry(1 if old is None else old.failures + 1, wait, now + wait * spread)
        self._entries.move_to_end(key)
        while len(self._entries) > self._keys:
            self._entries.popitem(last=False)
        return self._entries[key].not_before

    def worked(self, key: K) -> None:
        """A try succeeded: what failed before counts no more."""
        self._entries.pop(key, None)

    def pause(self, key: K, now: float) -> None:
        """A try succeeded, and the next one need not come at once: it may after the first wait."""
        self._entries[key] = _Entry(0, self._first / 2, now + self._first)

    def clear(self) -> None:
        """Everything may be tried at once."""
        self._entries.clear()

    def failures(self, key: K) -> int:
        """Failures in a row."""
        entry = self._entries.get(key)
        return 0 if entry is None else entry.failures

    def ready_at(self, key: K) -> float:
        """When it may be tried; in the past (minus infinity) when it never failed."""
        entry = self._entries.get(key)
        return float("-inf") if entry is None else entry.not_before

    def ready(self, key: K, now: float) -> bool:
        """Whether it may be tried."""
        return self.ready_at(key) <= now
