"""Reading typed fields of untrusted bencoded dictionaries."""

from __future__ import annotations

from typing import TypeVar

from torrent.bencode import Value
from torrent.errors import MetainfoError

MAX_TOTAL = 1 << 48
"""Bytes of a torrent's stream, so of each file too."""

_T = TypeVar("_T", int, bytes, list[Value], dict[bytes, Value])


def field(table: dict[bytes, Value], key: bytes, kind: type[_T]) -> _T:
    """The value of a key, of the type asked for, or raise ``MetainfoError``."""
    value = table.get(key)
    if not isinstance(value, kind):
        state = "missing" if value is None else "of the wrong type"
        raise MetainfoError(f"{key.decode()!r} is {state}")
    return value


def attributes(entry: dict[bytes, Value]) -> bytes:
    """The letters of ``attr`` (BEP 47): ``p`` padding, ``l`` symbolic link; others are ignored."""
    return field(entry, b"attr", bytes) if b"attr" in entry else b""


def file_length(table: dict[bytes, Value]) -> int:
    """``length`` in bytes, or raise ``MetainfoError``."""
    length = field(table, b"length", int)
    if not 0 <= length <= MAX_TOTAL:
        raise MetainfoError(f"file length {length}")
    return length
