"""The worker process: `python -m p2pml.worker`, started by a node's `WorkerSupervisor`."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import resource
import signal
import sys
import threading
import time

STARTED = time.monotonic()
PR_SET_NO_NEW_PRIVS = 38


def main() -> int:
    """Serve the node named in the environment until it ends; the exit status."""
    try:
        url = os.environ["P2PML_WORKER_URL"]
        token = os.environ.pop("P2PML_WORKER_TOKEN")
        parent = int(os.environ["P2PML_WORKER_PARENT"])
        threads = int(os.environ["P2PML_WORKER_THREADS"])
    except (KeyError, ValueError):
        print("p2pml.worker is started by a node, not by hand", file=sys.stderr)
        return 2
    _confine()
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()

    import trio

    from p2pml.worker.link import serve

    trio.run(serve, url, token, threads, STARTED)
    return 0


def _confine() -> None:
    """Give way to everything else on the machine, and never gain what the node does not have."""
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the node's terminal is the node's to handle
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
            score.write("500")  # when memory runs out, the worker goes and the node stays


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
