"""How a peer has behaved lately, as one number that every protocol adds to. No clock in here.

What only a liar or a broken program does counts against a peer until it is enough for a ban. What also
happens to an honest peer that is slow, busy or badly connected counts too, but its part is bounded below the
threshold and never brings the ban about: such a peer is asked later than others and keeps its connection.
Everything halves in ten minutes; good deeds cancel some of it, never enough for a stock of trust from which
one could lie.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum

THRESHOLD = 100.0
HALF_LIFE_S = 600.0
SLOW_MOST = 30.0
"""What slowness can add up to."""
CREDIT_MOST = 20.0
"""What good deeds can cancel."""
MAX_PEERS = 4096
_MIB = 1 << 20


class Deed(Enum):
    """What a protocol saw a peer do: points (below zero for good deeds), and whether it shows bad faith."""

    LIED = (THRESHOLD + CREDIT_MOST, True)
    """It sent what it can be held to and what does not hold: wrong blocks, wrong pieces. Enough by itself."""
    INVALID = (7.0, True)
    """It passed on a message that is invalid by the chain's rules; fifteen in a short time are enough."""
    VIOLATION = (10.0, True)
    """Its bytes are not the protocol's."""
    TIMEOUT = (1.0, False)
    """It did not answer in time."""
    REFUSED = (0.5, False)
    """It asked for more than its share, or broke off what it was asked for."""
    ANSWERED = (-0.5, False)
    """A good answer."""

    def __init__(self, points: float, bad_faith: bool) -> None:
        self.points, self.bad_faith = points, bad_faith


@dataclass(slots=True)
class _Account:
    at: float
    faults: float = 0.0
    slow: float = 0.0
    credit: float = 0.0

    def age(self, now: float) -> None:
        keep = 0.5 ** (max(now - self.at, 0.0) / HALF_LIFE_S)
        self.faults, self.slow, self.credit = self.faults * keep, self.slow * keep, self.credit * keep
        self.at = max(now, self.at)

    @property
    def total(self) -> float:
        return max(self.faults + self.slow - self.credit, 0.0)


class Scores:
    """One account per peer; the one that was touched longest ago is dropped when there are too many."""

    def __init__(self) -> None:
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    def report(self, peer: str, deed: Deed, now: float) -> bool:
        """Note what a peer did at `now` (seconds). True when it has to be banned for it."""
        account = self._touch(peer, now)
        if deed.bad_faith:
            account.faults += deed.points
            return account.total >= THRESHOLD
        if deed.points > 0:
            account.slow = min(account.slow + deed.points, SLOW_MOST)
        else:
            account.credit = min(account.credit - deed.points, CREDIT_MOST)
        return False

    def useful(self, peer: str, count: int, now: float) -> None:
        """It gave us `count` bytes that were right: a point for each MiB."""
        account = self._touch(peer, now)
        account.credit = min(account.credit + count / _MIB, CREDIT_MOST)

    def score(self, peer: str, now: float) -> float:
        """Points against a peer: 0 for nothing, `THRESHOLD` for a ban."""
        account = self._accounts.get(peer)
        if account is None:
            return 0.0
        account.age(now)
        return account.total

    def forget(self, peer: str) -> None:
        """A fresh start, as after a ban."""
        self._accounts.pop(peer, None)

    def _touch(self, peer: str, now: float) -> _Account:
        account = self._accounts.setdefault(peer, _Account(now))
        self._accounts.move_to_end(peer)
        account.age(now)
        if len(self._accounts) > MAX_PEERS:
            self._accounts.popitem(last=False)
        return account
