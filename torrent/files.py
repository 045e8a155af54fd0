"""The files of a torrent as ranges of its stream."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class File:
    """One file of a torrent.

    ``path`` is relative to the content root: the folder that holds the file for a single-file torrent,
    the folder named ``Metainfo.name`` otherwise. ``offset`` and ``length`` in bytes of the torrent's
    stream. A pad file is zeros that exist in the stream only, never on disk.
    """

    path: tuple[str, ...]
    length: int
    offset: int
    pad: bool = False


class Segment(NamedTuple):
    """A range of one file: index into ``Metainfo.files``, offset in that file, length in bytes."""

    file: int
    offset: int
    length: int


def file_at(files: Sequence[File], offset: int) -> int:
    """Index of the last file that begins at or before ``offset``: where the byte there lies."""
    return bisect_right(files, offset, key=lambda file: file.offset) - 1
