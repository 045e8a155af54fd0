"""What one connection, and all of them together, may cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one connection. Sizes in bytes, times in seconds.

    Attributes:
        max_window: what a stream's receive window may grow to while its reader keeps up.
        inbound_streams: streams that the peer may hold open; more are reset.
        outbound_streams: streams that we may hold open; more raise `TooManyStreams`.
        stream_outbox: accepted from a stream's writers and not yet written to the socket.
        connection_outbox: the same for all streams of the connection.
        connection_unread: received and not yet read, all streams; beyond it the fullest stream is reset.
        answers: answers owed to the peer (pongs, acknowledgements, refusals) that it does not take; more
            end the connection.
        keepalive: between two pings.
        keepalive_timeout: a ping after which nothing at all was received this long ends the connection.
        linger: how long a stream that we closed waits for the peer's end once ours is sent, and a stream that
            both ended for its reader.
    """

    max_window: int = 4 * _MIB
    inbound_streams: int = 256
    outbound_streams: int = 256
    stream_outbox: int = 512 * 1024
    connection_outbox: int = 2 * _MIB
    connection_unread: int = 32 * _MIB
    answers: int = 512
    keepalive: float = 15.0
    keepalive_timeout: float = 45.0
    linger: float = 60.0


class Holder(Protocol):
    """A connection, as the budget sees it."""

    @property
    def unread(self) -> int:
        """Bytes received and not yet read."""
        ...

    def shed(self) -> None:
        """Reset the stream with the most unread bytes."""
        ...


class Budget:
    """The bytes that all connections of a host may buffer together.

    Args:
        total: bytes received and unread, and accepted for sending and unsent. Beyond it the connection with
            the most unread bytes loses its fullest stream, and a connection takes one frame at a time to
            send. Half of it may be granted as receive windows above the initial size.
    """

    def __init__(self, total: int = 256 * _MIB) -> None:
        self.total = total
        self.used = 0
        self.granted = 0
        self.holders: set[Holder] = set()

    @property
    def room(self) -> int:
        """Bytes left; negative when overdrawn."""
        return self.total - self.used

    def grant(self, count: int) -> bool:
        """Set `count` bytes aside for a wider window; False when there is no room for them."""
        if self.granted + count > self.total // 2:
            return False
        self.granted += count
        return True

    def balance(self) -> None:
        """Take from whoever holds the most until the received bytes fit again."""
        while self.room < 0:
            fullest = max(self.holders, key=lambda holder: holder.unread, default=None)
            if fullest is None or not fullest.unread:
                return  # the rest is bounded by each connection's outbox
            fullest.shed()
