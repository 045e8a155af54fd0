"""Turns what our own disk refuses into an error that its reader can act on."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p2pml.errors import UserError

FREE_RESERVE = 64 * 1024 * 1024
"""Bytes that stay free: a node that fills the disk to the last block takes its chain database with it."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


class DiskFull(UserError):
    """No room for more; what is stored stays good."""


@contextmanager
def disk_errors(folder: Path, name: str) -> Iterator[None]:
    """Around writes below `folder` for the data set `name`.

    Raises:
        UserError: for an OSError of the block; `DiskFull` when there is no room.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(
                f"the disk of {folder} is full: {name} waits, nothing is lost",
                "make room there, then fetch it again: it goes on where it stopped",
            ) from error
        if error.errno == errno.EFBIG:
            raise UserError(
                f"a file of {name} is larger than this system lets one be in {folder}",
                "raise the limit (`ulimit -f`) or use another file system; nothing that is stored was lost",
            ) from error
        raise UserError(
            f"{name} cannot be stored in {folder}: {error.strerror or error}",
            "make the folder writable for the node and check its disk; nothing that is stored was lost",
        ) from error


def free_space(folder: Path) -> int:
    """Bytes that this user may still write on the disk of a folder."""
    info = os.statvfs(folder)
    return info.f_bavail * info.f_frsize


def check_free(name: str, folder: Path, missing: int, free: int) -> None:
    """Raises `DiskFull` when `missing` bytes of `name` do not go into `free` ones beside the reserve."""
    if missing + FREE_RESERVE > free:
        raise DiskFull(
            f"{name} needs {_mib(missing)} more on the disk of {folder}, "
            f"{_mib(free)} are free and {_mib(FREE_RESERVE)} must stay free",
            "make room there, fetch fewer files, or move the node's home to a larger disk",
        )


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
