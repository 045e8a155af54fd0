"""File systems that tell where a sparse file has no data, and those that do not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def tells_holes(folder: Path) -> bool:
    """Elsewhere each byte of a half fetched file passes for data, and is hashed at a start."""
    path = folder / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 20)
        told = os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 0
    path.unlink()
    return told


def need_holes(folder: Path) -> None:
    """Skip a test that counts what is hashed."""
    if not tells_holes(folder):
        pytest.skip(f"NOT TESTED: the file system of {folder} does not tell the holes of sparse files")
