"""A network namespace of one's own (Linux network_namespaces(7)): a process that computes what strangers send
has no interface but an empty loopback. What it can still reach are Unix sockets in the file system."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
CAPABILITY_VERSION_3 = 0x20080522
APPARMOR = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")


def leave_network() -> bool:
    """Move this process, which has no second thread yet, into a namespace that has a loopback interface only.

    Whoever may not make such a namespace may do so inside a user namespace, as the same user, where the
    system has these for everybody (user_namespaces(7)). Not root: it would lose the right to others' files.

    Returns:
        Whether the system let it; if not, nothing has changed.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    if libc.unshare(CLONE_NEWNET) == 0:
        _loopback_if_possible()
        return True
    user, group = os.geteuid(), os.getegid()
    if user == 0 or _powerless() or libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        return False
    with suppress(OSError):  # then it has no name in there, and reads what it could read before
        _write("setgroups", b"deny")
        _write("uid_map", b"%d %d 1" % (user, user))
        _write("gid_map", b"%d %d 1" % (group, group))
    _loopback_if_possible()
    header = ctypes.create_string_buffer(struct.pack("Ii", CAPABILITY_VERSION_3, 0))
    libc.capset(header, ctypes.create_string_buffer(24))  # all powers in the new namespace: none is needed
    return True


def _powerless() -> bool:
    """Whether user namespaces give no right to make others in them (AppArmor on Ubuntu)."""
    try:
        return APPARMOR.read_bytes().strip() == b"1"
    except OSError:
        return False


def _loopback_if_possible() -> None:
    with suppress(OSError):  # only what starts a server of its own would miss it
        raise_loopback()


def raise_loopback() -> None:
    """Switch on the loopback interface, which is off in a new namespace. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


def _write(name: str, value: bytes) -> None:
    with open(f"/proc/self/{name}", "wb") as file:
        file.write(value)
