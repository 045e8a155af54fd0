"""The folder of all torrents, `pieces/`: one folder for each, named by its info-hash."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from p2pml.storage.file_marks import MARKS_NAME
from p2pml.storage.piece_store import METAINFO_NAME

_HEX = re.compile("[0-9a-f]{40}")


def stored_folders(pieces: Path) -> list[Path]:
    """The folders of stored torrents. What a crash left of one that was being made is removed.

    A folder without metainfo but with `content/` belongs to a removed torrent whose files its user kept.
    """
    if not pieces.is_dir():
        return []
    found = []
    for folder in sorted(pieces.iterdir()):
        if not _HEX.fullmatch(folder.name) or folder.is_symlink() or not folder.is_dir():
            continue
        if (folder / METAINFO_NAME).is_file():
            found.append(folder)
        elif not (folder / "content").is_dir():
            shutil.rmtree(folder, ignore_errors=True)
    return found


def kept_bytes(pieces: Path, known: frozenset[str]) -> int:
    """Bytes of disk that removed torrents' kept files take; `known`: names of folders that do not count."""
    if not pieces.is_dir():
        return 0
    total = 0
    for folder in pieces.iterdir():
        if not _HEX.fullmatch(folder.name) or folder.name in known or folder.is_symlink():
            continue
        if (folder / METAINFO_NAME).exists():
            continue
        for place, _, names in os.walk(folder / "content"):
            for name in names:
                with suppress(OSError):  # gone meanwhile
                    info = os.lstat(os.path.join(place, name))
                    total += min(info.st_size, info.st_blocks * 512)  # files are sparse
    return total


def holds_any(folder: Path, places: Iterable[Path]) -> bool:
    """Whether one of the files lies in the folder; `places`: absolute, links resolved."""
    root = folder.resolve()
    return any(place.is_relative_to(root) for place in places)


def strip_folder(folder: Path) -> None:
    """Forget a torrent but keep the files that were fetched.

    Raises:
        OSError: something cannot be deleted.
    """
    (folder / METAINFO_NAME).unlink(missing_ok=True)  # first: without it the folder is no torrent
    for name in ("state.json", "have", MARKS_NAME):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "parts", ignore_errors=True)
    with suppress(OSError):  # files in content/ keep it there
        folder.rmdir()
