"""Delay, jitter and loss of one host's arriving packets, on anybody's clock."""

from __future__ import annotations

import random
from collections import deque

from p2pml.scenario.links import Link


class DelayLine:
    """A first-in-first-out line: jitter varies the delay, it never reorders.

    Args:
        link: the delay, jitter and loss to apply; replace it at any time with `set_link`.
        rng: decides losses and jitter.
    """

    def __init__(self, link: Link, rng: random.Random) -> None:
        self._rng = rng
        self._waiting: deque[tuple[float, int]] = deque()
        self._last_due = 0.0
        self.seen = 0
        self.dropped = 0
        self.set_link(link)

    def __len__(self) -> int:
        return len(self._waiting)

    def set_link(self, link: Link) -> None:
        """Apply `link` to the packets that arrive from now on; those that wait keep their time."""
        self._delay = link.delay_ms / 1e3
        self._jitter = link.jitter_ms / 1e3
        self._loss = link.loss

    def arrive(self, packet: int, now: float) -> bool:
        """Take a packet at time `now` (s); False when it is lost."""
        self.seen += 1
        if self._loss and self._rng.random() < self._loss:
            self.dropped += 1
            return False
        due = now + self._delay
        if self._jitter:
            due += self._rng.uniform(-self._jitter, self._jitter)
        self._last_due = max(due, self._last_due)
        self._waiting.append((self._last_due, packet))
        return True

    def release(self, now: float) -> int | None:
        """The newest packet that is due at `now`, which every older one leaves with; None when none is."""
        newest = None
        waiting = self._waiting
        while waiting and waiting[0][0] <= now:
            newest = waiting.popleft()[1]
        return newest

    def deadline(self) -> float | None:
        """When the next packet is due (s); None when none waits."""
        return self._waiting[0][0] if self._waiting else None
