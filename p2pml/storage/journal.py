"""A job's journal: append-only JSON lines, on disk before the next step is taken.

A line counts once its newline is there; what a crash left of an unfinished last line is cut off when the
journal is opened again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class JournalError(Exception):
    """The journal is damaged before its end, so it does not say what happened; `line` counts from 1."""

    def __init__(self, path: Path, line: int, reason: str) -> None:
        super().__init__(f"{path}, line {line}: {reason}")
        self.path = path
        self.line = line


def read(path: Path) -> list[dict[str, Any]]:
    """The entries of a journal, oldest first; empty when there is no file. A torn last line is left out.

    Raises:
        JournalError: a line other than a torn last one is not a JSON object.
        OSError: the file cannot be read.
    """
    return _scan(path)[0]


class Journal:
    """Appends entries to one file; each is synced to disk before `append` returns.

    Raises:
        JournalError: the file is damaged before its end.
        OSError: the file cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.entries, good = _scan(path)
        self._file = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        if os.fstat(self._file).st_size != good:
            os.ftruncate(self._file, good)
            os.fsync(self._file)
        self._size = good
        _sync_folder(path.parent)

    def append(self, kind: str, **data: Any) -> None:
        """Add `{"kind": kind, **data}`; blocks until it is on disk. Values must be JSON.

        Raises:
            OSError: the disk refuses; the journal is as it was.
        """
        entry = {"kind": kind, **data}
        line = json.dumps(entry, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        view = memoryview(line)
        try:
            while view:
                view = view[os.write(self._file, view) :]
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._size)  # the next entry would be glued to half of this one
            raise
        self._size += len(line)
        self.entries.append(json.loads(line))

    def last(self, kind: str) -> dict[str, Any] | None:
        """The newest entry of a kind."""
        return next((entry for entry in reversed(self.entries) if entry["kind"] == kind), None)

    def all(self, kind: str) -> list[dict[str, Any]]:
        """Every entry of a kind, oldest first."""
        return [entry for entry in self.entries if entry["kind"] == kind]

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _scan(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The whole entries, and how many bytes of the file they take."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    entries: list[dict[str, Any]] = []
    lines = data.split(b"\n")
    good = 0
    for number, line in enumerate(lines[:-1], start=1):
        try:
            entry = json.loads(line)
            if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str):
                raise ValueError("not an entry")
        except ValueError as error:
            if number == len(lines) - 1 and lines[-1] == b"":
                break  # a crash may leave zeros or part of a block before the last newline reached the disk
            raise JournalError(path, number, str(error)) from error
        entries.append(entry)
        good += len(line) + 1
    return entries, good


def write_atomic(path: Path, data: bytes) -> None:
    """Put `data` at `path`, synced, so that a crash leaves either the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
    finally:
        os.close(handle)
    move_durably(draft, path)


def move_durably(draft: Path, path: Path) -> None:
    """Put a finished file at `path` in the same folder: once this returns, no power cut takes it."""
    handle = os.open(draft, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    os.replace(draft, path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
