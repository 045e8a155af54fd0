"""The event heap: virtual time, one queue, a total order."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class Entry:
    """Something due at `at` (seconds)."""

    at: float
    action: Callable[[], None]
    cancelled: bool = False


class EventHeap:
    """Runs actions in order of their time, ties in the order they were scheduled.

    `now` is virtual seconds since the start and moves only when an action runs.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Entry]] = []
        self._seq = 0
        self.now = 0.0

    def __len__(self) -> int:
        return len(self._entries)

    def at(self, when: float, action: Callable[[], None]) -> Entry:
        """Run `action` at `when`, or now if that has passed; the entry can be given to `cancel`."""
        self._seq += 1
        entry = Entry(max(when, self.now), action)
        heapq.heappush(self._entries, (entry.at, self._seq, entry))
        return entry

    @staticmethod
    def cancel(entry: Entry) -> None:
        """Make the entry do nothing when its time comes."""
        entry.cancelled = True

    def step(self, until: float) -> bool:
        """Run the next action that is due by `until`; False, with `now` at `until`, when there is none."""
        while self._entries and self._entries[0][0] <= until:
            _, _, entry = heapq.heappop(self._entries)
            if entry.cancelled:
                continue
            self.now = entry.at
            entry.action()
            return True
        self.now = max(self.now, until)
        return False
