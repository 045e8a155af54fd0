"""The one interface of every place to run, and what they share."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from p2pml.lab import procs
from p2pml.lab.errors import LabError
from p2pml.scenario.links import Link

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")


class Handle(Protocol):
    """A program that runs, or ran, on a host."""

    @property
    def pid(self) -> int:
        """Its process id as this machine counts them."""

    @property
    def returncode(self) -> int | None:
        """Its exit status; -N when signal N ended it; None while it runs."""

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Signal this one process; fine when it has ended."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return `returncode`.

        Raises:
            TimeoutError: it still runs after `timeout` seconds.
        """


class Backend(Protocol):
    """Hosts by name. Everything is synchronous; call it from one thread at a time. `stop` may be called at
    any time, also after a failed or interrupted `start`, and leaves nothing behind."""

    run_id: str
    """Eight hex digits that everything of this lab is labelled with."""
    kind: str
    """`processes`, `namespaces` or `containers`."""
    shaping: str
    """What delays and loses packets: `netem`, `nfqueue`, or `none` where links cannot be shaped or cut."""
    shared_loopback: bool
    """Whether the hosts share 127.0.0.1, so that ports there must differ from host to host."""

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts that were started, in order."""

    def describe(self) -> str:
        """One line for a report: what runs where and what shapes it."""

    def start(self, names: Sequence[str]) -> None:
        """Make hosts; call again for those that join later.

        Raises:
            LabError: a name is bad or taken, or something that the place needs is missing.
        """

    def run(self, name: str, argv: Sequence[str], env: Mapping[str, str], log: Path) -> Handle:
        """Start a program on a host, in the host's folder.

        Args:
            name: the host.
            argv: program and arguments.
            env: variables on top of a small environment (PATH with this interpreter's folder, HOME =
                the host's folder, the locale, and this process's PYTHON… variables).
            log: file that its output is appended to; for containers within the work folder.

        Raises:
            LabError: no such host, it is down, or the program cannot be started; a program that a container
                does not have ends with 127 instead.
        """

    def address(self, name: str) -> str:
        """The host's IPv4 address; it stays the same over restarts."""

    def folder(self, name: str) -> Path:
        """A folder of the host's own, at the same path inside and outside."""

    def shape(self, name: str, link: Link) -> None:
        """Give the host a link, now and after each restart.

        Raises:
            UnsupportedError: this place has no links.
        """

    def partition(self, groups: Sequence[Collection[str]]) -> None:
        """Nothing passes between groups any more, from now on until `heal`; hosts in no group are one group
        more.

        Raises:
            UnsupportedError: this place has no links.
            LabError: an unknown host, or one in two groups.
        """

    def heal(self) -> None:
        """End the partition."""

    def pause(self, name: str) -> None:
        """Freeze every process of the host; its network stays."""

    def resume(self, name: str) -> None:
        """Let a frozen host go on."""

    def kill(self, name: str) -> None:
        """Pull the host's plug: every process ends at once, nothing is said to anybody, its folder stays."""

    def restart(self, name: str) -> None:
        """Bring a host up again (killing it first when it is up) with its address, link and partition;
        without programs."""

    def stop(self) -> None:
        """Remove every host and all that belongs to them, but for a work folder that the caller gave."""


class Roster:
    """The hosts of a run: their order, which are up, their folders.

    Args:
        run: the run's id.
        work: where the hosts' folders are.
    """

    def __init__(self, run: str, work: Path) -> None:
        self.run = run
        self.work = work
        self.up: dict[str, bool] = {}

    def add(self, name: str) -> int:
        """Take a host in and make its folder; returns its place, counted from 0.

        Raises:
            LabError: the name is bad or taken.
        """
        if not _NAME.fullmatch(name):
            raise LabError(f"{name!r} is no host name", "use up to 31 small letters, digits and dashes")
        if name in self.up:
            raise LabError(f"host {name} exists already", "use another name, or restart it")
        self.up[name] = False
        self.folder(name).mkdir(parents=True, exist_ok=True)
        return len(self.up) - 1

    def folder(self, name: str) -> Path:
        """The host's folder."""
        return self.work / name

    def check(self, name: str, *, up: bool = False) -> None:
        """Raises LabError unless the host exists (and is up)."""
        if name not in self.up:
            raise LabError(f"no host is called {name!r}", f"there are {', '.join(self.up) or 'none'}")
        if up and not self.up[name]:
            raise LabError(f"host {name} is down", "restart it first")

    def environment(self, name: str, extra: Mapping[str, str]) -> dict[str, str]:
        """What a program on the host finds in its environment."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        base = {"PATH": path, "HOME": str(self.folder(name)), "LANG": "C.UTF-8"}
        python = {key: value for key, value in os.environ.items() if key.startswith("PYTHON")}
        return {**base, **python, **extra, **procs.labels(self.run, name)}
