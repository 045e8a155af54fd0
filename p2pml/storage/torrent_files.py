"""A torrent's files as they lie on disk, and choices among them."""

from __future__ import annotations

from p2pml.errors import UserError
from p2pml.storage.payload import PayloadFile
from torrent.metainfo import Metainfo


def payload_files(metainfo: Metainfo) -> tuple[PayloadFile, ...]:
    """The torrent's files with their ranges; a multi-file torrent has a folder of its name."""
    return tuple(
        PayloadFile(
            (metainfo.name,) if metainfo.single_file else (metainfo.name, *file.path),
            file.offset,
            file.length,
            file.pad,
        )
        for file in metainfo.files
    )


def check_wanted(metainfo: Metainfo, wanted: frozenset[int] | None) -> None:
    """Raises UserError when `wanted` names a file that the torrent does not have."""
    for index in sorted(wanted or ()):
        if not 0 <= index < len(metainfo.files) or metainfo.files[index].pad:
            raise UserError(
                f"{metainfo.name} has no file number {index}", "`p2pml data info` lists its files by number"
            )
