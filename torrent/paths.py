"""What a path inside a torrent may look like, and that no two of them collide on any common file system."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from torrent.errors import MetainfoError

MAX_COMPONENT = 255
"""Bytes of one path component in UTF-8: the limit of every common file system."""
MAX_PARTS = 64
MAX_PATH = 4096


def decode_component(raw: bytes) -> str:
    """One component of a path, or raise ``MetainfoError``."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MetainfoError(f"a path is not UTF-8: {raw[:40]!r}") from error
    if text in ("", ".", ".."):
        raise MetainfoError(f"path component {text!r}")
    if len(raw) > MAX_COMPONENT:
        raise MetainfoError(f"path component of {len(raw)} bytes")
    # control characters would also reach terminals and logs
    if any(c in "/\\" or unicodedata.category(c) == "Cc" for c in text):
        raise MetainfoError(f"path component {text!r} has a separator or a control character")
    return text


def decode_path(parts: Iterable[bytes]) -> tuple[str, ...]:
    """A path below the torrent's root, or raise ``MetainfoError``."""
    path = tuple(decode_component(part) for part in parts)
    if not path:
        raise MetainfoError("empty path")
    if len(path) > MAX_PARTS or sum(len(part.encode()) + 1 for part in path) > MAX_PATH:
        raise MetainfoError("path too long")
    return path


def _fold(path: tuple[str, ...]) -> tuple[str, ...]:
    # NFC on both sides: case folding may leave the normal form
    return tuple(unicodedata.normalize("NFC", unicodedata.normalize("NFC", part).casefold()) for part in path)


def check_collisions(paths: Iterable[tuple[str, ...]]) -> None:
    """Refuse paths that are one file on a case-folding or normalising file system, or a file and a
    folder at once.
    """
    files: set[tuple[str, ...]] = set()
    folders: set[tuple[str, ...]] = set()
    for path in paths:
        folded = _fold(path)
        if folded in files:
            raise MetainfoError(f"two files at {'/'.join(path)!r}")
        files.add(folded)
        # upward, and no further than a folder already seen: its parents were added with it
        for depth in range(len(folded) - 1, 0, -1):
            if folded[:depth] in folders:
                break
            folders.add(folded[:depth])
    clash = files & folders
    if clash:
        raise MetainfoError(f"{'/'.join(min(clash))!r} is both a file and a folder")
