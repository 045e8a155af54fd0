"""One daemon per home: an advisory lock (flock(2)) on a file that says who holds it.

The kernel drops the lock with the process, however that ends, so a file left behind means nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from p2pml.errors import UserError


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a lock, and since when (UTC, ISO 8601)."""

    pid: int
    since: str


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock inside the `with` block.

    Raises:
        UserError: another process holds it; says which, since when, and how to stop it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            found = _read(path)
            who = f"PID {found.pid} since {found.since}" if found else "another process"
            raise UserError(
                f"a daemon runs on the home {path.parent} already: {who}",
                f"stop it with `p2pml stop --home {path.parent}`, or use another --home",
            ) from error
        since = datetime.now(UTC).isoformat(timespec="seconds")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "since": since}).encode("ascii"), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def holder(path: Path) -> Holder | None:
    """Who holds the lock now; None when nobody does, or has not said yet who it is.

    Only a record whose process is there is tested against the lock: the test is in the way of a daemon that
    takes the lock just then.
    """
    found = _read(path)
    if found is None or not _is_there(found.pid):
        return None
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return found
    finally:
        os.close(descriptor)
    return None


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # another user's
    return True


def _read(path: Path) -> Holder | None:
    try:
        record = json.loads(path.read_text(encoding="ascii"))
        return Holder(int(record["pid"]), str(record["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
