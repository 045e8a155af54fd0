"""The lab's processes, found by the label that each carries in its environment (Linux's /proc)."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

RUN_LABEL = "P2PML_LAB_RUN"
HOST_LABEL = "P2PML_LAB_HOST"
_POLL_S = 0.02
_GONE_S = 10.0
_LOOKS = 2


def labels(run: str, host: str) -> dict[str, str]:
    """What the environment of every process of a host says."""
    return {RUN_LABEL: run, HOST_LABEL: host}


def _label_of(pid: int, name: str) -> str | None:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    prefix = name.encode() + b"="
    return next((entry[len(prefix) :].decode() for entry in environment if entry.startswith(prefix)), None)


def belongs(pid: int, run: str, host: str | None = None) -> bool:
    """Whether process `pid` is alive and of this run (and host)."""
    return _label_of(pid, RUN_LABEL) == run and (host is None or _label_of(pid, HOST_LABEL) == host)


def find(run: str, host: str | None = None) -> list[int]:
    """The processes of a run, or of one of its hosts; never this process itself."""
    if not os.path.isdir("/proc"):  # not Linux: only the handles of programs know them
        return []
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]
    return [pid for pid in pids if pid != os.getpid() and belongs(pid, run, host)]


def send(signum: int, run: str, host: str | None = None) -> int:
    """Signal every process of a run or host; returns how many."""
    pids = find(run, host)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)
    return len(pids)


def kill_all(run: str, host: str | None = None) -> int:
    """Kill every process of a run or host and return how many.

    It looks until none was there twice in a row: one may fork meanwhile, and one that is just being executed
    has no environment for a moment.

    Raises:
        TimeoutError: some do not go within 10 s.
    """
    killed: set[int] = set()
    give_up = time.monotonic() + _GONE_S
    misses = 0
    while misses < _LOOKS:
        pids = find(run, host)
        misses = 0 if pids else misses + 1
        if pids and time.monotonic() > give_up:
            raise TimeoutError(f"processes {pids} of lab run {run} do not end")
        killed.update(pids)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_POLL_S)
    return len(killed)
