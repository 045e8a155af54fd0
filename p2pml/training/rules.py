"""What is made of the clients' values of some coordinates: the mean, or what a minority of liars cannot move.

Each rule takes an array of (clients, coordinates) and the clients' weights and gives one value a coordinate.
Clients stand in a fixed order and every sum runs in it, in float64, so that the result is the same bits on
every machine.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Stack = NDArray[np.float32]
Weights = NDArray[np.float64]
Rule = Callable[[Stack, Weights], NDArray[np.float64]]


def mean(stack: Stack, weights: Weights) -> NDArray[np.float64]:
    """The weighted mean (McMahan et al. 2017). One liar moves it as far as he likes."""
    total = np.zeros(stack.shape[1], np.float64)
    for row, weight in zip(stack, weights, strict=True):
        total += row.astype(np.float64) * weight
    return np.asarray(total / weights.sum())


def median(stack: Stack, weights: Weights) -> NDArray[np.float64]:
    """The coordinate-wise median (Yin et al. 2018), every client once: what it says of its weight does not
    count. Of an even number, the mean of the two in the middle."""
    return np.asarray(np.median(stack, axis=0), np.float64)


def trimmed_mean(share: float) -> Rule:
    """The coordinate-wise mean without the largest and the smallest ⌊share × clients⌋ values (Yin et al.
    2018), every client once.

    Args:
        share: left out at either end, 0 ≤ share < 0.5.
    """

    def rule(stack: Stack, weights: Weights) -> NDArray[np.float64]:
        cut = trimmed(share, len(stack))
        kept = np.sort(stack, axis=0)[cut : len(stack) - cut]
        return mean(kept, np.ones(len(kept)))

    return rule


def trimmed(share: float, clients: int) -> int:
    """How many values are left out at either end."""
    return int(share * clients + 1e-9)
