"""One stream's state: what it may send, what was received, how it ends. No IO in here."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from p2pml.net.errors import Closed
from p2pml.net.yamux import frames
from p2pml.net.yamux.inbox import Inbox

if TYPE_CHECKING:
    from p2pml.net.yamux.connection import Connection


class StreamState:
    """A stream of a `Connection`; made by it.

    Attributes:
        id: its number on the wire; odd ones were opened by the side that dialled.
        changed: called when a blocked reader or writer should look again; set by whoever does the waiting.
        ended: why the stream is over before its time (reset, connection gone); None while it is not.
        send_window: bytes that the peer still lets us send.
        recv_window: bytes that we still let the peer send.
        queued: bytes accepted for sending and not yet taken for the socket.
        finishing: the end of our side was asked for; it follows what is queued.
        fin_sent: it was taken for the socket.
        fin_received: the peer ended its side.
        abandoned: nobody reads any more; what still comes is dropped, and grants the peer nothing.
    """

    def __init__(self, connection: Connection, stream_id: int) -> None:
        self.id = stream_id
        self.changed: Callable[[], None] = _nothing
        self.ended: str | None = None
        self.send_window = frames.INITIAL_WINDOW
        self.recv_window = frames.INITIAL_WINDOW
        self.inbox = Inbox()
        self.queued = 0
        self.finishing = self.fin_sent = self.fin_received = self.abandoned = False
        self.idle_since: float | None = None  # since when only lingering; see Connection.tick
        self._connection = connection
        self._outbox: deque[memoryview] = deque()
        self._window = frames.INITIAL_WINDOW  # credit and unread bytes together
        self._consumed = 0  # since the last grant

    @property
    def readable(self) -> bool:
        """Whether a reader need not wait: there are bytes, or none will come."""
        over = self.ended is not None or self.fin_received or self.abandoned
        return over or self.inbox.size > 0

    @property
    def at_end(self) -> bool:
        """Whether everything that the peer will ever send has been read."""
        return self.fin_received and not self.inbox.size

    @property
    def lingers(self) -> bool:
        """Whether we sent all there is, and it only waits for the peer's end, or for a last reader."""
        return self.fin_sent and (self.abandoned or self.fin_received)

    @property
    def granted(self) -> int:
        """Bytes of window above the initial ones, held against the budget."""
        return self._window - frames.INITIAL_WINDOW

    def send(self, data: memoryview) -> int:
        """Accept as much of `data` as fits now; `changed` is called when more may fit.

        The bytes are not copied until `own_queued`: they must not change before they are sent.

        Returns:
            How many bytes were accepted.

        Raises:
            Closed: the stream has ended; by the peer, the connection or ourselves.
        """
        self._check_open()
        if self.finishing:
            raise Closed("this side of the stream was closed")
        count = min(len(data), self.send_window, self._connection.outbox_room(self))
        if count <= 0:
            self._connection.wait_for_room(self)
            return 0
        self.send_window -= count
        self.queued += count
        self._outbox.append(data[:count])
        self._connection.on_queued(self, count)
        return count

    def own_queued(self) -> None:
        """Copy what is queued, so that a writer that gives up does not keep its whole buffer alive."""
        self._outbox = deque(memoryview(bytes(part)) for part in self._outbox)

    def take(self, most: int) -> bytes:
        """Up to `most` received bytes; empty when there are none now (see `at_end`).

        Raises:
            Closed: the stream has ended before its time.
        """
        self._check_open()
        data = self.inbox.take(most)
        if data:
            self.idle_since = None
            self._consumed += len(data)
            self._connection.on_read(self, len(data))
        return data

    def grant_more(self, ceiling: int, reserve: Callable[[int], bool]) -> int:
        """The window that the peer should be granted now, 0 while it is not worth a frame.

        Args:
            ceiling: bytes that the window may grow to.
            reserve: asks for bytes beyond the present window.
        """
        if self.fin_received or self.abandoned or self._consumed < self._window // 2:
            return 0
        # Nothing is left unread: the reader is faster than the window lets the peer be.
        if not self.inbox.size and 2 * self._window <= ceiling and reserve(self._window):
            self._window *= 2
        more = self._window - self.recv_window - self.inbox.size
        self._consumed = 0
        self.recv_window += more
        return more

    def next_frame(self, room: int) -> list[bytes | memoryview]:
        """A frame of at most `room` bytes: data, or the end of our side; empty when neither is due."""
        count = min(room - frames.HEADER_BYTES, self.queued)
        if count > 0:
            self.queued -= count
            return [frames.encode(frames.DATA, 0, self.id, count), *self._cut(count)]
        if self.has_output:
            self.fin_sent = True
            return [frames.encode(frames.WINDOW_UPDATE, frames.FIN, self.id, 0)]
        return []

    def _cut(self, count: int) -> list[memoryview]:
        parts: list[memoryview] = []
        while count:
            part = self._outbox[0]
            if len(part) > count:
                parts.append(part[:count])
                self._outbox[0] = part[count:]
                return parts
            parts.append(self._outbox.popleft())
            count -= len(part)
        return parts

    @property
    def has_output(self) -> bool:
        """Whether `next_frame` has something to give."""
        if self.ended is not None:
            return False
        return self.queued > 0 or (self.finishing and not self.fin_sent)

    def end(self, reason: str) -> int:
        """Drop everything that is held; returns the bytes that were queued for sending."""
        self.ended = reason
        dropped, self.queued = self.queued, 0
        self._outbox.clear()
        return dropped

    def _check_open(self) -> None:
        if self.ended is not None:
            raise Closed(self.ended)


def _nothing() -> None:
    """Nobody waits."""
