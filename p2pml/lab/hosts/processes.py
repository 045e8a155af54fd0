"""Hosts that are processes on the loopback interface: no root, no shaping, no partition."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from p2pml.lab import cleanup, procs
from p2pml.lab.errors import UnsupportedError
from p2pml.lab.hosts.base import Roster
from p2pml.lab.hosts.local import LocalHandle, spawn
from p2pml.lab.hosts.parts import Signalled
from p2pml.scenario.links import Link


class Processes(Signalled):
    """See `base.Backend`. On Linux each host has a loopback address of its own, elsewhere all have 127.0.0.1.

    Args:
        run: the run's id.
        work: where the hosts' folders are made.
    """

    kind = "processes"
    shaping = "none"
    shared_loopback = True

    def __init__(self, run: str, work: Path) -> None:
        self.run_id = run
        self._roster = Roster(run, work)
        self._places: dict[str, int] = {}
        self._handles: dict[str, list[LocalHandle]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts in order."""
        return tuple(self._places)

    def describe(self) -> str:
        """What a report says."""
        return f"{len(self._places)} hosts as processes on loopback; links are not shaped and cannot be cut"

    def start(self, names: Sequence[str]) -> None:
        """Make the hosts' folders."""
        for name in names:
            self._places[name] = self._roster.add(name)
            self._roster.up[name] = True

    def run(self, name: str, argv: Sequence[str], env: Mapping[str, str], log: Path) -> LocalHandle:
        """Start a program."""
        self._roster.check(name, up=True)
        handle = spawn(argv, self._roster.environment(name, env), log, self.folder(name))
        self._handles.setdefault(name, []).append(handle)
        return handle

    def address(self, name: str) -> str:
        """127.x.y.z; x and y come from the run, so that runs beside each other do not meet."""
        self._roster.check(name)
        if sys.platform != "linux":
            return "127.0.0.1"
        run = int(self._roster.run, 16)
        place = self._places[name]
        return f"127.{1 + run % 254}.{(run >> 8) % 256 // 4 * 4 + place // 254}.{1 + place % 254}"

    def folder(self, name: str) -> Path:
        """The host's folder."""
        return self._roster.folder(name)

    def shape(self, name: str, link: Link) -> None:
        """Refused."""
        raise UnsupportedError("processes on loopback have no links to shape", "use namespaces or containers")

    def partition(self, groups: Sequence[Collection[str]]) -> None:
        """Refused."""
        raise UnsupportedError("processes on loopback cannot be partitioned", "use namespaces or containers")

    def heal(self) -> None:
        """Nothing is ever cut here."""

    def kill(self, name: str) -> None:
        """Kill every process of the host."""
        self._roster.check(name)
        self._roster.up[name] = False
        procs.kill_all(self._roster.run, name)
        for handle in self._handles.pop(name, []):
            handle.end()

    def restart(self, name: str) -> None:
        """Let programs start again."""
        self.kill(name)
        self._roster.up[name] = True

    def stop(self) -> None:
        """Kill every process of the run."""
        cleanup.remove(self._roster.run, containers=False)
        for handles in self._handles.values():
            for handle in handles:
                handle.end()
        self._handles.clear()
