"""What the processors of this machine do, from `/proc` (Linux): how much of it is ours."""

from __future__ import annotations

import os
from pathlib import Path

import trio

from p2pml.worker.idle import Idleness
from p2pml.worker.rests import LOAD, Rest

LOOK_S = 5.0
_BUSY = (0, 1, 2, 5, 6, 7)
"""user, nice, system, irq, softirq and steal of proc_stat(5); neither idle nor waiting for a disk."""


class Load:
    """Cores that processes other than `root` and what it has started take.

    Args:
        root: a process id.
        proc: where the kernel tells.
    """

    def __init__(self, root: int, proc: Path = Path("/proc")) -> None:
        self._root, self._proc = root, proc
        self._hertz = os.sysconf("SC_CLK_TCK")
        self._last: tuple[float, int] | None = None

    def look(self, now: float) -> float | None:
        """Cores since the last look; None at the first. `now` in seconds. Raises OSError or ValueError."""
        others = self._busy() - self._own()
        last, self._last = self._last, (now, others)
        if last is None or now <= last[0]:
            return None
        return max(0.0, (others - last[1]) / self._hertz / (now - last[0]))

    def _busy(self) -> int:
        first = (self._proc / "stat").read_text(encoding="ascii").partition("\n")[0].split()
        return sum(int(first[1 + field]) for field in _BUSY)

    def _own(self) -> int:
        """Ticks of the root and its descendants; those of children that have ended are with their parents."""
        ticks: dict[int, int] = {}
        children: dict[int, list[int]] = {}
        for folder in self._proc.iterdir():
            if folder.name.isdigit() and (found := _stat(folder)):
                parent, ticks[int(folder.name)] = found
                children.setdefault(parent, []).append(int(folder.name))
        total, tree = 0, [self._root]
        while tree:
            process = tree.pop()
            total += ticks.get(process, 0)
            tree += children.get(process, [])
        return total


def _stat(folder: Path) -> tuple[int, int] | None:
    """A process's parent, and its ticks with those of ended children; None when it is gone."""
    try:
        values = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return int(values[1]), sum(int(value) for value in values[11:15])


async def rest_while_busy(rest: Rest, idleness: Idleness | None = None) -> None:
    """Have a worker rest while others need the machine, until cancelled.

    Args:
        idleness: decides; by the cores of this machine when None.
    """
    idleness = idleness or Idleness(os.cpu_count() or 1)
    load = Load(os.getpid())
    await rest(LOAD, True)
    while True:
        others = await trio.to_thread.run_sync(load.look, trio.current_time())
        if others is not None:
            await rest(LOAD, idleness.rest(trio.current_time(), others))
        await trio.sleep(LOOK_S)
