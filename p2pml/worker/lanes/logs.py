"""Where lanes write what goes wrong. Each opens its own, so that the node needs no descriptor for it."""

from __future__ import annotations

import os
from pathlib import Path


def log_file(folder: Path, lane: int) -> Path:
    """In the folder with the samples; the first lane's is also that of the process that forks them all."""
    return folder / f"lane-{lane}.log"


def open_log(folder: Path, lane: int) -> int:
    """A descriptor that writes to the end of it. Raises OSError."""
    return os.open(log_file(folder, lane), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
