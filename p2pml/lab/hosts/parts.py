"""What places to run do alike: links that are shaped and cut, and hosts whose processes take signals."""

from __future__ import annotations

import signal
from collections.abc import Collection, Sequence

from p2pml.lab import procs
from p2pml.lab.hosts.base import Roster
from p2pml.lab.network import Network
from p2pml.scenario.links import Link


class Linked:
    """Hosts with links of their own. See `base.Backend`."""

    _roster: Roster
    _network: Network

    def shape(self, name: str, link: Link) -> None:
        """Give the host a link."""
        self._roster.check(name)
        self._network.shape(name, link)

    def partition(self, groups: Sequence[Collection[str]]) -> None:
        """Cut the network into groups."""
        self._network.partition(groups)

    def heal(self) -> None:
        """End the partition."""
        self._network.heal()


class Signalled:
    """Hosts that are processes which this process may signal. See `base.Backend`."""

    _roster: Roster

    def pause(self, name: str) -> None:
        """Stop every process of the host."""
        self._roster.check(name, up=True)
        procs.send(signal.SIGSTOP, self._roster.run, name)

    def resume(self, name: str) -> None:
        """Let them go on."""
        self._roster.check(name, up=True)
        procs.send(signal.SIGCONT, self._roster.run, name)
