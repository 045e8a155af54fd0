"""Text for models of characters: windows of bytes, and what byte comes next.

The task is that of McMahan et al., 2017, and Caldas et al., "LEAF", 2018, on Shakespeare. A token is a byte:
there is no vocabulary that everybody would have to agree on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from p2pml.formats.shards import Shard
from p2pml.training.datasets import base
from p2pml.training.datasets.base import Dataset, DatasetError, Reading, train_and_test
from p2pml.training.datasets.sources import Entry

LENGTH = 80
STEP = 3
"""A window begins at every third byte: neighbours say nearly the same."""
TEST_SHARE = 10
"""Without a file for it, the last tenth of each text is the test set: windows overlap, so that a random part
would have been seen in training."""


def load(files: Sequence[Entry], reading: Reading, max_bytes: int) -> Dataset:
    """Any files; those with `test` in their names are the test set.

    Args:
        reading: `shape` may be [length of a window].

    Raises:
        DatasetError: shorter than two windows, or too large.
        OSError: a file cannot be read.
    """
    length = LENGTH if reading.shape is None else reading.shape[0]
    if reading.shape is not None and len(reading.shape) != 1:
        raise DatasetError("text has samples of one dimension", "set data.shape to [length of a window]")
    train, test = train_and_test(files, lambda entry: entry.name)
    size = sum(entry.size for entry in files)
    base.check_size(size // STEP * (length + 8), max_bytes, files[0].whole)
    texts = [_bytes(entry) for entry in train]
    if test:
        last = [_bytes(entry) for entry in test]
    else:
        last = [text[len(text) - len(text) // TEST_SHARE :] for text in texts]
        texts = [text[: len(text) - len(text) // TEST_SHARE] for text in texts]
    scale = 1.0 if reading.scale is None else reading.scale
    parts = [_windows(part, length, scale) for part in (texts, last)]
    if not all(len(part) for part in parts):
        raise DatasetError(
            f"{files[0].whole} is too short for windows of {length} bytes to train on and to test with",
            "use more text, or set data.shape to [a smaller length]",
        )
    counts = ((entry.name, _count(text, length)) for entry, text in zip(train, texts, strict=True))
    return Dataset(parts[0], parts[1], tuple(counts))


def _bytes(entry: Entry) -> npt.NDArray[np.uint8]:
    with entry.open() as source:
        return np.frombuffer(source.read(), np.uint8)


def _count(text: npt.NDArray[np.uint8], length: int) -> int:
    """How many windows `_windows` cuts out of one text."""
    return max(0, -(-(len(text) - length) // STEP))


def _windows(texts: Sequence[npt.NDArray[np.uint8]], length: int, scale: float) -> Shard:
    samples, labels = [np.empty((0, length), np.uint8)], [np.empty(0, np.int64)]
    for text in texts:
        if len(text) > length:
            samples.append(np.lib.stride_tricks.sliding_window_view(text[:-1], length)[::STEP])
            labels.append(text[length::STEP].astype(np.int64))
    return Shard(np.concatenate(samples), np.concatenate(labels), scale)
