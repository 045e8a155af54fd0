"""Who is in a process namespace, and who listens in a network namespace, seen from outside through /proc."""

from __future__ import annotations

import os
import time
from pathlib import Path


def first_process(guard: int) -> int | None:
    """The process that the guard started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == guard:
            return int(folder.name)
    return None


def namespace(pid: int, kind: str) -> str:
    """A namespace's name."""
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def members(name: str) -> dict[int, str]:
    """Everybody in a process namespace, with the program that it runs; who has ended is left out."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(folder / "ns" / "pid") == name:
                found[int(folder.name)] = (folder / "comm").read_text().strip()
        except OSError:
            continue
    return found


def listening(pid: int) -> set[int]:
    """The TCP ports that somebody listens on in a process's network namespace."""
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == "0A":
                ports.add(int(local.rpartition(":")[2], 16))
    return ports


def emptied(name: str, seconds: float = 10.0) -> bool:
    """Whether a process namespace has nobody left, or has not soon."""
    until = time.monotonic() + seconds
    while members(name):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True
