"""Turns what our own disk refuses into an error that its reader can act on."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p2pml.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
        raise UserError(
            f"{name} cannot be stored in {folder}: {error.strerror or error}",
            "check the folder's rights and the disk",
        ) from error
