"""Holds processes to a share of a processor, by stopping and continuing them ten times a second: trainers of
known speed on a machine with fewer cores than trainers.

They take their turns one after the other. If all of them ran at the beginning of each tenth of a second, many
would wait for a core there, and get less than few do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psutil

PERIOD_S = 0.1


@dataclass
class Throttle:
    """Holds processes to a share of one processor each, until it is left.

    Args:
        shares: by name, of one processor; may be changed meanwhile.
        processes: by the same names.
    """

    shares: dict[str, float]
    processes: dict[str, psutil.Process]
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """While it lasts; afterwards all go on."""
        begin, gap = time.monotonic(), PERIOD_S / max(1, len(self.processes))
        threads = [
            threading.Thread(target=self._hold, args=(name, begin + turn * gap))
            for turn, name in enumerate(self.processes)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _hold(self, name: str, turn: float) -> None:
        process = self.processes[name]
        with suppress(psutil.NoSuchProcess):  # it was killed
            while not self._over.is_set():
                _sleep_until(turn)
                process.resume()
                _sleep_until(max(turn, time.monotonic()) + self.shares[name] * PERIOD_S)
                process.suspend()
                turn += PERIOD_S
        with suppress(psutil.NoSuchProcess):
            process.resume()


def _sleep_until(when: float) -> None:
    time.sleep(max(0.0, when - time.monotonic()))


def worker_of(pid: int) -> psutil.Process:
    """The training process of a daemon."""
    (worker,) = (
        child for child in psutil.Process(pid).children(recursive=True) if "p2pml.worker" in child.cmdline()
    )
    return worker
