"""A lab from start to end: nothing of it stays, whether it ends well, in an error, or by Ctrl-C or
SIGTERM."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from p2pml.lab import registry
from p2pml.lab.errors import LabError
from p2pml.lab.hosts.base import Backend
from p2pml.lab.hosts.containers import Containers
from p2pml.lab.hosts.namespaces import Namespaces
from p2pml.lab.hosts.processes import Processes
from p2pml.lab.network import Shaping
from p2pml.lab.signals import deferred, ending_unwinds

Kind = Literal["processes", "namespaces", "containers"]


@contextlib.contextmanager
def open_lab(
    kind: str, *, work: Path | None = None, shaping: Shaping = "auto", seed: int = 0, runs: Path | None = None
) -> Iterator[Backend]:
    """A place to run hosts, without any as yet; everything that it made is removed at the end.

    In the main thread SIGTERM and SIGHUP unwind as Ctrl-C does, and neither interrupts the clearing up.

    Args:
        kind: `processes`, `namespaces` or `containers`.
        work: folder for the hosts' folders, which then stay; without it they are temporary.
        shaping: what delays and loses packets; `auto` takes netem where the kernel has it.
        seed: of losses and jitter.
        runs: the registry of runs; the user's own by default.

    Raises:
        LabError: something that the place needs is missing; the message says what.
    """
    with ending_unwinds():
        run = registry.open_run(runs)
        backend: Backend | None = None
        try:
            folder = (work or run.folder / "hosts").absolute()
            folder.mkdir(parents=True, exist_ok=True)
            backend = _make(kind, run, folder, shaping, seed)
            yield backend
        finally:
            with deferred():
                try:
                    if backend is not None:
                        backend.stop()
                except BaseException:
                    run.abandon()
                    raise
                run.close()


def _make(kind: str, run: registry.Run, work: Path, shaping: Shaping, seed: int) -> Backend:
    match kind:
        case "processes":
            return Processes(run.id, work)
        case "namespaces":
            return Namespaces(run.id, work, run.folder, shaping=shaping, seed=seed)
        case "containers":
            return Containers(run.id, work, run.folder, shaping=shaping, seed=seed)
        case other:
            raise LabError(f"no such place to run as {other!r}", "use processes, namespaces or containers")
