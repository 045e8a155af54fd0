"""What a message suffers between two nodes: latency, jitter, loss, both lines' rates, partitions."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from p2pml.scenario.links import UNSHAPED, Link

RETRANSMIT_S = 0.2
"""What a lost segment costs a stream: the least retransmission time-out of common TCP stacks."""


@dataclass
class Network:
    """Every node's access link, and who can reach whom.

    A message leaves when the sender's line is free, reaches the receiver's router after the receiver's
    delay (its jitter included), and then takes the receiver's line for its size, in order of arrival there.
    Messages of one pair keep their order, as on a TCP connection. A lost one is late by a retransmission
    time-out when `reliable`, as there, and otherwise gone.

    Args:
        rng: the only source of chance.
        reliable: whether loss delays (streams) or drops (gossip that nobody repeats).
        links: by node; a node without one has a link that does nothing.
        sparse: segments of at most so many bytes do not wait behind what goes to others, as in a router that
            queues fairly; 0 for none.
        downlinks: bit/s of what a node receives, where that is not its link's rate.
    """

    rng: random.Random
    reliable: bool = True
    links: dict[str, Link] = field(default_factory=dict)
    downlinks: dict[str, int] = field(default_factory=dict)
    sparse: int = 0
    _groups: dict[str, int] = field(default_factory=dict)
    _up_free: dict[str, float] = field(default_factory=dict)
    _down_free: dict[str, float] = field(default_factory=dict)
    _last: dict[tuple[str, str], float] = field(default_factory=dict)

    def partition(self, groups: Iterable[Iterable[str]]) -> None:
        """Only nodes of the same group reach each other; a node in no group reaches nobody."""
        self._groups = {name: number for number, group in enumerate(groups) for name in group}

    def heal(self) -> None:
        """Everybody reaches everybody again."""
        self._groups = {}

    def reaches(self, source: str, target: str) -> bool:
        """Whether a message sent now would get through the partitions."""
        if not self._groups:
            return True
        return self._groups.get(source, -1) == self._groups.get(target, -2)

    def arrival(self, source: str, target: str, size: int, now: float) -> float | None:
        """When `size` bytes sent at `now` (seconds) stand at the target's line; None when they never do."""
        if not self.reaches(source, target):
            return None
        sender, receiver = self.links.get(source, UNSHAPED), self.links.get(target, UNSHAPED)
        leaves = now if size <= self.sparse else _occupy(self._up_free, source, sender.rate, size, now)
        lost = receiver.loss > 0 and self.rng.random() < receiver.loss
        if lost and not self.reliable:
            return None
        jitter = self.rng.uniform(-receiver.jitter_ms, receiver.jitter_ms) if receiver.jitter_ms else 0.0
        arrives = leaves + (receiver.delay_ms + jitter) / 1000 + (RETRANSMIT_S if lost else 0.0)
        pair = (source, target)
        arrives = self._last[pair] = max(arrives, self._last.get(pair, 0.0))
        return arrives

    def received(self, target: str, size: int, now: float) -> float:
        """When `size` bytes that stand at the target's line at `now` are through it."""
        rate = self.downlinks.get(target, self.links.get(target, UNSHAPED).rate)
        return _occupy(self._down_free, target, rate, size, now)


def _occupy(free: dict[str, float], name: str, rate: int | None, size: int, start: float) -> float:
    if rate is None:
        return start
    free[name] = max(start, free.get(name, 0.0)) + size * 8 / rate
    return free[name]
