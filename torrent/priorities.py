"""What is wanted, and how much: priorities 0 to 7 of files and of byte ranges, and so of pieces.

A piece has the highest priority of any byte in it, so that what is not wanted (0) is fetched only as far as
it shares a piece with something wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from torrent.errors import LocalError
from torrent.metainfo import Metainfo

UNWANTED, NORMAL, HIGHEST = 0, 4, 7


class ByteRange(NamedTuple):
    """Bytes ``begin`` to ``end`` (exclusive) of a file, by its index in ``Metainfo.files``."""

    file: int
    begin: int
    end: int
    priority: int


@dataclass(frozen=True, slots=True)
class Priorities:
    """``files``: by index; ``default``: of the files not named there; ``ranges`` stand over their file's, the
    later over the earlier.
    """

    files: Mapping[int, int] = field(default_factory=dict)
    default: int = NORMAL
    ranges: tuple[ByteRange, ...] = ()

    @classmethod
    def only(cls, files: Iterable[int] | None) -> Priorities:
        """These files and nothing else; ``None``: everything."""
        return cls() if files is None else cls(dict.fromkeys(files, NORMAL), UNWANTED)

    def of(self, file: int) -> int:
        """The file's own priority."""
        return self.files.get(file, self.default)

    def wanted_bytes(self, metainfo: Metainfo) -> int:
        """Bytes of the wanted files; with ranges, of the wanted pieces. Raises as ``table``."""
        if self.ranges:
            table = self.table(metainfo)
            return (len(table) - table.count(UNWANTED)) * metainfo.piece_length
        return sum(file.length for i, file in enumerate(metainfo.files) if not file.pad and self.of(i))

    def table(self, metainfo: Metainfo) -> bytes:
        """The priority of each piece. Raises ``LocalError``: no such file, range or priority.

        A piece that is nothing but padding has the default.
        """
        self._check(metainfo)
        size, table = metainfo.piece_length, bytearray(metainfo.piece_count)
        for file in metainfo.files:
            if file.pad:
                first, last = -(-file.offset // size), (file.offset + file.length) // size
                table[first:last] = bytes([self.default]) * max(0, last - first)
        for index, file in enumerate(metainfo.files):
            if not file.pad:
                for begin, end, priority in self._spans(index, file.length):
                    _raise(table, (file.offset + begin) // size, (file.offset + end - 1) // size, priority)
        return bytes(table)

    def _spans(self, file: int, length: int) -> list[tuple[int, int, int]]:
        """The file's bytes as (begin, end, priority), cut where the priority may change."""
        spans = [(0, length, self.of(file))] if length else []
        for range_ in self.ranges:
            if range_.file != file or range_.begin == range_.end:
                continue
            cut = []
            for begin, end, priority in spans:
                low, high = max(begin, range_.begin), min(end, range_.end)
                if low >= high:
                    cut.append((begin, end, priority))
                    continue
                cut += [(a, b, priority) for a, b in ((begin, low), (high, end)) if a < b]
            spans = [*cut, (range_.begin, range_.end, range_.priority)]
        return spans

    def _check(self, metainfo: Metainfo) -> None:
        levels = [*self.files.values(), self.default, *(range_.priority for range_ in self.ranges)]
        if any(not UNWANTED <= level <= HIGHEST for level in levels):
            raise LocalError(f"priorities are {UNWANTED} to {HIGHEST}")
        for file in (*self.files, *(range_.file for range_ in self.ranges)):
            if not 0 <= file < len(metainfo.files):
                raise LocalError(f"no file {file}")
        for range_ in self.ranges:
            if not 0 <= range_.begin <= range_.end <= metainfo.files[range_.file].length:
                raise LocalError(f"no bytes {range_.begin} to {range_.end} in file {range_.file}")


def _raise(table: bytearray, first: int, last: int, priority: int) -> None:
    """Give pieces ``first`` to ``last`` at least ``priority``."""
    for index in {first, last}:  # other files may have a share in these two
        table[index] = max(table[index], priority)
    table[first + 1 : last] = bytes([priority]) * max(0, last - first - 1)
