"""What the disk refuses a job: not the job's end, but a pause until its owner has made room."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p2pml.errors import ExitCode, UserError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class Suspended(UserError):
    """The job does not go on now; everything that its journal says holds, and it can be resumed."""


@contextmanager
def disk_errors(folder: Path, job: str) -> Iterator[None]:
    """Around the work of a job that keeps its files in `folder`.

    Raises:
        Suspended: for OSErrors of the block, also where nurseries have wrapped them; a group with anything
            else in it stays as it is.
    """
    try:
        yield
    except OSError as error:
        raise _suspended(folder, job, error) from error
    except BaseExceptionGroup as group:
        refused, other = group.split(OSError)
        if refused is None or other is not None:
            raise
        raise _suspended(folder, job, _first(refused)) from group


def _suspended(folder: Path, job: str, error: OSError) -> Suspended:
    name = Path(str(error.filename)) if error.filename else folder
    where = name if name.is_dir() else name.parent
    if error.errno in _FULL:
        first = "make room on its disk"
    elif error.errno in _FORBIDDEN:
        first = "make it writable for the user of the daemon"
    else:
        first = "see to the folder and its disk"
    return Suspended(
        f"this node's disk: {error.strerror or error}, in the folder {where}",
        f"{first}, then `p2pml job resume {job[:12]}`: it goes on where it stopped, nothing is lost",
        ExitCode.SUSPENDED,
    )


def _first(group: BaseExceptionGroup[OSError]) -> OSError:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
