"""Pings of one connection: whether the peer is there, and how far away. No IO and no clock in here."""

from __future__ import annotations

from p2pml.net.errors import TimedOut

_NUMBERS = 1 << 32


class Liveness:
    """Decides when to ping and when to give up.

    Args:
        interval: seconds between two pings.
        timeout: seconds after a ping without a byte from the peer, of whatever kind.
        now: seconds on the owner's clock.

    Attributes:
        rtt: seconds between the last answered ping and its answer, 0 before the first.
    """

    def __init__(self, interval: float, timeout: float, now: float) -> None:
        self.rtt = 0.0
        self._interval, self._timeout = interval, timeout
        self._last_heard = self._last_ping = now
        self._number = 0
        self._silent = False  # a ping was sent, and nothing came since

    def heard(self, now: float) -> None:
        """Something came from the peer."""
        self._last_heard, self._silent = now, False

    def answered(self, number: int, now: float) -> None:
        """The peer answered a ping; one that is not the last tells nothing."""
        if number == self._number:
            self.rtt = now - self._last_ping

    def tick(self, now: float) -> int | None:
        """The number of a ping to send now, or None.

        Raises:
            TimedOut: the peer is gone.
        """
        if self._silent and now >= self._last_ping + self._timeout:
            raise TimedOut(f"nothing was heard from the peer for {now - self._last_heard:.0f} s")
        if self._silent or now < self._last_ping + self._interval:
            return None
        self._last_ping, self._silent = now, True
        self._number = (self._number + 1) % _NUMBERS
        return self._number

    def deadline(self, now: float) -> float:
        """When `tick` has something to do next."""
        due = self._last_ping + self._interval
        return self._last_ping + self._timeout if self._silent and due <= now else due
