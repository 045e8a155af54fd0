"""The handwritten digits that come with p2pml, as a tar to be shared on a network."""

from __future__ import annotations

import tarfile
from importlib import resources
from pathlib import Path

DIGITS_NAME = "digits.tar"


def write_digits(folder: Path) -> Path:
    """Write the digits as `digits.tar`, the same bytes every time, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    source = resources.files("p2pml") / "data"
    path = folder / DIGITS_NAME
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive, resources.as_file(source) as files:
        for name in ("digits.npz", "README.md"):
            archive.add(files / name, arcname=f"digits/{name}", filter=_anonymous)
    return path


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member
