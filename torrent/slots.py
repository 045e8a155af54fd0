"""How many peers to serve at once: one more is tried while somebody waits, and kept if more is uploaded.

A saturated uplink gives nothing more through one slot more, it only divides finer; an uplink that the served
peers cannot fill does.
"""

from __future__ import annotations

from collections import deque

LOOK_BACK = 4
"""Rounds whose best rate a trial has to beat: one alone is chance."""
PAUSE = 6
"""Rounds between a trial that failed and the next one."""
FALL = 0.5
"""Below this part of the rate that the slots were kept for, their number starts anew."""


class Slots:
    """The number of regular slots, from ``least`` to ``most``; ``round`` is called once per choke round."""

    def __init__(self, least: int, most: int) -> None:
        self._least = least
        self._most = most
        self._before: float | None = None
        """The best rate before the trial that is under way."""
        self._rates: deque[float] = deque(maxlen=LOOK_BACK)
        self._earned = 0.0
        self._pause = 0
        self.count = least

    def round(self, rate: float, waiting: bool) -> int:
        """The slots for the next round. ``rate``: what the last one uploaded, bytes per second; ``waiting``:
        whether some interested peer is choked.
        """
        self._rates.append(rate)
        if self._before is not None:
            # half of what a slot gave on average: less is chance, or taken from the others
            if rate > self._before * (1 + 0.5 / max(1, self.count - 1)):
                self._earned = rate
            else:
                self.count -= 1
                self._pause = PAUSE
            self._before = None
        elif rate < FALL * self._earned:
            self.count, self._earned = self._least, 0.0
            self._rates.clear()
        if self._pause:
            self._pause -= 1
        elif waiting and rate > 0 and self._least and self.count < self._most and self._settled:
            self._before = max(self._rates)
            self.count += 1
        return self.count

    @property
    def _settled(self) -> bool:
        """Enough rounds have passed to compare with: at first every line gets faster by itself."""
        return len(self._rates) == LOOK_BACK
