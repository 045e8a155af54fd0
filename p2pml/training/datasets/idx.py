"""IDX, the format of MNIST: a big-endian header of type and dimensions, then the values.

Source: "THE IDX FILE FORMAT" on http://yann.lecun.com/exdb/mnist/.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from p2pml.formats.shards import Shard
from p2pml.training.datasets import base
from p2pml.training.datasets.base import Dataset, DatasetError, Reading, make_shard, train_and_test
from p2pml.training.datasets.sources import Entry

MAX_DIMENSIONS = 6
_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def load(files: Sequence[Entry], reading: Reading, max_bytes: int) -> Dataset:
    """Two files, samples and labels, and perhaps two more with `test` or `t10k` in their names; plain or
    gzip.

    Which one holds the labels is what their dimensions say, not their names.

    Raises:
        DatasetError: not such files, too large, or of different lengths.
        OSError: a file cannot be read.
    """
    train, test = train_and_test(files, lambda entry: entry.name)
    first = _pair(train, reading, max_bytes)
    if not test:
        return Dataset(first, None)
    left = max_bytes - first.x.nbytes - first.y.nbytes
    return Dataset(first, _pair(test, reading, left))


def _pair(files: Sequence[Entry], reading: Reading, max_bytes: int) -> Shard:
    whole = files[0].whole
    if len(files) != 2:
        raise DatasetError(
            f"{whole}: IDX data needs two files, samples and labels, not "
            + ", ".join(entry.name for entry in files[:10]),
            "put both into one tar or folder",
        )
    arrays: list[npt.NDArray[Any]] = []
    for entry in files:
        arrays.append(_array(entry, max_bytes))
        max_bytes -= base.kept_bytes(arrays[-1].shape, arrays[-1].dtype)
    labels, samples = sorted(arrays, key=lambda array: array.ndim)
    if labels.ndim != 1 or samples.ndim < 2:
        raise DatasetError(
            f"{whole}: {files[0].name} {arrays[0].shape} and {files[1].name} {arrays[1].shape} are not "
            "samples [n, …] and labels [n]"
        )
    return make_shard(
        base.reshaped(samples, reading.shape, whole), labels, reading.scale_of(samples.dtype), whole
    )


def _array(entry: Entry, max_bytes: int) -> npt.NDArray[Any]:
    try:
        with entry.open_unpacked() as source:
            shape, dtype = _header(source, entry)
            size = math.prod(shape) * dtype.itemsize
            base.check_size(base.kept_bytes(shape, dtype), max_bytes, entry.where)
            if size > max(base.RATIO_FROM, base.MAX_RATIO * entry.size):
                raise DatasetError(
                    f"{entry.where} claims {size} bytes of values in a file of {entry.size} bytes"
                )
            data = _exactly(source, size, entry)
    except (EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DatasetError(f"{entry.where} is damaged: {error}", "fetch it again") from error
    return np.frombuffer(data, dtype).reshape(shape)


def _header(source: IO[bytes], entry: Entry) -> tuple[tuple[int, ...], np.dtype[Any]]:
    head = source.read(4)
    if len(head) != 4 or head[:2] != b"\0\0" or head[2] not in _TYPES:
        raise DatasetError(f"{entry.where} is not an IDX file: it begins with {head.hex() or 'nothing'}")
    if not 1 <= head[3] <= MAX_DIMENSIONS:
        raise DatasetError(f"{entry.where} has {head[3]} dimensions, not 1 to {MAX_DIMENSIONS}")
    sizes = source.read(4 * head[3])
    if len(sizes) != 4 * head[3]:
        raise DatasetError(f"{entry.where} ends in its header")
    return struct.unpack(f">{head[3]}I", sizes), np.dtype(_TYPES[head[2]])


def _exactly(source: IO[bytes], size: int, entry: Entry) -> bytearray:
    data = bytearray()
    while len(data) < size and (chunk := source.read(min(1 << 20, size - len(data)))):
        data += chunk
    if len(data) != size or source.read(1):
        raise DatasetError(f"{entry.where} has not the {size} bytes of values that its header claims")
    return data
