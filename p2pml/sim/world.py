"""A world of nodes on one event heap: delivery, timers, faults, invariants and the hash of everything that happened."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from p2pml.sim.heap import Entry, EventHeap
from p2pml.sim.network import Network


@dataclass(frozen=True, slots=True)
class Send:
    """A node's wish to send `payload` to the node named `to`."""

    to: str
    payload: bytes


class Actor(Protocol):
    """A simulated node: a core machine behind one interface. Times are virtual seconds."""

    def start(self, now: float) -> Sequence[Send]:
        """The node comes up, for the first time or again with what its disk kept."""

    def receive(self, source: str, payload: bytes, now: float) -> Sequence[Send]:
        """A message arrived."""

    def tick(self, now: float) -> Sequence[Send]:
        """The deadline has passed."""

    def deadline(self) -> float | None:
        """When `tick` wants to be called next."""

    def digest(self) -> bytes:
        """A short description of the node's state, for the trace."""


Invariant = Callable[[dict[str, Actor], str], None]


class InvariantViolated(AssertionError):
    """An invariant failed; the message carries seed, time and the event, so that the run can be repeated."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run amounted to: `trace` is the hash over all events, `seconds` is virtual time."""

    seed: int
    seconds: float
    events: int
    messages: int
    bytes: int
    trace: str


class World:
    """Nodes, links, faults and invariants.

    Args:
        seed: everything random in the run comes from it.
        make: builds a node from its name and its own generator; called again after a crash that lost the disk.
        names: the nodes, in a fixed order.
        invariants: called after every event with all nodes and the name of the one that acted; raise
            AssertionError when violated.
    """

    def __init__(
        self,
        seed: int,
        names: Sequence[str],
        make: Callable[[str, random.Random], Actor],
        invariants: Sequence[Invariant] = (),
        *,
        reliable: bool = True,
    ) -> None:
        self.seed = seed
        self.heap = EventHeap()
        self.network = Network(random.Random(f"{seed}/network"), reliable=reliable)
        self.actors: dict[str, Actor] = {}
        self.down: set[str] = set()
        self.slowness: dict[str, float] = {}
        self._make = make
        self._lives: dict[str, int] = {}
        self._timers: dict[str, Entry] = {}
        self._invariants = invariants
        self._trace = hashlib.sha256()
        self._events = self._messages = self._bytes = 0
        for name in names:
            self.actors[name] = self._new(name)

    def _new(self, name: str) -> Actor:
        self._lives[name] = self._lives.get(name, 0) + 1
        return self._make(name, random.Random(f"{self.seed}/{name}/{self._lives[name]}"))

    def run(self, seconds: float) -> Summary:
        """Advance virtual time by `seconds`. Raises InvariantViolated."""
        if not self._events:
            for name in list(self.actors):
                if name not in self.down:
                    self._act(name, "start", b"", self.actors[name].start(self.heap.now))
        until = self.heap.now + seconds
        while self.heap.step(until):
            pass
        return Summary(
            self.seed, self.heap.now, self._events, self._messages, self._bytes, self._trace.hexdigest()
        )

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Schedule a fault or any other intervention."""
        self.heap.at(when, action)

    def crash(self, name: str) -> None:
        """The node stops at once; messages under way to it are lost."""
        self.down.add(name)
        if timer := self._timers.pop(name, None):
            self.heap.cancel(timer)
        self._record(name, "crash", b"")

    def restart(self, name: str, *, disk: bool = True) -> None:
        """The node comes back, with its state or, without `disk`, as new."""
        self.down.discard(name)
        if not disk:
            self.actors[name] = self._new(name)
        self._act(name, "restart", b"", self.actors[name].start(self.heap.now))

    def slow(self, name: str, factor: float) -> None:
        """Everything that the node sends is held back by `factor` x 10 ms."""
        self.slowness[name] = factor

    def send(self, source: str, to: str, payload: bytes) -> None:
        """Put a message on the wire."""
        held = self.slowness.get(source, 0.0) * 0.01
        arrives = self.network.arrival(source, to, len(payload), self.heap.now + held)
        if arrives is not None:
            self.heap.at(arrives, lambda: self._deliver(source, to, payload))

    def _deliver(self, source: str, to: str, payload: bytes) -> None:
        if to in self.down or to not in self.actors or not self.network.reaches(source, to):
            return
        self._messages += 1
        self._bytes += len(payload)
        self._act(to, source, payload, self.actors[to].receive(source, payload, self.heap.now))

    def _act(self, name: str, cause: str, payload: bytes, sends: Sequence[Send]) -> None:
        self._record(name, cause, payload)
        for effect in sends:
            self.send(name, effect.to, effect.payload)
        self._arm(name)
        for invariant in self._invariants:
            self._check(invariant, name, cause)

    def _check(self, invariant: Invariant, name: str, cause: str) -> None:
        try:
            invariant(self.actors, name)
        except AssertionError as error:
            raise InvariantViolated(
                f"seed {self.seed}, t={self.heap.now:.3f} s, event {self._events} ({cause} → {name}): {error}"
            ) from error

    def _arm(self, name: str) -> None:
        if timer := self._timers.pop(name, None):
            self.heap.cancel(timer)
        deadline = self.actors[name].deadline()
        if deadline is not None:
            self._timers[name] = self.heap.at(deadline, lambda: self._tick(name))

    def _tick(self, name: str) -> None:
        self._timers.pop(name, None)
        if name not in self.down:
            self._act(name, "timer", b"", self.actors[name].tick(self.heap.now))

    def _record(self, name: str, cause: str, payload: bytes) -> None:
        self._events += 1
        line = f"{self.heap.now:.6f} {cause} {name} {hashlib.sha256(payload).hexdigest()} "
        self._trace.update(line.encode() + self.actors[name].digest())
