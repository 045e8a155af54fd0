"""Nodes on one event heap: delivery, timers, faults, invariants, and a hash over all that happened."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from p2pml.sim.heap import Entry, EventHeap
from p2pml.sim.network import Network

_MAX_TICKS = 1000
"""Ticks of one node at one instant; more are a machine whose deadline `tick` does not clear."""


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


Invariant = Callable[[str], None]
"""Called with the name of the node that acted; raises AssertionError when violated."""


class InvariantViolated(AssertionError):
    """An invariant failed, or an exception escaped a core. The message carries seed, time and event."""


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
        names: the nodes, in a fixed order.
        make: builds a node from its name and its own generator; again after a crash that lost the disk.
        invariants: called after every event.
        reliable: see `Network`.
        down: nodes that are not started with the others.
    """

    def __init__(
        self,
        seed: int,
        names: Sequence[str],
        make: Callable[[str, random.Random], Actor],
        invariants: Sequence[Invariant] = (),
        *,
        reliable: bool = True,
        down: Sequence[str] = (),
    ) -> None:
        self.seed = seed
        self.heap = EventHeap()
        self.network = Network(random.Random(f"{seed}/network"), reliable=reliable)
        self.actors: dict[str, Actor] = {}
        self.down = set(down)
        self._held_back: dict[str, float] = {}
        self._paused: dict[str, list[Callable[[], None]]] = {}
        self._make = make
        self._lives: dict[str, int] = {}
        self._timers: dict[str, Entry] = {}
        self._ticks: dict[str, tuple[float, int]] = {}
        self._invariants = invariants
        self._trace = hashlib.sha256()
        self._events = self._messages = self._bytes = 0
        for name in names:
            self.actors[name] = self._new(name)

    def _new(self, name: str) -> Actor:
        self._lives[name] = self._lives.get(name, 0) + 1
        return self._make(name, random.Random(f"{self.seed}/{name}/{self._lives[name]}"))

    # -- running ---------------------------------------------------------------------------------------

    def run(self, seconds: float) -> Summary:
        """Advance virtual time by `seconds`. Raises InvariantViolated."""
        if not self._events:
            for name in list(self.actors):
                if name not in self.down:
                    self._act(name, "start", b"", self.actors[name].start)
        until = self.heap.now + seconds
        while self.heap.step(until):
            pass
        return Summary(
            self.seed, self.heap.now, self._events, self._messages, self._bytes, self._trace.hexdigest()
        )

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Schedule a fault or any other intervention, at virtual seconds since the start."""
        self.heap.at(when, action)

    # -- faults ----------------------------------------------------------------------------------------

    def crash(self, name: str) -> None:
        """The node stops at once, without a word; messages under way to it are lost."""
        self.down.add(name)
        self._paused.pop(name, None)
        if timer := self._timers.pop(name, None):
            self.heap.cancel(timer)
        self._record(name, "crash", b"")

    def restart(self, name: str, *, disk: bool = True) -> None:
        """The node comes back, with what its disk kept or, without `disk`, as new."""
        self.down.discard(name)
        if not disk:
            self.actors[name] = self._new(name)
        self._act(name, "restart", b"", self.actors[name].start)

    def slow(self, name: str, seconds: float) -> None:
        """From now on everything that the node sends leaves `seconds` late, as from a machine under load."""
        self._held_back[name] = seconds

    def pause(self, name: str) -> None:
        """Freeze the node: what arrives waits, and so do its timers."""
        self._paused.setdefault(name, [])

    def resume(self, name: str) -> None:
        """Thaw the node: all that waited happens now, in its order."""
        for action in self._paused.pop(name, []):
            action()

    # -- wires and timers ------------------------------------------------------------------------------

    def send(self, source: str, to: str, payload: bytes) -> None:
        """Put a message on the wire."""
        leaves = self.heap.now + self._held_back.get(source, 0.0)
        arrives = self.network.arrival(source, to, len(payload), leaves)
        if arrives is not None:
            self.heap.at(arrives, lambda: self._pass_line(source, to, payload))

    def inject(self, name: str, act: Callable[[float], Sequence[Send]]) -> None:
        """Let the node do something of its own accord, for example take a user's transaction."""
        if name not in self.down:
            self._act(name, "user", b"", act)

    def _pass_line(self, source: str, to: str, payload: bytes) -> None:
        through = self.network.received(to, len(payload), self.heap.now)
        if through > self.heap.now:
            self.heap.at(through, lambda: self._deliver(source, to, payload))
        else:
            self._deliver(source, to, payload)

    def _deliver(self, source: str, to: str, payload: bytes) -> None:
        if to in self._paused:
            self._paused[to].append(lambda: self._deliver(source, to, payload))
            return
        if to in self.down or to not in self.actors or not self.network.reaches(source, to):
            return
        self._messages += 1
        self._bytes += len(payload)
        actor = self.actors[to]
        self._act(to, source, payload, lambda now: actor.receive(source, payload, now))

    def _arm(self, name: str) -> None:
        deadline = self.actors[name].deadline()
        timer = self._timers.get(name)
        if timer is not None:
            if timer.at == deadline and not timer.cancelled:
                return
            self.heap.cancel(self._timers.pop(name))
        if deadline is not None:
            self._timers[name] = self.heap.at(deadline, lambda: self._tick(name))

    def _tick(self, name: str) -> None:
        if name in self._paused:
            self._paused[name].append(lambda: self._tick(name))
            return
        self._timers.pop(name, None)
        if name in self.down:
            return
        now = self.heap.now
        since, times = self._ticks.get(name, (now, 0))
        self._ticks[name] = (now, times + 1 if since == now else 1)
        if times > _MAX_TICKS:
            raise self._violation(name, "timer", f"its deadline stays in the past after {times} ticks")
        self._act(name, "timer", b"", self.actors[name].tick)

    # -- one event -------------------------------------------------------------------------------------

    def _act(self, name: str, cause: str, payload: bytes, act: Callable[[float], Sequence[Send]]) -> None:
        try:
            sends = act(self.heap.now)
        except Exception as error:  # whatever arrives, a core must not raise
            raise self._violation(name, cause, f"{type(error).__name__} escaped: {error}") from error
        self._record(name, cause, payload)
        for effect in sends:
            self.send(name, effect.to, effect.payload)
        self._arm(name)
        for invariant in self._invariants:
            try:
                invariant(name)
            except AssertionError as error:
                raise self._violation(name, cause, str(error)) from error

    def _violation(self, name: str, cause: str, what: str) -> InvariantViolated:
        when = f"t={self.heap.now:.3f} s, event {self._events} ({cause} → {name})"
        return InvariantViolated(f"seed {self.seed}, {when}: {what}")

    def _record(self, name: str, cause: str, payload: bytes) -> None:
        self._events += 1
        line = f"{self.heap.now:.6f} {cause} {name} {hashlib.sha256(payload).hexdigest()} "
        self._trace.update(line.encode() + self.actors[name].digest())
