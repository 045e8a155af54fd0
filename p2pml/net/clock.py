"""How far this machine's clock is from the others': NTP's four time stamps, and a median over peers. No
clock in here.

Each peer has one vote, its exchange with the shortest delay of the last few (the clock filter of RFC 5905,
section 10): queues and slow peers only make answers late, and the quickest has seen the least of that. The
median is within the range of the honest peers as long as they are the majority.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

KEPT = 8
"""Exchanges of one peer that are remembered."""
FRESH_S = 900.0
"""An exchange counts for so long."""
MAX_DELAY_S = 4.0
"""An exchange with more delay says too little: its error can be half of that."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One exchange.

    Args:
        offset: seconds to add to our clock to have the peer's.
        delay: seconds on the way, there and back.
    """

    offset: float
    delay: float

    @classmethod
    def of(cls, sent: float, received: float, answered: float, back: float) -> Sample:
        """From when the question left and the answer was back, by our clock, and when the peer received and
        answered it, by its own (seconds; RFC 5905, section 8).

        Raises:
            ValueError: times that cannot be: the peer's clock or ours went backwards meanwhile.
        """
        delay = (back - sent) - (answered - received)
        if answered < received or delay < 0:
            raise ValueError("an answer cannot come before its question")
        return cls(((received - sent) + (answered - back)) / 2, delay)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the peers say together.

    Args:
        offset: seconds to add to our clock to have theirs.
        peers: how many were heard.
    """

    offset: float
    peers: int


class Offsets:
    """The samples of each connected peer."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[tuple[float, Sample]]] = {}

    def add(self, peer: str, sample: Sample, now: float) -> None:
        """Note an exchange that ended at `now` (seconds of a clock that is never set)."""
        if sample.delay <= MAX_DELAY_S:
            self._samples.setdefault(peer, deque(maxlen=KEPT)).append((now, sample))

    def keep(self, peers: Iterable[str]) -> None:
        """Forget everybody else."""
        there = set(peers)
        self._samples = {peer: samples for peer, samples in self._samples.items() if peer in there}

    def offset_of(self, peer: str, now: float) -> float | None:
        """One peer's clock against ours, in seconds; None when it has not been heard lately."""
        fresh = [sample for at, sample in self._samples.get(peer, ()) if at > now - FRESH_S]
        return min(fresh, key=lambda sample: sample.delay).offset if fresh else None

    def estimate(self, now: float) -> Estimate | None:
        """The median over peers; None when nobody has been heard lately."""
        found = [offset for peer in self._samples if (offset := self.offset_of(peer, now)) is not None]
        return Estimate(median(found), len(found)) if found else None


def median(values: list[float]) -> float:
    """The middle value; of the two in the middle the one nearer to zero, so that of two peers one alone
    cannot make a clock look wrong.
    """
    ordered = sorted(values)
    return min(ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2], key=abs)
