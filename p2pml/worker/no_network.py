"""A network namespace of one's own: a process that computes what strangers send reaches nobody, and nobody
reaches it but through the socket that it was started with (Linux network_namespaces(7))."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from contextlib import suppress

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP = 1


def leave_network() -> bool:
    """Move this process, which has no second thread yet, into a namespace that has a loopback interface only.

    Whoever may not make such a namespace may do so inside a user namespace, as the same user, where the
    system has these for everybody (user_namespaces(7)).

    Returns:
        Whether the system let it; if not, nothing has changed.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    if libc.unshare(CLONE_NEWNET) != 0:
        user, group = os.getuid(), os.getgid()
        if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
            return False
        with suppress(OSError):  # then it has no name in there, and reads what it could read before
            _write("setgroups", b"deny")
            _write("uid_map", b"%d %d 1" % (user, user))
            _write("gid_map", b"%d %d 1" % (group, group))
    with suppress(OSError):  # no more than a convenience
        raise_loopback()
    return True


def raise_loopback() -> None:
    """Switch on the loopback interface, which is off in a new namespace. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


def _write(name: str, value: bytes) -> None:
    with open(f"/proc/self/{name}", "wb") as file:
        file.write(value)
