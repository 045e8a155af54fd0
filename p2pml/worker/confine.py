"""What each process with TensorFlow does before it does anything else."""

from __future__ import annotations

import ctypes
import faulthandler
import resource
import signal
import sys

from p2pml.worker.give_way import give_way

PR_SET_NO_NEW_PRIVS = 38


def confine(nice: int = 10) -> None:
    """Give way to everything else on the machine by `nice`, and never gain what the node does not have."""
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the node's terminal is the node's to handle
    give_way(nice)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
            score.write("500")  # when memory runs out, the worker goes and the node stays
