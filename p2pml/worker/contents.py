"""Samples that a worker keeps for nodes on other machines: files by the SHA-256 of their content, a bounded
number of bytes of them. Methods block for the disk: call them in a thread."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from p2pml.formats import FormatError
from p2pml.formats.shards import MAX_BYTES


class Contents:
    """A folder of them.

    Args:
        folder: belongs to this object; made if needed.
        limit: bytes that the files may take; the ones that were used least recently go.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def find(self, digest: str) -> Path | None:
        """The file with that SHA-256, if it is here."""
        path = self._path(digest)
        if not path.exists():
            return None
        os.utime(path)
        return path

    def begun(self, digest: str) -> int:
        """How many bytes of it came before the connection broke."""
        part = self._part(digest)
        return part.stat().st_size if part.exists() else 0

    def add(self, digest: str, offset: int, size: int, data: bytes) -> Path | None:
        """Append what came; the file, once it is whole. What is refused is forgotten.

        Args:
            data: may be empty only where all of it came before and was not looked at any more.

        Raises:
            FormatError: it is not what was asked for, or too large to be kept.
            OSError: the disk refuses.
        """
        try:
            self._check(digest, offset, size, data)
            if offset == 0:
                self._drop_parts()
            with open(self._part(digest), "ab") as out:
                out.write(data)
                if offset + len(data) < size:
                    return None
                out.flush()
                os.fsync(out.fileno())  # or a power cut could leave a file of that name with other content
            return self._finish(digest, size)
        except FormatError:
            self._part(digest).unlink(missing_ok=True)
            raise

    def _check(self, digest: str, offset: int, size: int, data: bytes) -> None:
        most, end = min(MAX_BYTES, self._limit), offset + len(data)
        if not 0 < size <= most:
            raise FormatError(f"samples of {size} bytes, at most {most} are kept here")
        if offset != self.begun(digest) or end > size or (not data and end < size):
            raise FormatError("the node sent another part of the samples than it was asked for")

    def _drop_parts(self) -> None:
        """One call of one node is served at a time: others that were begun would only take room."""
        for part in self._folder.glob("*.part"):
            part.unlink()

    def _finish(self, digest: str, size: int) -> Path:
        part, path = self._part(digest), self._path(digest)
        if sha256(part) != digest:
            raise FormatError("the samples that the node sent do not have the hash that it named")
        self._make_room(size)
        part.replace(path)
        return path

    def _make_room(self, size: int) -> None:
        found = sorted(self._folder.glob("*.shard"), key=lambda path: path.stat().st_mtime)
        taken = sum(path.stat().st_size for path in found)
        for path in found:
            if taken + size <= self._limit:
                break
            taken -= path.stat().st_size
            path.unlink()

    def _path(self, digest: str) -> Path:
        return self._folder / f"{_checked(digest)}.shard"

    def _part(self, digest: str) -> Path:
        return self._folder / f"{_checked(digest)}.part"


def sha256(path: Path) -> str:
    """Of a file's content, in hexadecimal digits. Raises OSError."""
    with open(path, "rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _checked(digest: str) -> str:
    """A name for a file, and nothing else: it comes from another machine."""
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise FormatError("a node on another machine names samples by their SHA-256")
    return digest
