"""A byte rate that forgets: exponentially weighted over a few seconds, time given by the caller."""

from __future__ import annotations

import math

TAU = 5.0
"""Seconds of memory."""


class Rate:
    """Bytes per second over the last few seconds; ``total`` counts all bytes ever."""

    __slots__ = ("_at", "_start", "_sum", "total")

    def __init__(self, now: float) -> None:
        self._start = self._at = now
        self._sum = 0.0
        self.total = 0

    def add(self, count: int, now: float) -> None:
        self._decay(now)
        self._sum += count
        self.total += count

    def value(self, now: float) -> float:
        self._decay(now)
        # a young meter has not filled its window yet: divide by the part of it that has passed
        window = TAU * (1 - math.exp(-max(now - self._start, 1.0) / TAU))
        return self._sum / window

    def _decay(self, now: float) -> None:
        if now > self._at:
            self._sum *= math.exp((self._at - now) / TAU)
            self._at = now
