"""Strict bencoding (BEP 3): a scanner in front of the ``bencode.py`` package.

The package alone takes ``i+5e``, ``i1_0e``, ``1_0:``, strings cut short, unsorted and repeated keys. The
scanner walks the bytes first, refuses all of those, bounds depth and work, and notes where the values of
the outermost dictionary lie, so that an info-hash is taken over the raw bytes and never over a
re-encoding.
"""

from __future__ import annotations

import re
from typing import cast

import bencodepy

from torrent.errors import BencodeError, LocalError

Value = int | bytes | list["Value"] | dict[bytes, "Value"]
Span = tuple[int, int]

MAX_DEPTH = 100
MAX_TOKENS = 1_000_000
"""More than any sane metainfo has (100,000 files take 800,000): bounds the time a hostile file takes."""

# 19 digits hold every 63-bit number; longer ones are refused before they are converted (int() is quadratic).
_INTEGER = re.compile(rb"i(?:0|-?[1-9][0-9]{0,18})e")
_LENGTH = re.compile(rb"(0|[1-9][0-9]{0,9}):")


class _Frame:
    """An open list or dictionary; ``key``: the last key read, ``wants_key``: alternates in a dictionary."""

    __slots__ = ("is_dict", "key", "wants_key")

    def __init__(self, is_dict: bool) -> None:
        self.is_dict = is_dict
        self.wants_key = is_dict
        self.key: bytes | None = None


class _Scanner:
    def __init__(self, data: bytes, max_depth: int) -> None:
        self._data = data
        self._max_depth = max_depth
        self._stack: list[_Frame] = []
        self.spans: dict[bytes, Span] = {}

    def run(self) -> int:
        """The end of the value that begins the data."""
        pos = start = tokens = 0
        while True:
            tokens += 1
            if tokens > MAX_TOKENS:
                raise BencodeError("too many values")
            depth = len(self._stack)
            if depth and self._stack[-1].wants_key and self._data[pos : pos + 1] != b"e":
                pos = self._key(pos)
                if depth == 1:
                    start = pos
                continue
            pos = self._token(pos)
            if len(self._stack) > depth:
                continue
            if len(self._stack) <= 1:
                self._note(start, pos)
            if not self._stack:
                return pos

    def _note(self, start: int, pos: int) -> None:
        """A value ended: remember its span when it belongs to the outermost dictionary."""
        if self._stack and (key := self._stack[0].key) is not None:
            self.spans[key] = (start, pos)

    def _token(self, pos: int) -> int:
        lead = self._data[pos : pos + 1]
        if lead in (b"l", b"d"):
            if len(self._stack) >= self._max_depth:
                raise BencodeError(f"nested deeper than {self._max_depth}")
            self._stack.append(_Frame(lead == b"d"))
            return pos + 1
        if lead == b"e":
            return self._close(pos)
        if lead == b"i":
            match = _INTEGER.match(self._data, pos)
            if match is None:
                raise BencodeError(f"malformed integer at byte {pos}")
            end = match.end()
        else:
            end = self._string(pos)
        self._value_done()
        return end

    def _close(self, pos: int) -> int:
        if not self._stack:
            raise BencodeError(f"unexpected end marker at byte {pos}")
        frame = self._stack[-1]
        if frame.is_dict and not frame.wants_key:
            raise BencodeError(f"dictionary key without a value at byte {pos}")
        self._stack.pop()
        self._value_done()
        return pos + 1

    def _value_done(self) -> None:
        if self._stack and self._stack[-1].is_dict:
            self._stack[-1].wants_key = True

    def _string(self, pos: int) -> int:
        match = _LENGTH.match(self._data, pos)
        if match is None:
            raise BencodeError(f"malformed value at byte {pos}")
        end = match.end() + int(match[1])
        if end > len(self._data):
            raise BencodeError(f"string at byte {pos} runs past the end")
        return end

    def _key(self, pos: int) -> int:
        end = self._string(pos)
        key = self._data[self._data.index(b":", pos) + 1 : end]
        frame = self._stack[-1]
        if frame.key is not None and key <= frame.key:
            raise BencodeError(f"dictionary keys out of order or repeated at byte {pos}")
        frame.key = key
        frame.wants_key = False
        return end


def scan(data: bytes, *, max_depth: int = MAX_DEPTH) -> dict[bytes, Span]:
    """Check that ``data`` is exactly one strictly bencoded value.

    Returns the half-open byte ranges of the values of the outermost dictionary (empty when it is none).
    Raises ``BencodeError``.
    """
    scanner = _Scanner(data, max_depth)
    end = scanner.run()
    if end != len(data):
        raise BencodeError(f"{len(data) - end} bytes after the end of the value")
    return scanner.spans


def decode_with_spans(data: bytes) -> tuple[Value, dict[bytes, Span]]:
    """The value and the byte ranges of the outermost dictionary's values. Raises ``BencodeError``."""
    spans = scan(data)
    return _decode(data), spans


def decode_prefix(data: bytes, *, max_depth: int = MAX_DEPTH) -> tuple[Value, int]:
    """The strictly bencoded value that ``data`` begins with, and where it ends. Raises ``BencodeError``."""
    end = _Scanner(data, max_depth).run()
    return _decode(data[:end]), end


def _decode(checked: bytes) -> Value:
    try:
        return cast(Value, bencodepy.decode(checked))
    except bencodepy.BencodeDecodeError as error:
        raise BencodeError(str(error)) from error


def decode(data: bytes) -> Value:
    """Decode one strictly bencoded value; strings stay bytes. Raises ``BencodeError``."""
    return decode_with_spans(data)[0]


def encode(value: Value) -> bytes:
    """Canonical bencoding, keys sorted. Raises ``LocalError`` for a type that bencoding does not have."""
    try:
        return cast(bytes, bencodepy.encode(value))
    except (KeyError, TypeError) as error:
        raise LocalError(f"cannot bencode {type(value).__name__}: {error}") from error
