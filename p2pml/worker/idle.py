"""Whether others need the machine: a worker that is to run on an idle one only rests while they do."""

from __future__ import annotations

import math

SHARE = 0.15
"""Of all cores: others that take more than this use the machine."""
LEAST_CORES = 0.25
"""What others may take in any case; a desktop that nobody sits at takes about a tenth of a core."""
CALM_S = 60.0
"""So long it has to be calm before the worker computes."""


class Idleness:
    """Decides from loads and times that it is told; begins with a rest.

    Args:
        cores: of the machine.
        calm_s: seconds of calm that end a rest.
    """

    def __init__(self, cores: int, calm_s: float = CALM_S) -> None:
        self._most = max(LEAST_CORES, SHARE * cores)
        self._calm_s = calm_s
        self._calm_since = math.inf

    def rest(self, now: float, others: float) -> bool:
        """Whether to rest now.

        Args:
            now: the clock, in seconds.
            others: cores that other processes took since the last call.
        """
        if others > self._most:
            self._calm_since = math.inf
        else:
            self._calm_since = min(self._calm_since, now)
        return now - self._calm_since < self._calm_s
