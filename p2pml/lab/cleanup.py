"""Remove what lab runs left behind whose process was killed: `python -m p2pml.lab.cleanup`.

Only what the lab made is ever touched: processes and containers, networks and images that carry a run's
label, and its folder. Namespaces, cables and packet rules need no help: they go with the last process that
holds them.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from p2pml.lab import engine, procs, registry


@dataclass(frozen=True, slots=True)
class Removed:
    """How much of a run was still there."""

    run: str
    processes: int
    containers: int
    networks: int
    images: int


def remove(run: str, *, containers: bool) -> Removed:
    """Remove everything that carries a run's id, but for its folder; fine when there is nothing.

    Raises:
        LabError: the container engine refuses.
        TimeoutError: a process does not end.
    """
    killed = procs.kill_all(run)
    gone = engine.Gone(0, 0, 0)
    if containers:
        with engine.connect() as client:
            gone = engine.remove(client, run)
    return Removed(run, killed, gone.containers, gone.networks, gone.images)


def cleanup(folder: Path | None = None) -> list[Removed]:
    """Remove all that is left of dead runs; runs whose owner lives are not touched.

    Args:
        folder: the registry of runs; the user's own by default.

    Raises:
        LabError: the container engine refuses.
    """
    containers = engine.is_there()
    dead = {run.id: run for run in registry.dead_runs(folder)}
    orphans: set[str] = set()
    if containers:
        with engine.connect() as client:
            labelled = engine.runs(client)
        orphans = {
            run for run, where in labelled.items() if run not in dead and not registry.is_alive(where / run)
        }
    removed = []
    for run in sorted(dead.keys() | orphans):
        removed.append(remove(run, containers=containers))
        if run in dead:
            dead[run].close()
    return removed


def main(argv: list[str]) -> None:
    """Clean up and print what was removed, one JSON object a line; an argument names another registry."""
    for removed in cleanup(Path(argv[0]) if argv else None):
        print(json.dumps(asdict(removed)))


if __name__ == "__main__":
    main(sys.argv[1:])
