"""A container image with next to nothing in it: this machine's own programs and Python are bind-mounted,
read-only.

Nothing is pulled, nothing is built, and what runs in the containers is exactly what runs outside.
"""

from __future__ import annotations

import io
import os
import sys
import tarfile
from pathlib import Path

import p2pml

_FOLDERS = (
    "usr",
    "etc",
    "proc",
    "sys",
    "dev",
    "tmp",
    "run",
    "var",
    "var/tmp",
    "var/lib",
    "root",
    "opt",
    "data",
)
_STICKY = {"tmp", "var/tmp"}
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_COPIED = ("etc/ld.so.cache", "etc/ssl/certs/ca-certificates.crt")
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": "root:x:0:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}


def image_tar() -> bytes:
    """The image's only layer, for `docker import`: folders, and links where this machine has them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in _FOLDERS:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder in _STICKY else 0o755
            tar.addfile(entry)
        for name in _MERGED:
            if (root := Path("/") / name).is_symlink():
                _add_link(tar, name, os.readlink(root))
        _add_alternatives(tar)
        for name, text in _FILES.items():
            _add_file(tar, name, text.encode())
        for name in _COPIED:
            if (source := Path("/") / name).is_file():
                _add_file(tar, name, source.read_bytes())
    return buffer.getvalue()


def _add_link(tar: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    tar.addfile(entry)


def _add_file(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o644
    tar.addfile(entry, io.BytesIO(data))


def _add_alternatives(tar: tarfile.TarFile) -> None:
    """Debian's programs of many makers (`awk`, `nc`, shared libraries such as BLAS) are links through
    here."""
    folder = Path("/etc/alternatives")
    for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
        if entry.is_symlink():
            _add_link(tar, f"etc/alternatives/{entry.name}", os.readlink(entry))


def read_only_mounts() -> list[Path]:
    """What the programs of the image are made of: /usr, this Python, its environment, and this project's
    source."""
    wanted = [Path("/usr"), *(Path("/") / name for name in _MERGED)]
    wanted = [path for path in wanted if path.is_dir() and not path.is_symlink()]
    source = Path(p2pml.__file__).resolve().parent.parent
    wanted += [Path(sys.base_prefix).resolve(), Path(sys.prefix).absolute(), source]
    wanted += [Path(sys.executable).resolve().parent]
    return _outermost(wanted)


def _outermost(paths: list[Path]) -> list[Path]:
    """Each path once, without those that lie within another."""
    unique = list(dict.fromkeys(paths))
    return [
        path for path in unique if not any(path != other and path.is_relative_to(other) for other in unique)
    ]
