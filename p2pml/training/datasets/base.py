"""What all readers of datasets share: what a spec says about reading, what comes out, and the bounds.

Datasets may come from strangers. Nothing is unpickled, nothing is extracted to disk, and nothing is allocated
by a number in a file before that number has been compared with the bounds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from p2pml.formats import FormatError
from p2pml.formats.shards import Shard

MAX_BYTES = 4 << 30
"""The most bytes that the arrays of one dataset may have in memory, 4 GiB."""

MAX_RATIO = 250
"""Arrays over 64 MiB may not have been compressed more than so many times; MNIST is compressed 5 times."""

RATIO_FROM = 64 << 20
_TEST = re.compile(r"(^|[^a-z])(test|t10k|val|valid|validation)([^a-z]|$)")
T = TypeVar("T")


class DatasetError(FormatError):
    """A dataset that cannot be used; the message names the file and what it lacks.

    Args:
        fix: what to do about it, where there is more to say than the message does.
    """

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Reading:
    """How a job wants its dataset read.

    Args:
        format: a key of `p2pml.training.dataset.FORMATS`, or `auto`: by the names of the files.
        member: a file, or a folder, within a tar or folder; everything when None.
        label: the column (csv: a name, or a number from 0, or from −1 backwards) or feature with the label.
        sample: the feature (tfrecord) with the sample.
        shape: of one sample: what rows of numbers are made into, what images are resized to, how many bytes
            of text.
        scale: the factor from stored to model values.
        numbers: whether labels have to be whole numbers; names are numbered in their order, which depends on
            what other names there are.
        by_form: whether the scale, where nobody says one, follows from how values are stored (`scale_of`) and
            not from the values.
    """

    format: str = "auto"
    member: str | None = None
    label: str | int | None = None
    sample: str | None = None
    shape: tuple[int, ...] | None = None
    scale: float | None = None
    numbers: bool = False
    by_form: bool = False

    def apart(self) -> Reading:
        """The same for owners that do not see each other's data: nothing depends on what names and values
        there are, which may be others at each."""
        return replace(self, numbers=True, by_form=True)

    def scale_of(self, stored: npt.DTypeLike) -> float | None:
        """The factor for values that are stored so; None where the values decide it (`make_shard`)."""
        if self.scale is not None or not self.by_form:
            return self.scale
        return 1 / 255 if np.dtype(stored) == np.uint8 else 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Samples to train on, and to evaluate on where the data has its own test set.

    Args:
        train: at least one sample; labels are 0 … classes − 1.
        test: of the same sample shape and scale.
        counts: (name, samples) of each file of `train`, in the order of the samples; empty where the form has
            one file.
    """

    train: Shard
    test: Shard | None
    counts: tuple[tuple[str, int], ...] = ()

    @property
    def classes(self) -> int:
        """How many labels there are: the largest one plus one, but at least two."""
        tops = [int(part.y.max()) for part in (self.train, self.test) if part is not None and len(part)]
        return max(2, max(tops) + 1)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.train.sample_shape


def make_shard(x: npt.NDArray[Any], y: npt.NDArray[Any], scale: float | None, where: str) -> Shard:
    """Samples with labels; whole numbers from 0 to 255 are kept as bytes, with a scale of 1/255 where none is
    given, and everything else as float32.

    Raises:
        DatasetError: labels that are not whole numbers, samples that are not [n, …], or what `Shard` refuses.
    """
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise DatasetError(f"{where}: labels must be whole numbers [n], not {y.dtype} {y.shape} (one-hot?)")
    if x.ndim < 2:
        raise DatasetError(f"{where}: samples must be [n, …], not {x.shape}")
    if x.dtype.kind in "bui" and (not x.size or (x.min() >= 0 and x.max() <= 255)):
        values, default = x.astype(np.uint8, copy=False), 1 / 255
    else:
        with np.errstate(over="ignore"):  # what overflows is refused as not finite
            values, default = x.astype(np.float32, copy=False), 1.0
    try:
        return Shard(
            np.ascontiguousarray(values),
            y.astype(np.int64),
            float(np.float32(default if scale is None else scale)),
        )
    except FormatError as error:
        raise DatasetError(f"{where}: {error}") from error


def numbered(names: Iterable[str], reading: Reading, where: str) -> dict[str, int]:
    """The labels' numbers: in the order of the names, or with `reading.numbers` what they say themselves.

    Raises:
        DatasetError: names where numbers are wanted.
    """
    found = sorted(set(names))
    if not reading.numbers:
        return {name: number for number, name in enumerate(found)}
    if wrong := [name for name in found if not is_number(name)]:
        raise DatasetError(
            f"{where}: the label {wrong[0][:40]!r} is no whole number", "number the labels from 0"
        )
    return {name: int(name) for name in found}


def is_number(label: str) -> bool:
    """Whether a label's text is a whole number from 0."""
    return label.isascii() and label.isdigit() and len(label) < 18


def whole_bytes(x: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    """Numbers that were written as text, as bytes if they are all whole and from 0 to 255."""
    # Row by row, so that no second copy of everything is made on the way.
    fits = all(bool(((row >= 0) & (row <= 255) & (row == np.floor(row))).all()) for row in x)
    return x.astype(np.uint8) if fits else x


def reshaped(x: npt.NDArray[Any], shape: Sequence[int] | None, where: str) -> npt.NDArray[Any]:
    """[n, values] as [n, *shape]. Raises DatasetError when the values are too many or too few."""
    if shape is None:
        return x
    if int(np.prod(shape, dtype=object)) != int(np.prod(x.shape[1:])):
        raise DatasetError(
            f"{where}: samples of {int(np.prod(x.shape[1:]))} values do not fit the shape {list(shape)}",
            "correct data.shape in the job spec",
        )
    return x.reshape(len(x), *shape)


def train_and_test(items: Iterable[T], name: Any = str) -> tuple[list[T], list[T]]:
    """Files divided by their names: those with the word test, val or t10k in it, and the others."""
    train: list[T] = []
    test: list[T] = []
    for item in items:
        (test if _TEST.search(name(item).lower()) else train).append(item)
    return (train, test) if train else (test, [])


def kept_bytes(shape: Sequence[int], dtype: np.dtype[Any]) -> int:
    """The most bytes that an array out of a file takes in memory: `make_shard` turns labels into int64, and
    samples that are no bytes into float32."""
    least = 8 if len(shape) < 2 else 1 if dtype.kind in "bu" and dtype.itemsize == 1 else 4
    return math.prod(shape) * max(dtype.itemsize, least)


def check_size(size: int, most: int, where: str) -> None:
    """Raises DatasetError when arrays of `size` bytes would be too large."""
    if size > most:
        raise DatasetError(
            f"{where} would take {size} bytes in memory, at most {most} are allowed",
            "use a part of the data, or smaller samples",
        )
