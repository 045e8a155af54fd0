"""Giving way to everything else on the machine."""

from __future__ import annotations

import os
import time
from pathlib import Path

AUTOGROUP = Path("/proc/self/autogroup")
EVERY_S = 0.1
"""Linux takes one change of a session's niceness in so long, from everybody together."""
PATIENCE_S = 20.0
"""As many lanes as a large machine has cores may ask at once."""


def give_way(nice: int) -> None:
    """Lower this process's priority by `nice` steps.

    Linux may share the processor among sessions first (`kernel.sched_autogroup_enabled`), and niceness
    counts only within one (sched(7)): what trains in one terminal or service would take half the machine from
    what its owner runs in another. So the process leaves for a session of its own, which gets its niceness.
    """
    level = os.nice(nice)
    try:
        os.setsid()
    except PermissionError:
        return  # it leads a process group already, and its session is not its own to weigh
    if AUTOGROUP.exists():
        _weigh_session(level)


def _weigh_session(level: int) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        try:
            AUTOGROUP.write_text(str(level), encoding="ascii")
            return
        except BlockingIOError:
            time.sleep(EVERY_S)
        except OSError:
            return  # a container's /proc may be there to read only
