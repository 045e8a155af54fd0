"""What happened when, and what each node looked like second by second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Tell = Callable[["Event"], None]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Args:
        at: seconds since the run began.
        kind: `step`, `done`, `node`, `round`, `job`, `check`, `skipped` or `failure`.
        node: whom it happened to; empty for the whole network.
        text: for people.
    """

    at: float
    kind: str
    node: str
    text: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a node.

    Args:
        at: seconds since the run began.
        state: `up`, `paused`, `down`, or `silent` when it is up but does not answer.
        height, head: of its chain; -1 and empty when unknown.
        final: height up to which its blocks are final; -1 when unknown.
        settled: whether nothing there waits to become final: what is above `final` are empty blocks.
        balance: of its account, base units.
        rating, epoch: of its account at its head, and of the slot of this moment; -1 when unknown.
        cpu_s: seconds of processor time of the daemon and its worker since the run began, over restarts.
        rss: resident bytes of both.
        received, sent: bytes over its interface where it has one of its own, otherwise verified bytes of
            datasets.
    """

    at: float
    state: str
    height: int = -1
    head: str = ""
    final: int = -1
    balance: int = 0
    cpu_s: float = 0.0
    rss: int = 0
    received: int = 0
    sent: int = 0
    settled: bool = False
    rating: int = -1
    epoch: int = -1


@dataclass(slots=True)
class Timeline:
    """Collects events and samples from several threads.

    Args:
        tell: called with every event as it happens.
    """

    tell: Tell = lambda event: None
    events: list[Event] = field(default_factory=list)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    began_at: float = field(default_factory=time.time)
    _lock: Any = field(default_factory=threading.Lock)

    def now(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.began

    def add(self, kind: str, node: str, text: str) -> None:
        """Note and tell an event."""
        event = Event(round(self.now(), 2), kind, node, text)
        with self._lock:
            self.events.append(event)
            self.tell(event)

    def sample(self, node: str, sample: Sample) -> None:
        """Note a look at a node."""
        with self._lock:
            self.samples.setdefault(node, []).append(sample)

    def last(self, node: str) -> Sample | None:
        """The newest look at a node."""
        with self._lock:
            seen = self.samples.get(node)
            return seen[-1] if seen else None
