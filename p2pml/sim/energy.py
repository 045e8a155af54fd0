"""What a piece of work costs: CPU seconds of this process, and joules where the processor tells them."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

RAPL = Path("/sys/class/powercap/intel-rapl:0")
"""The first package's running average power limit counter, as Linux shows it; often for root only."""


class Meter:
    """Measures what happens in its `with` block.

    Attributes:
        cpu_seconds: of this process, all threads.
        joules: of the whole processor package, everything else that ran on it included; None where
            unreadable.
    """

    def __init__(self, rapl: Path = RAPL) -> None:
        self.cpu_seconds = 0.0
        self.joules: float | None = None
        self._rapl = rapl

    def __enter__(self) -> Meter:
        self._energy, self._began = self._read("energy_uj"), time.process_time()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cpu_seconds = time.process_time() - self._began
        now = self._read("energy_uj")
        if now is not None and self._energy is not None:
            wraps = (self._read("max_energy_range_uj") or 0) if now < self._energy else 0
            self.joules = (now - self._energy + wraps) / 1e6

    def _read(self, name: str) -> int | None:
        try:
            return int((self._rapl / name).read_text())
        except (OSError, ValueError):
            return None
