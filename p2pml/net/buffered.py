"""Reads of a libp2p stream through a buffer, for code that asks for a byte at a time."""

from __future__ import annotations

from typing import Any

import trio

READ_BYTES = 64 * 1024


class BufferedReads:
    """A libp2p stream whose small reads are taken from a large one.

    libp2p reads the length of each pubsub message byte by byte, and its yamux answers every read with a
    frame of its own: three frames for one message, each encrypted and read on the other side.

    Args:
        stream: everything but `read` is the stream's own.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._buffer = b""
        self._taken = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def read(self, n: int | None = None) -> bytes:
        """1 to `n` bytes, or as many as are there; raises what the stream raises."""
        if self._taken == len(self._buffer):
            self._buffer, self._taken = bytes(await self._stream.read(READ_BYTES)), 0
        else:  # let what the last message began go on, however many of them one buffer holds
            await trio.lowlevel.checkpoint()
        end = len(self._buffer) if n is None or n < 0 else self._taken + n
        data = self._buffer[self._taken : end]
        self._taken += len(data)
        return data
