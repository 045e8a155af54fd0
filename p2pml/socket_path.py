"""Unix socket paths of any length.

The address of a Unix socket holds 107 bytes (Linux, unix(7)). A longer path is reached through an open
descriptor of its folder, by `/proc/self/fd`. This module imports nothing heavy: both the daemon and the
commands use it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p2pml.errors import ExitCode, UserError

MAX_ADDRESS = 107


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """A spelling of `path` that fits a socket address, valid inside the `with` block.

    Raises:
        UserError: the path is too long and this system has no `/proc/self/fd`.
        OSError: the folder cannot be opened.
    """
    if len(os.fsencode(path)) <= MAX_ADDRESS:
        yield str(path)
        return
    if not os.path.isdir("/proc/self/fd"):
        raise UserError(
            f"the home folder's path is too long for a socket: {path} has more than {MAX_ADDRESS} bytes",
            "use a shorter --home",
            ExitCode.BAD_CONFIG,
        )
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
