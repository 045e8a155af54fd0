"""`.npz`: NumPy's arrays in a zip archive, https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html"""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from p2pml.training.datasets import base
from p2pml.training.datasets.base import Dataset, DatasetError, Reading, make_shard
from p2pml.training.datasets.sources import Entry

MAX_ARRAYS = 64
# What zipfile, zlib and NumPy's header parser raise on hostile bytes.
_UNREADABLE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OSError,  # a directory that points before the start of the file
    KeyError,
    ValueError,
    SyntaxError,
    OverflowError,
    MemoryError,
    tokenize.TokenError,
)
_NAMES = (("x_train", "y_train"), ("x", "y"))


def load(files: Sequence[Entry], reading: Reading, max_bytes: int) -> Dataset:
    """One file with `x_train`, `y_train` and perhaps `x_test`, `y_test` (or `x`, `y`).

    A `scale` array of one value says what factor leads from stored to model values, where the job does not.

    Raises:
        DatasetError: several files, not an npz, too large, or arrays that do not fit each other.
        OSError: the file cannot be read.
    """
    if len(files) > 1:
        names = ", ".join(entry.name for entry in files[:10])
        raise DatasetError(
            f"{files[0].whole} holds several npz files: {names}", "name one of them as data.member"
        )
    return _load(files[0], reading, max_bytes)


def _load(entry: Entry, reading: Reading, max_bytes: int) -> Dataset:
    name = entry.where
    try:
        with entry.open() as source, zipfile.ZipFile(source) as archive:
            entries = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            _check_archive(archive.infolist(), name, max_bytes)
            x_name, y_name = _names(entries, name)
            wanted = [x_name, y_name, "x_test", "y_test", "scale"]
            arrays, left = dict[str, npt.NDArray[Any]](), max_bytes
            for key in (key for key in wanted if key in entries):
                arrays[key] = _array(archive, entries[key], name, left)
                left -= base.kept_bytes(arrays[key].shape, arrays[key].dtype)
    except DatasetError:
        raise
    except _UNREADABLE as error:
        raise DatasetError(f"{name} is not a readable npz: {error}") from error
    scale = _scale(arrays.get("scale"), name) if reading.scale is None else reading.scale
    scale = reading.scale_of(arrays[x_name].dtype) if scale is None else scale
    shape = reading.shape
    train = make_shard(
        base.reshaped(arrays[x_name], shape, name), arrays[y_name], scale, f"{name}: {x_name}, {y_name}"
    )
    if ("x_test" in arrays) != ("y_test" in arrays):
        raise DatasetError(f"{name} holds only one of x_test and y_test")
    if "x_test" not in arrays:
        return Dataset(train, None)
    test = make_shard(
        base.reshaped(arrays["x_test"], shape, name), arrays["y_test"], scale, f"{name}: x_test, y_test"
    )
    return Dataset(train, test)


def _check_archive(infos: list[zipfile.ZipInfo], name: str, max_bytes: int) -> None:
    if len(infos) > MAX_ARRAYS:
        raise DatasetError(f"{name} holds {len(infos)} arrays, at most {MAX_ARRAYS} are allowed")
    base.check_size(sum(info.file_size for info in infos), max_bytes, name)
    for info in infos:
        if info.file_size > max(base.RATIO_FROM, base.MAX_RATIO * info.compress_size):
            raise DatasetError(f"{name}: {info.filename} is compressed over {base.MAX_RATIO} times")


def _names(entries: dict[str, zipfile.ZipInfo], name: str) -> tuple[str, str]:
    for pair in _NAMES:
        if all(key in entries for key in pair):
            return pair
    found = ", ".join(sorted(entries)[:10]) or "nothing"
    raise DatasetError(f"{name} needs arrays x_train and y_train (or x and y); it holds {found}")


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, max_bytes: int) -> npt.NDArray[Any]:
    """One array, after its header has agreed with the archive's directory about its size."""
    where = f"{name}: {info.filename}"
    with archive.open(info) as source:
        head = io.BytesIO(source.read(min(info.file_size, 16_384)))
        version = np.lib.format.read_magic(head)  # type: ignore[no-untyped-call]
        if version not in ((1, 0), (2, 0)):
            raise DatasetError(f"{where} has npy version {version}")
        read = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
        shape, fortran, dtype = read(head)
        if dtype.hasobject or dtype.kind not in "buif":
            raise DatasetError(f"{where} holds {dtype}, not numbers; pickled objects are never loaded")
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or size != info.file_size - head.tell():
            raise DatasetError(f"{where} claims shape {shape} but has {info.file_size - head.tell()} bytes")
        base.check_size(base.kept_bytes(shape, dtype), max_bytes, where)
        data = bytearray(head.read())
        while chunk := source.read(1 << 20):
            data += chunk
    if len(data) != size:
        raise DatasetError(f"{where} ends after {len(data)} of {size} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _scale(array: npt.NDArray[Any] | None, name: str) -> float | None:
    if array is None:
        return None
    if array.size != 1 or not (np.isfinite(array).all() and array.reshape(-1)[0] > 0):
        raise DatasetError(f"{name}: scale must be one positive number")
    return float(array.reshape(-1)[0])
