"""Network namespaces by system call.

On Linux a network namespace belongs to a thread, so work inside one is done by a fresh thread that enters it
and ends:
sockets opened and processes started there stay in it, and no other thread of this process ever leaves its
own. A namespace is kept by an open file descriptor rather than by a name under /run/netns: the kernel removes
it by itself when its last holder is gone, also when that holder was killed.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_CLONE_NEWNET = 0x4000_0000
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _in_thread(work: Callable[[], T]) -> T:
    results: list[T] = []
    failures: list[BaseException] = []

    def body() -> None:
        try:
            results.append(work())
        except BaseException as error:  # carried to the calling thread, whatever it is
            failures.append(error)

    thread = threading.Thread(target=body, name="netns")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def create() -> int:
    """A new, empty network namespace as a file descriptor; it lives as long as something holds it.

    Raises:
        OSError: EPERM without CAP_SYS_ADMIN.
    """

    def work() -> int:
        _check(_libc.unshare(_CLONE_NEWNET), "unshare")
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY)

    return _in_thread(work)


def call(path: str, work: Callable[[], T]) -> T:
    """Run `work` inside the network namespace at `path` and return what it returns.

    Args:
        path: a namespace file, such as `/proc/PID/ns/net`.
        work: called in a thread of its own; its exceptions are raised here.

    Raises:
        OSError: there is no namespace at `path`, or this process may not enter it.
    """

    def inside() -> T:
        fd = os.open(path, os.O_RDONLY)
        try:
            _check(_libc.setns(fd, _CLONE_NEWNET), f"enter {path}")
        finally:
            os.close(fd)
        return work()

    return _in_thread(inside)


def held(fd: int) -> str:
    """The path by which any process of this user enters the namespace that this process holds as `fd`."""
    return f"/proc/{os.getpid()}/fd/{fd}"


def may_create() -> bool:
    """Whether this process may make network namespaces (CAP_SYS_ADMIN and a kernel that has them)."""
    try:
        os.close(create())
    except OSError:
        return False
    return True
