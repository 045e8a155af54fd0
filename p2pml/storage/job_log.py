"""A job's log for people: numbered lines in a file that never grows beyond a bound.

A line is `number time text`; the time is UTC. When the file is full its older half goes. A lost line does no
harm, so nothing is synced, and a disk that refuses is the journal's business.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

FILE = "log.txt"
"""Its name in the job's folder."""
MAX_BYTES = 1024 * 1024
MAX_LINE = 500


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line: numbers count from 1 without gaps, `at` is seconds since 1970."""

    number: int
    at: float
    text: str


class JobLog:
    """Appends to one file; what cannot be written is left out.

    Args:
        path: of the file; made with the first line.
        clock: seconds since 1970.
        max_bytes: what the file may grow to.
    """

    def __init__(
        self, path: Path, clock: Callable[[], float] = time.time, max_bytes: int = MAX_BYTES
    ) -> None:
        self._path = path
        self._clock = clock
        self._max = max_bytes
        lines = read(path)
        self._next = lines[-1].number + 1 if lines else 1
        self._end_torn_line()

    def write(self, text: str) -> None:
        """Add a text, line by line; lines after the first are set in."""
        at = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")
        first, *rest = text.splitlines() or [""]
        lines = [first, *(f"    {line}" for line in rest)]
        numbered = enumerate(lines, start=self._next)
        encoded = "".join(f"{number} {at} {line[:MAX_LINE]}\n" for number, line in numbered).encode()
        with suppress(OSError):
            with self._path.open("ab") as file:
                file.write(encoded)
                size = file.tell()
            self._next += len(lines)
            if size > self._max:
                self._drop_older_half()

    def _end_torn_line(self) -> None:
        """What a crash left of a line must not become the beginning of the next one."""
        with suppress(OSError), self._path.open("r+b") as file:
            if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) and file.read() != b"\n":
                file.write(b"\n")

    def _drop_older_half(self) -> None:
        data = self._path.read_bytes()
        draft = self._path.with_suffix(".part")
        draft.write_bytes(data[data.index(b"\n", len(data) // 2) + 1 :])
        os.replace(draft, self._path)


def read(path: Path, after: int = 0) -> list[LogLine]:
    """The lines with numbers greater than `after` that the file still has; none where there is no file."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found: list[LogLine] = []
    for line in map(_parse, reversed(text.split("\n"))):
        if line is not None and line.number <= after:
            break
        found += [] if line is None else [line]
    return found[::-1]


def _parse(line: str) -> LogLine | None:
    """A line of the file; None for what a crash has torn."""
    try:
        number, at, text = line.split(" ", 2)
        return LogLine(int(number), datetime.fromisoformat(at).timestamp(), text)
    except ValueError:
        return None
