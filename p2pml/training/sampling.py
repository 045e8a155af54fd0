"""Which logical clients take part in a round: the same on every machine and after every restart.

`peers.sample` is the fraction C of McMahan et al. 2017: in each round max(1, ⌈C · clients⌉) clients, drawn
without replacement from the job's seed and the round's number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_TAG = 0x73616D706C65
"""Keeps these draws apart from others of the same seed."""


def sample_size(clients: int, fraction: float) -> int:
    """How many of the clients take part in each round.

    Args:
        clients: at least 1.
        fraction: in (0, 1].
    """
    return max(1, min(clients, math.ceil(fraction * clients - 1e-9)))


def fewest_updates(clients: int, quorum: float) -> int:
    """How many updates a round of so many clients needs when it is cut short.

    Args:
        clients: that the round wants.
        quorum: the share of them, in (0, 1].
    """
    return max(1, math.ceil(quorum * clients - 1e-9))


def sampled(clients: int, fraction: float, seed: int, round_: int, spare: int = 0) -> tuple[int, ...]:
    """The clients of one round, ascending.

    Args:
        clients: how many there are, numbered from 0.
        fraction: in (0, 1].
        seed: of the job.
        round_: from 0.
        spare: how many more are drawn than the round needs, as far as there are so many.
    """
    size = min(clients, sample_size(clients, fraction) + spare)
    if size == clients:
        return tuple(range(clients))
    rng = np.random.Generator(np.random.PCG64([seed, _TAG, round_]))
    return tuple(sorted(int(client) for client in rng.permutation(clients)[:size]))


def most_samples(samples: Sequence[int], fraction: float, spare: int = 0) -> int:
    """The most samples that a round can be paid for: those of its largest clients, spares among them.

    Args:
        samples: of each client.
        fraction: in (0, 1].
        spare: how many more are drawn than the round needs.
    """
    return sum(sorted(samples, reverse=True)[: sample_size(len(samples), fraction) + spare])
