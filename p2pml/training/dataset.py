"""Datasets for jobs: arrays out of whatever form the data has, a reader for each under `datasets/`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pml.formats.shards import Shard
from p2pml.training.datasets import idx, images, npz, sources, table, text, tfrecord
from p2pml.training.datasets.base import MAX_BYTES, Dataset, DatasetError, Reading
from p2pml.training.datasets.sources import Entry

__all__ = ["FORMATS", "MAX_BYTES", "Dataset", "DatasetError", "Reading", "digits_path", "hold_out", "load"]


@dataclass(frozen=True, slots=True)
class Format:
    """A form that data may have.

    Args:
        read: its reader.
        belongs: whether a file of this name, in lower case, is one of it.
        files: what it is, for people.
    """

    read: Callable[[Sequence[Entry], Reading, int], Dataset]
    belongs: Callable[[str], bool]
    files: str


def _ends(*endings: str) -> Callable[[str], bool]:
    return lambda name: name.endswith(endings)


FORMATS: Mapping[str, Format] = {
    "npz": Format(npz.load, _ends(".npz"), "an .npz file"),
    "idx": Format(idx.load, lambda name: "-ubyte" in name or name.endswith((".idx", ".idx.gz")), "IDX files"),
    "tfrecord": Format(tfrecord.load, lambda name: ".tfrecord" in name, ".tfrecord files"),
    "csv": Format(table.load, _ends(".csv", ".tsv"), "a .csv file"),
    "images": Format(images.load, _ends(*images.ENDINGS), "a folder of images for each class"),
    "text": Format(text.load, _ends(".txt"), "a .txt file"),
}
"""Name in a job's `data.format` → its reader; of several that fit, the first is taken: a folder of images has
its README.txt, an npz may have its labels' names in a .csv."""


def digits_path() -> Path:
    """The bundled digits, 8 × 8 pixels; see `p2pml/data/README.md` for where they come from."""
    return Path(__file__).resolve().parent.parent / "data" / "digits.npz"


def load(path: Path, reading: Reading | None = None, max_bytes: int = MAX_BYTES) -> Dataset:
    """Load a dataset.

    Args:
        path: a file, an uncompressed tar or a folder of files of one of `FORMATS`.
        reading: how; by the names of the files when None.
        max_bytes: the most bytes the arrays may take in memory.

    Raises:
        DatasetError: not such files, too large, or arrays that do not fit each other.
        OSError: a file cannot be read.
    """
    reading = reading or Reading()
    found = sources.within(sources.entries(path), reading.member)
    chosen, files = _chosen(found, reading.format, path)
    loaded = chosen.read(files, reading, max_bytes)
    train, test = loaded.train, loaded.test
    if not len(train):
        raise DatasetError(f"{path.name} holds no samples")
    if test is not None and (test.sample_shape, test.x.dtype) != (train.sample_shape, train.x.dtype):
        raise DatasetError(
            f"{path.name}: the test set's samples, {test.x.dtype} {list(test.sample_shape)}, are of another "
            f"kind than those to train on, {train.x.dtype} {list(train.sample_shape)}"
        )
    return loaded


def is_readable(name: str) -> bool:
    """Whether a file of this name is part of some format."""
    return any(each.belongs(name.lower()) for each in FORMATS.values())


def hold_out(dataset: Dataset, fraction: float, seed: int) -> tuple[Shard, Shard]:
    """What is trained on and what the requester keeps to evaluate.

    Args:
        dataset: with a test set of its own, that is what is kept, and all of `train` is trained on.
        fraction: otherwise the share of `train` to keep, 0 < fraction < 1.
        seed: of which samples are kept.

    Raises:
        DatasetError: too few samples for that.
    """
    if dataset.test is not None and len(dataset.test):
        return dataset.train, dataset.test
    rows = training_rows(dataset, fraction, seed)
    kept = np.delete(np.arange(len(dataset.train)), rows)
    return dataset.train.take(rows), dataset.train.take(kept)


def training_rows(dataset: Dataset, fraction: float, seed: int) -> NDArray[np.int64]:
    """Which rows of `train` those are that `hold_out` gives to train on, ascending: they keep the data's own
    order. Arguments and errors as those of `hold_out`."""
    count = len(dataset.train)
    if dataset.test is not None and len(dataset.test):
        return np.arange(count)
    kept = max(1, round(count * fraction))
    if kept >= count:
        raise DatasetError(f"{count} samples cannot be divided into training and validation ({fraction})")
    order = np.random.Generator(np.random.PCG64([seed, 0x7661])).permutation(count)
    return np.sort(order[kept:])


def _chosen(found: list[Entry], wanted: str, path: Path) -> tuple[Format, list[Entry]]:
    """The format, and the files that belong to it."""
    if wanted != "auto":
        files = [entry for entry in found if FORMATS[wanted].belongs(entry.name.lower())]
        # One file is taken at the job's word, whatever it is called.
        files = files or (found if len(found) == 1 else [])
        if not files:
            raise DatasetError(f"{path.name} holds no files of the format {wanted}{_names(found)}")
        return FORMATS[wanted], files
    for each in FORMATS.values():
        files = [entry for entry in found if each.belongs(entry.name.lower())]
        if files:
            return each, files
    if len(found) == 1 and _is_zip(found[0]):
        return FORMATS["npz"], found
    known = ", ".join(each.files for each in FORMATS.values())
    raise DatasetError(
        f"{path.name} holds no data that can be read{_names(found)}",
        f"use {known}, or several of those in a folder or an uncompressed tar; or set data.format",
    )


def _names(found: list[Entry]) -> str:
    return ": " + ", ".join(entry.name for entry in found[:10]) if found else ": it is empty"


def _is_zip(entry: Entry) -> bool:
    with entry.open() as source:
        return source.read(4) == b"PK\x03\x04"
