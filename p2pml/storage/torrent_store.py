"""The folder of all torrents, `pieces/`: one folder for each, named by its info-hash."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path

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


def strip_folder(folder: Path) -> None:
    """Forget a torrent but keep the files that were fetched.

    Raises:
        OSError: something cannot be deleted.
    """
    (folder / METAINFO_NAME).unlink(missing_ok=True)  # first: without it the folder is no torrent
    for name in ("state.json", "have"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "parts", ignore_errors=True)
    with suppress(OSError):  # files in content/ keep it there
        folder.rmdir()
