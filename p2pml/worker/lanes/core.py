"""Who trains which episode, and when the window ends: a machine without processes and without a clock.

Each lane that is free takes the next episode, so that one pool does as much as so many separate ones would.
The window begins when all lanes are ready, or at a time that is given. It lasts as long as it lasts: what is
finished later does not count, and a pause or a late lane is time that is lost.
"""

from __future__ import annotations

from dataclasses import dataclass

from chain.baseline.net import Net
from chain.baseline.trace import Leaf


@dataclass(frozen=True, slots=True)
class Ready:
    """A lane has loaded its data; it has used `cpu_ms` of processor time so far."""

    lane: int
    cpu_ms: int


@dataclass(frozen=True, slots=True)
class Done:
    """A lane has finished a segment."""

    lane: int
    leaf: Leaf
    cpu_ms: int


@dataclass(frozen=True, slots=True)
class Lost:
    """A lane's process has ended, or says what it must not."""

    lane: int
    reason: str


@dataclass(frozen=True, slots=True)
class Pause:
    """The machine is needed for something else."""


@dataclass(frozen=True, slots=True)
class Resume:
    """It is free again."""


@dataclass(frozen=True, slots=True)
class Over:
    """The window has ended by another clock than the one that this machine is told."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The window has begun."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The window is over, or no lane is left; `failure` says why there was none."""

    failure: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """What a lane is told: `train` (an episode), `pause`, `resume` or `stop`."""

    lane: int
    word: str
    episode: int = 0


Event = Ready | Done | Lost | Pause | Resume | Over
Effect = Opened | Closed | Order


class LanePool:
    """The lanes of one window.

    Args:
        lanes: how many, numbered from 0.
        seconds: length of the window.
        patience: seconds within which lanes have to be ready, when the window waits for them.
        now: time of the start, seconds on any clock.
        opens_at: when the window begins, whoever is ready; None to wait for all lanes.
    """

    def __init__(
        self,
        net: Net,
        lanes: int,
        seconds: float,
        patience: float,
        now: float,
        opens_at: float | None = None,
    ) -> None:
        self._net, self._lanes, self._seconds = net, lanes, seconds
        self._late_at, self._opens_at = now + patience, opens_at
        self._waiting = set(range(lanes))
        self._living = set(range(lanes))
        self._ends_at: float | None = None
        self._next = 0
        self._at: dict[int, tuple[int, int]] = {}
        self._first_cpu: dict[int, int] = {}
        self._last_cpu: dict[int, int] = {}
        self.closed = False
        self.late = 0
        self.leaves: list[Leaf] = []

    @property
    def cpu_ms(self) -> int:
        """Processor time of the segments that count."""
        return sum(self._last_cpu.values()) - sum(self._first_cpu.values())

    @property
    def lanes_left(self) -> int:
        """How many have not been lost."""
        return len(self._living)

    def seconds_left(self, now: float) -> float | None:
        """Until the end of the window; None before it has begun."""
        return None if self._ends_at is None else max(0.0, self._ends_at - now)

    def deadline(self) -> float | None:
        """When `tick` has something to do; None when never."""
        if self.closed:
            return None
        if self._ends_at is not None:
            return self._ends_at
        return self._late_at if self._opens_at is None else self._opens_at

    def tick(self, now: float) -> list[Effect]:
        """Let time pass."""
        due = self.deadline()
        if due is None or now < due:
            return []
        if self._ends_at is not None:
            return self._close("")
        if self._opens_at is not None:
            return self._open(self._opens_at)
        self._living -= self._waiting
        self._waiting.clear()
        return self._open(now)

    def receive(self, event: Event, now: float) -> list[Effect]:
        """Take an event in."""
        passed = self.tick(now)  # what comes after the deadline finds the window closed
        if self.closed:
            return passed
        return passed + self._on(event, now)

    def _on(self, event: Event, now: float) -> list[Effect]:
        if isinstance(event, Over):
            return self._close(
                "" if self._ends_at is not None else "the window was over before it began here"
            )
        if isinstance(event, Pause | Resume):
            word = "pause" if isinstance(event, Pause) else "resume"
            return [Order(lane, word) for lane in sorted(self._living)]
        if event.lane not in self._living:
            return []
        if isinstance(event, Ready):
            return self._on_ready(event, now)
        if isinstance(event, Done):
            return self._on_done(event, now)
        return self._on_lost(event, now)

    def _on_ready(self, event: Ready, now: float) -> list[Effect]:
        if event.lane not in self._waiting:
            return self._on_lost(Lost(event.lane, "ready twice"), now)
        self._waiting.discard(event.lane)
        self._first_cpu[event.lane] = self._last_cpu[event.lane] = event.cpu_ms
        if self._ends_at is not None:
            self.late += 1
            return [self._train(event.lane)]
        return self._open_if_all_are_ready(now)

    def _on_done(self, event: Done, now: float) -> list[Effect]:
        if self._at.get(event.lane) != (event.leaf.episode, event.leaf.segment):
            return self._on_lost(Lost(event.lane, "a segment that it was not to train"), now)
        self.leaves.append(event.leaf)
        self._last_cpu[event.lane] = event.cpu_ms
        if event.leaf.segment + 1 == self._net.segments:
            return [self._train(event.lane)]
        self._at[event.lane] = (event.leaf.episode, event.leaf.segment + 1)
        return []

    def _on_lost(self, event: Lost, now: float) -> list[Effect]:
        # Its segments so far stay: an episode may end early.
        self._living.discard(event.lane)
        self._waiting.discard(event.lane)
        if not self._living:
            return self._close(event.reason)
        return self._open_if_all_are_ready(now)

    def _open_if_all_are_ready(self, now: float) -> list[Effect]:
        if self._waiting or self._ends_at is not None or self._opens_at is not None:
            return []
        return self._open(now)

    def _open(self, now: float) -> list[Effect]:
        if not self._living:
            return self._close(f"not ready in time: all {self._lanes} lanes")
        self._ends_at = now + self._seconds
        return [Opened(), *(self._train(lane) for lane in sorted(self._living - self._waiting))]

    def _train(self, lane: int) -> Order:
        episode, self._next = self._next, self._next + 1
        self._at[lane] = (episode, 0)
        return Order(lane, "train", episode)

    def _close(self, failure: str) -> list[Effect]:
        self.closed = True
        return [Closed(failure)]
