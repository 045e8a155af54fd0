"""Which lab runs there are, and which of them still have an owner.

A run is a folder `<registry>/<run id>`; its owner holds a lock on the folder for as long as it lives, and the
kernel lets go of it however the owner ends. So a run whose lock is free is dead, and what carries its id is
left over.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from p2pml.lab.errors import LabError

_RUN_ID = re.compile(r"[0-9a-f]{8}")


def default_registry() -> Path:
    """`/run/p2pml-lab` for root, otherwise a folder of the user's own among the temporary files."""
    if os.geteuid() == 0 and Path("/run").is_dir():
        return Path("/run/p2pml-lab")
    return Path(tempfile.gettempdir()) / f"p2pml-lab-{os.geteuid()}"


@dataclass(frozen=True, slots=True)
class Run:
    """A run that this process owns, or a dead one that it has taken over to clean up."""

    id: str
    folder: Path
    lock: int

    def abandon(self) -> None:
        """Let go of the run but keep its folder, by which a cleanup finds what could not be removed."""
        os.close(self.lock)

    def close(self) -> None:
        """Remove the run's folder and let go of it."""
        with _locked(self.folder.parent):
            shutil.rmtree(self.folder, ignore_errors=True)
            os.close(self.lock)
            _remove_empty(self.folder.parent)


@contextlib.contextmanager
def _locked(registry: Path) -> Iterator[None]:
    """Hold the registry's lock; makes the registry."""
    while True:
        registry.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            fd = os.open(registry, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            if _same(fd, registry):
                if os.fstat(fd).st_uid != os.geteuid():
                    raise LabError(f"{registry} belongs to somebody else", "remove it or set TMPDIR")
                yield
                return
        finally:
            os.close(fd)


def _remove_empty(registry: Path) -> None:
    with contextlib.suppress(OSError):  # something is in there, other runs most likely
        registry.rmdir()


def _same(fd: int, path: Path) -> bool:
    """Whether the folder at `path` is still the one open as `fd`: the last run's end removes it."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(fd), path.stat())
    return False


def _take(folder: Path) -> int | None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def open_run(registry: Path | None = None) -> Run:
    """A new run, owned by this process.

    Raises:
        LabError: the registry belongs to another user.
    """
    registry = registry or default_registry()
    with _locked(registry):
        run_id = secrets.token_hex(4)
        folder = registry / run_id
        folder.mkdir(mode=0o700)
        lock = _take(folder)
        assert lock is not None, "nobody else knows the new folder"
        return Run(run_id, folder, lock)


def dead_runs(registry: Path | None = None) -> list[Run]:
    """Take over every run whose owner is gone; close each when it is cleaned up."""
    registry = registry or default_registry()
    if not registry.exists():
        return []
    with _locked(registry):
        folders = [entry for entry in sorted(registry.iterdir()) if _RUN_ID.fullmatch(entry.name)]
        taken = [(folder, _take(folder)) for folder in folders]
        if not folders:
            _remove_empty(registry)
    return [Run(folder.name, folder, lock) for folder, lock in taken if lock is not None]


def is_alive(folder: Path) -> bool:
    """Whether a run with this folder has an owner; one that cannot be looked at counts as alive."""
    try:
        lock = _take(folder)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    if lock is not None:
        os.close(lock)
    return lock is None
