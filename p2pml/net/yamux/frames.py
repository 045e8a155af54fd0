"""The frames of yamux; no IO in here.

A frame is a 12-byte header, big-endian: version (8 bits, 0), type (8), flags (16), stream (32), length (32).
Only a data frame has a body, of `length` bytes (yamux specification,
https://github.com/hashicorp/yamux/blob/master/spec.md).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from p2pml.net.errors import Malformed

DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
HEADER_BYTES = 12
INITIAL_WINDOW = 256 * 1024
"""Bytes that either side may send on a new stream before it was granted more."""
NORMAL, PROTOCOL_ERROR, INTERNAL_ERROR = range(3)
"""Codes of a go-away frame, in its length field."""

_HEADER = struct.Struct("!BBHII")


class Header(NamedTuple):
    """A frame's header; a data frame's `Body`s follow it, at least one."""

    kind: int
    flags: int
    stream: int
    length: int


class Body(NamedTuple):
    """A part of a data frame's body, all of it when it came in one piece.

    Attributes:
        data: a view into what was fed; copy what must outlive it.
        last: the frame is complete with this part.
    """

    data: memoryview
    last: bool


_EMPTY = Body(memoryview(b""), True)


def encode(kind: int, flags: int, stream: int, length: int) -> bytes:
    """A header; the caller puts a data frame's body behind it."""
    return _HEADER.pack(0, kind, flags, stream, length)


class FrameReader:
    """Cuts a sequence of bytes, however it was divided on the way, into headers and bodies."""

    def __init__(self) -> None:
        self._partial = b""  # of a header
        self._missing = 0  # bytes of the body that are still to come

    def feed(self, chunk: bytes) -> list[Header | Body]:
        """What `chunk` holds. Buffers less than one header.

        Raises:
            Malformed: not a frame of this version of the protocol. Nothing may be fed after it.
        """
        if self._partial:
            chunk, self._partial = self._partial + chunk, b""
        events: list[Header | Body] = []
        view = memoryview(chunk)
        position, end = 0, len(chunk)
        while position < end:
            if self._missing:
                count = min(self._missing, end - position)
                self._missing -= count
                events.append(Body(view[position : position + count], not self._missing))
                position += count
                continue
            if end - position < HEADER_BYTES:
                self._partial = bytes(view[position:])
                break
            version, kind, flags, stream, length = _HEADER.unpack_from(chunk, position)
            position += HEADER_BYTES
            if version or kind > GO_AWAY:
                raise Malformed(f"a frame of version {version}, type {kind}")
            if kind < PING and not stream:
                raise Malformed("a frame for stream 0")
            events.append(Header(kind, flags, stream, length))
            if kind == DATA:
                self._missing = length
                if not length:
                    events.append(_EMPTY)
        return events
