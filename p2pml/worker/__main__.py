"""The worker process: `python -m p2pml.worker`, started by a node's `WorkerSupervisor`."""

from __future__ import annotations

import os
import sys
import threading
import time

from p2pml.worker.confine import confine
from p2pml.worker.limits import WorkerLimits
from p2pml.worker.memory import MEMORY_STATUS
from p2pml.worker.no_network import leave_network

STARTED = time.monotonic()


def main() -> int:
    """Serve the node named in the environment until it ends; the exit status."""
    try:
        end = int(os.environ.pop("P2PML_WORKER_SOCKET"))
        parent = int(os.environ["P2PML_WORKER_PARENT"])
        limits = WorkerLimits.from_environment(os.environ)
    except (KeyError, ValueError):
        print("p2pml.worker is started by a node, not by hand", file=sys.stderr)
        return 2
    os.set_inheritable(end, False)  # it was, to get here; what is started from here has no business with it
    confine(limits.nice)
    isolated = leave_network()
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()

    import trio

    from p2pml.worker.link import serve

    try:
        trio.run(serve, end, limits, isolated, STARTED)
    except* MemoryError:
        os._exit(MEMORY_STATUS)  # the engine's thread may be at work
    return 0


def _die_with(parent: int) -> None:
    """End with the node even where the socket does not tell.

    Not `PR_SET_PDEATHSIG`: that fires when the *thread* that started us ends, and trio starts processes from
    a short-lived thread.
    """
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
