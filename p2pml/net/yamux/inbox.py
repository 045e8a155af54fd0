"""Received and unread bytes of one stream."""

from __future__ import annotations

from collections import deque

_JOIN = 64 * 1024
_KEEP = _JOIN // 2  # a record is at most 64 KiB, so a view of this size holds at most twice its own bytes


class Inbox:
    """A queue of bytes whose memory stays near its size, whatever the sizes of the pieces put in."""

    def __init__(self) -> None:
        self.size = 0
        self._pieces: deque[memoryview | bytearray] = deque()

    def put(self, data: memoryview) -> None:
        """Append a piece; large ones are kept as views into the record they came in."""
        self.size += len(data)
        if len(data) >= _KEEP:
            self._pieces.append(data)
            return
        last = self._pieces[-1] if self._pieces else None
        if isinstance(last, bytearray) and len(last) + len(data) <= _JOIN:
            last += data
        else:
            self._pieces.append(bytearray(data))

    def take(self, most: int) -> bytes:
        """Up to `most` bytes from the front; empty when there are none."""
        parts: list[memoryview | bytearray] = []
        count = 0
        while self._pieces and count < most:
            piece = self._pieces[0]
            room = most - count
            if len(piece) <= room:
                parts.append(self._pieces.popleft())
                count += len(piece)
            else:
                view = memoryview(piece)
                parts.append(view[:room])
                self._pieces[0] = view[room:]
                count = most
        self.size -= count
        return b"".join(parts)

    def clear(self) -> int:
        """Drop everything; returns how many bytes that were."""
        dropped, self.size = self.size, 0
        self._pieces.clear()
        return dropped
