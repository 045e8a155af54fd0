"""From the updates of a round, which lie on disk, to one: by blocks of coordinates, each with all clients.

A block has fewer coordinates the more clients there are, so memory does not grow with their number: it is one
model, the result, and `CELLS` values.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pml.formats.tensors import Array, Shape
from p2pml.formats.uploads import BLOCK, Upload
from p2pml.training.rules import Rule

CELLS = 1 << 20
"""Values in memory at a time: clients times coordinates of a block."""


def aggregate(
    updates: Sequence[tuple[Path, int]], kind: str, shapes: Sequence[Shape], rule: Rule, cells: int = CELLS
) -> list[Array]:
    """One update of many.

    Args:
        updates: file and weight (samples times epochs) of each, in client order.
        kind: of the files, see `p2pml.formats.uploads`.
        shapes: of the model's weights.
        rule: what is made of a block, see `p2pml.training.rules`.
        cells: values in memory at a time.

    Returns:
        one float32 array per tensor.

    Raises:
        ValueError: no update, or a weight below 1.
        FormatError: a file is not an update of this kind and these shapes.
        OSError: a file cannot be read.
    """
    if not updates or any(weight < 1 for _, weight in updates):
        raise ValueError("an aggregate needs at least one update, each with a weight of at least 1")
    uploads = [Upload(path, kind, shapes) for path, _ in updates]
    weights = np.array([weight for _, weight in updates], np.float64)
    step = max(1, cells // (len(uploads) * BLOCK)) * BLOCK
    return [_tensor(uploads, weights, index, tuple(shape), rule, step) for index, shape in enumerate(shapes)]


def _tensor(
    uploads: Sequence[Upload], weights: NDArray[np.float64], index: int, shape: Shape, rule: Rule, step: int
) -> Array:
    size = uploads[0].sizes[index]
    result = np.empty(size, np.float32)
    stack = np.empty((len(uploads), min(step, size)), np.float32)
    for begin in range(0, size, step):
        end = min(size, begin + step)
        block = stack[:, : end - begin]
        for row, upload in zip(block, uploads, strict=True):
            row[:] = upload.read(index, begin, end)
        result[begin:end] = rule(block, weights)
    return result.reshape(shape)
