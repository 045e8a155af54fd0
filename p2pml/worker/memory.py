"""The worker's bound on its own memory: an allocation over it fails, and with it the call; the process lives
on where the code that wanted it can tell, which not all of TensorFlow's does.

What counts for `RLIMIT_DATA` (Linux 4.7 and newer) is what a process may write to, whether it is in memory or
not. TensorFlow reserves some of that without use, so the limit is set once it is loaded, from what is there
then. The node, which looks at what is in memory, is the second line.
"""

from __future__ import annotations

import os
import resource
import signal

MEMORY_STATUS = 4
"""Exit status of a worker that could not even take a request in."""


def confine_memory(limit: int) -> None:
    """Let this process take so much more that it holds `limit` bytes in all; nothing to do where the system
    does not tell what there is."""
    now = reserved()
    if now is not None:
        most = max(limit - resident() + now, now)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def resident() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def reserved() -> int | None:
    """Bytes that count for `RLIMIT_DATA`; None where the system does not tell."""
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmData:"):
                return int(line.split()[1]) << 10
    return None


def out_of_memory(returncode: int) -> bool:
    """Whether a process may have ended for want of memory: it said so, or code without exceptions gave up."""
    return returncode in (MEMORY_STATUS, -signal.SIGABRT, -signal.SIGSEGV)
