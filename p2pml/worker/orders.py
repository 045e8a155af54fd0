"""In which order samples are visited: the same on every machine, from NumPy's PCG64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CENTRAL = 0x63656E7472616C
"""Keeps the orders of training in one place apart from those of clients."""

Order = NDArray[np.int64]


def of_client(work: tuple[int, int, int], epoch: int, samples: int) -> Order:
    """The order in one epoch of a client's work.

    Args:
        work: the job's seed, the round and the client, each from 0.
        epoch: from 0.
        samples: in the shard.
    """
    return _permutation([*work, epoch], samples)


def central(seed: int, epoch: int, samples: int) -> Order:
    """The order in one epoch of training on all samples in one place."""
    return _permutation([seed, _CENTRAL, epoch], samples)


def _permutation(entropy: list[int], samples: int) -> Order:
    return np.random.Generator(np.random.PCG64(entropy)).permutation(samples)
