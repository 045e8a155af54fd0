"""How long blocks took to become final, as the nodes were seen once a second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from p2pml.lab.run.timeline import Sample


@dataclass(frozen=True, slots=True)
class TimeToFinality:
    """Seconds from a block's being on a node to its being final there, to the nearest second or so.

    The empty blocks before a silence become final with the next heartbeat. They count as soon as nothing
    is left that has to.
    """

    blocks: int
    median_s: float
    p95_s: float


def time_to_finality(samples: Mapping[str, Sequence[Sample]]) -> TimeToFinality | None:
    """Over all nodes and all blocks that became final while they were watched; None if fewer than two did."""
    took = [seconds for seen in samples.values() for seconds in _took(seen)]
    if len(took) < 2:
        return None
    return TimeToFinality(len(took), round(median(took), 1), round(quantiles(took, n=20)[-1], 1))


def _took(seen: Sequence[Sample]) -> list[float]:
    known = [sample for sample in seen if sample.height >= 0]
    if not known:
        return []
    there: dict[int, float] = {}
    took, final, head = [], known[0].final, known[0].height
    for sample in known:
        there |= dict.fromkeys(range(head + 1, sample.height + 1), sample.at)
        reached = sample.height if sample.settled else sample.final
        took += [sample.at - there[height] for height in range(final + 1, reached + 1) if height in there]
        final, head = max(final, reached), max(head, sample.height)
    return took
