"""A cap on the processor time of a lane or a worker, as a share of the cores that it could keep busy."""

from __future__ import annotations

SLACK = 0.05
"""Seconds of processor time that may be saved up, and that may be owed before there is a rest: at least."""
OF_WINDOW = 50
"""What may be owed is this part of what a window allows."""


def slack_of(percent: int, seconds: float) -> float:
    """As much of what a window of so many seconds allows as makes no difference to its count: a fiftieth.

    A processor that rests loses what it had in its caches and its speed, so rests should be few and long.
    """
    return max(SLACK, seconds * percent / 100 / OF_WINDOW)


class Duty:
    """Says when to rest. Processor time that was not used because the machine was busy is not made up for.

    Args:
        percent: of these cores, 1 to 100.
        cores: that it computes on, at most.
        slack: seconds of processor time that may be saved up, and that may be owed before there is a rest.
    """

    def __init__(self, percent: int, cores: int = 1, slack: float = SLACK) -> None:
        self._unbounded = percent >= 100
        self._share = percent / 100 * cores
        self._slack = slack
        self._credit = 0.0
        self._last: tuple[float, float] | None = None

    def rest(self, busy: float, wall: float) -> float:
        """Seconds to sleep now.

        Args:
            busy: processor seconds that the process has used so far.
            wall: the clock, in seconds.
        """
        if self._last is not None:
            earned = self._share * (wall - self._last[1]) - (busy - self._last[0])
            self._credit = min(self._credit + earned, self._slack)
        self._last = (busy, wall)
        if self._unbounded or self._credit > -self._slack:
            return 0.0
        return -self._credit / self._share
