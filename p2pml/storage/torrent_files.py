"""A torrent's files as they lie on disk, and choices among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from p2pml.errors import UserError
from p2pml.storage.payload import PayloadFile
from torrent.metainfo import Metainfo
from torrent.priorities import NORMAL, UNWANTED

Choice = tuple[str, int]
"""A pattern for paths in a torrent, in which `*` fits `/` too, and the priority, 0 to 7, of what it fits."""


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


def choose_files(
    metainfo: Metainfo, choices: Sequence[Choice], before: Mapping[int, int] | None
) -> dict[int, int]:
    """The priority of each file; of several patterns that fit one, the last counts.

    Args:
        before: what they had; None for a new torrent: then files that are not named are wanted only when
            every choice says what is not.

    Raises:
        UserError: a pattern fits no file.
    """
    files = {index: "/".join(file.path) for index, file in enumerate(metainfo.files) if not file.pad}
    usual = UNWANTED if any(priority for _, priority in choices) else NORMAL
    chosen = {index: usual if before is None else before[index] for index in files}
    for pattern, priority in choices:
        fitting = [index for index, path in files.items() if fnmatchcase(path, pattern)]
        if not fitting:
            raise UserError(
                f"{metainfo.name} has no file that {pattern!r} fits", "`p2pml data info` lists its files"
            )
        chosen.update(dict.fromkeys(fitting, priority))
    return chosen
