"""A torrent's files as they lie on disk, and choices among them."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from p2pml.errors import UserError
from p2pml.storage.payload import PayloadFile
from torrent.metainfo import Metainfo
from torrent.priorities import NORMAL, UNWANTED, ByteRange, Priorities


class Choice(NamedTuple):
    """What is to be fetched, or not: of the files that `pattern` fits, in which `*` stands for `/` too, the
    bytes `begin` to `end` (exclusive), by default all of them; `priority` is 0 to 7.
    """

    pattern: str
    priority: int = NORMAL
    begin: int = 0
    end: int | None = None


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


def choose(metainfo: Metainfo, choices: Sequence[Choice], before: Priorities | None) -> Priorities:
    """What these choices make of the priorities; of several that are about the same bytes, the last counts.

    Args:
        before: what they were; None for a new torrent: then what is not named is wanted only when every
            choice says what is not.

    Raises:
        UserError: a pattern fits no file, or a file has no such bytes.
    """
    files = {index: "/".join(file.path) for index, file in enumerate(metainfo.files) if not file.pad}
    if before is None:
        before = Priorities({}, UNWANTED if any(choice.priority for choice in choices) else NORMAL)
    levels, ranges = {index: before.of(index) for index in files}, list(before.ranges)
    for choice in choices:
        fitting = [index for index, path in files.items() if fnmatchcase(path, choice.pattern)]
        if not fitting:
            raise UserError(
                f"{metainfo.name} has no file that {choice.pattern!r} fits",
                "`p2pml data info` lists its files",
            )
        for index in fitting:
            length = metainfo.files[index].length
            begin, end = choice.begin, length if choice.end is None else choice.end
            ranges = [r for r in ranges if r.file != index or r.begin < begin or r.end > end]
            if (choice.begin, choice.end) == (0, None):
                levels[index] = choice.priority
            elif begin < end <= length:
                ranges.append(ByteRange(index, begin, end, choice.priority))
            else:
                raise UserError(
                    f"there are no bytes {begin} to {end} in {files[index]}, which has {length}",
                    "name the first byte from 0, and the end, which is left out",
                )
    return Priorities(levels, ranges=tuple(ranges))


def want_more(metainfo: Metainfo, wanted: frozenset[int] | None, before: Priorities) -> Priorities:
    """These files wholly, all with None, besides what is wanted already.

    Raises:
        UserError: no such file.
    """
    check_wanted(metainfo, wanted)
    files = [index for index, file in enumerate(metainfo.files) if not file.pad]
    more = frozenset(files) if wanted is None else wanted
    levels = {index: before.of(index) or (NORMAL if index in more else UNWANTED) for index in files}
    return Priorities(levels, ranges=tuple(range_ for range_ in before.ranges if range_.file not in more))
