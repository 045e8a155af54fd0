"""Federated averaging: the mean of the clients' updates, weighted by what each trained on (McMahan et
al. 2017).

The sum runs in float64 over the updates in client order, one update in memory at a time, so that the
result is the same on every machine and memory does not grow with the number of clients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Tensors = list[NDArray[np.float32]]


def weighted_mean(
    updates: Sequence[tuple[Path, int]], load: Callable[[Path], Sequence[NDArray[np.float32]]]
) -> Tensors:
    """The weighted mean of updates that lie on disk.

    Args:
        updates: file and weight (samples times epochs) of each update, in client order.
        load: reads a file's tensors; all files have the same shapes.

    Returns:
        one float32 array per tensor.

    Raises:
        ValueError: no update, a weight below 1, or shapes that differ.
    """
    if not updates or any(weight < 1 for _, weight in updates):
        raise ValueError("the mean needs at least one update, each with a weight of at least 1")
    total = float(sum(weight for _, weight in updates))
    sums: list[NDArray[np.float64]] = []
    for index, (path, weight) in enumerate(updates):
        tensors = load(path)
        if index == 0:
            sums = [np.zeros(tensor.shape, np.float64) for tensor in tensors]
        if [tensor.shape for tensor in tensors] != [tensor.shape for tensor in sums]:
            raise ValueError(f"the shapes of {path.name} differ from those of {updates[0][0].name}")
        for accumulator, tensor in zip(sums, tensors, strict=True):
            accumulator += tensor.astype(np.float64) * weight
    return [np.asarray(accumulator / total, np.float32) for accumulator in sums]
