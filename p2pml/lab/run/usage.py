"""What a host's processes use, read from Linux's /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from p2pml.lab import procs
from p2pml.lab.network import DEVICE

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_RESCAN = 5


@dataclass(slots=True)
class Usage:
    """Adds up a host's processes over time; what ended ones used stays counted.

    Args:
        run, host: whose processes.
        own_interface: whether the host has a network interface of its own.
    """

    run: str
    host: str
    own_interface: bool
    rss: int = 0
    _cpu: dict[int, float] = field(default_factory=dict)
    _pids: list[int] = field(default_factory=list)
    _looks: int = 0
    _wire: tuple[int, int] = (0, 0)
    _wire_before: tuple[int, int] = (0, 0)

    def look(self) -> None:
        """Read /proc; which processes there are is looked up every few calls, since that reads them all."""
        alive = [pid for pid in self._pids if procs.belongs(pid, self.run, self.host)]
        if self._looks % _RESCAN == 0 or not alive:
            alive = procs.find(self.run, self.host)
        self._looks += 1
        self._pids, self.rss = alive, 0
        for pid in alive:
            found = _cpu_and_rss(pid)
            if found is not None:
                self._cpu[pid] = found[0]
                self.rss += found[1]
        if self.own_interface and alive:
            self._look_at_wire(alive[0])

    @property
    def cpu_s(self) -> float:
        """Seconds of processor time of all its processes so far."""
        return sum(self._cpu.values())

    @property
    def wire(self) -> tuple[int, int]:
        """Bytes received and sent by its interface so far, over restarts."""
        return self._wire_before[0] + self._wire[0], self._wire_before[1] + self._wire[1]

    def _look_at_wire(self, pid: int) -> None:
        now = _interface_bytes(pid)
        if now is None:
            return
        if now[0] < self._wire[0]:  # a new namespace after a restart: its counters began again
            self._wire_before = self.wire
        self._wire = now


def _cpu_and_rss(pid: int) -> tuple[float, int] | None:
    """proc(5), `stat`: user and system ticks are fields 14 and 15, resident pages field 24."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before may hold blanks and brackets
    return (int(fields[11]) + int(fields[12])) / _TICKS, int(fields[21]) * _PAGE


def _interface_bytes(pid: int) -> tuple[int, int] | None:
    try:
        lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, rest = line.partition(":")
        if name.strip() == DEVICE:
            numbers = rest.split()
            return int(numbers[0]), int(numbers[8])
    return None
