"""Updates as they are uploaded and spooled: safetensors files with float32, float16 or int8 values.

int8 comes in blocks of 64 values of a tensor in row-major order, each with a float32 scale: value = scale ×
code, scale = largest magnitude / 127, codes rounded to the nearest (block-wise quantisation after Dettmers et
al. 2022). A tensor `w0003` has its scales in `s0003`. The hash that a trainer commits to is over these bytes.

A file is read by ranges of values, so that neither its check nor an aggregation holds a whole update.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from p2pml.formats import FormatError, tensors
from p2pml.formats.tensors import Array, Shape

KINDS = ("float32", "float16", "int8")
BLOCK = 64
"""Values that share a scale."""
MAX_HEADER = 1 << 20
PART = 1 << 18
"""Values that a check holds at a time; a multiple of `BLOCK`."""

_DTYPES: dict[str, tuple[str, np.dtype[Any]]] = {
    "float32": ("F32", np.dtype("<f4")),
    "float16": ("F16", np.dtype("<f2")),
    "int8": ("I8", np.dtype("i1")),
}
_SCALES = "F32", np.dtype("<f4")


def encode(arrays: Sequence[Array], kind: str) -> bytes:
    """Pack an update; the same arrays always give the same bytes.

    Args:
        arrays: float32, finite.
        kind: one of `KINDS`.

    Raises:
        FormatError: a value is too large for float16.
    """
    if kind == "float32":
        return tensors.encode(arrays)
    named: dict[str, NDArray[Any]] = {}
    for index, array in enumerate(arrays):
        if kind == "float16":
            with np.errstate(over="ignore"):
                named[_value(index)] = np.asarray(array, np.float16, order="C")
            if not np.isfinite(named[_value(index)]).all():
                raise FormatError(f"tensor {index} holds a value that is too large for float16")
        else:
            named[_value(index)], named[_scale(index)] = _quantised(array)
    return save(named)


def size(kind: str, values: int) -> int:
    """About how many bytes an upload has, without the names around its values."""
    return _DTYPES[kind][1].itemsize * values + (_blocks(values) * 4 if kind == "int8" else 0)


def check(path: Path, kind: str, shapes: Sequence[Shape]) -> float:
    """Check a file that anyone may have sent.

    Args:
        path: the spooled upload.
        kind: one of `KINDS`, what the job asks for.
        shapes: of the model's weights, in order.

    Returns:
        the L2 norm of the update.

    Raises:
        FormatError: not an update of this kind and model, or a value is not finite.
    """
    upload, square = Upload(path, kind, shapes), 0.0
    for index, size in enumerate(upload.sizes):
        for begin in range(0, size, PART):
            part = upload.read(index, begin, min(size, begin + PART))
            if not np.isfinite(part).all():
                raise FormatError(f"tensor {index} holds a value that is not finite")
            square += float(np.square(part, dtype=np.float64).sum())
    return math.sqrt(square)


@dataclass(slots=True)
class Upload:
    """A spooled update, read by ranges of values.

    Args:
        path: of the file.
        kind: one of `KINDS`.
        shapes: of the model's weights, in order.

    Raises:
        FormatError: it does not hold these tensors in this kind.
    """

    path: Path
    kind: str
    shapes: Sequence[Shape]
    sizes: list[int] = field(init=False)
    _begins: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.sizes = [math.prod(shape) for shape in self.shapes]
        with self.path.open("rb") as file:
            header, start = _header(file.read(8 + MAX_HEADER))
        self._begins = {}
        room = self.path.stat().st_size - start
        for name, (code, dtype), shape in self._expected():
            entry = header.pop(name, None)
            if entry is None:
                raise FormatError(
                    f"the model has {len(self.shapes)} tensors in {self.kind}, {name} is missing"
                )
            self._begins[name] = start + _begin(name, entry, code, shape, dtype.itemsize, room)
        if header:
            raise FormatError(f"{len(header)} tensors more than the model has in {self.kind}")

    def read(self, index: int, begin: int, end: int) -> Array:
        """Values `begin` … `end` − 1 of tensor `index` in row-major order, as float32.

        Args:
            begin: a multiple of `BLOCK`.

        Raises:
            OSError: the file is gone or has become shorter.
        """
        values = self._range(_value(index), _DTYPES[self.kind][1], begin, end).astype(np.float32)
        if self.kind == "int8":
            scales = self._range(_scale(index), _SCALES[1], begin // BLOCK, _blocks(end))
            with np.errstate(over="ignore", invalid="ignore"):
                values *= np.repeat(scales, BLOCK)[: end - begin]
        return values

    def _range(self, name: str, dtype: np.dtype[Any], begin: int, end: int) -> NDArray[Any]:
        with self.path.open("rb") as file:
            file.seek(self._begins[name] + begin * dtype.itemsize)
            data = file.read((end - begin) * dtype.itemsize)
        if len(data) != (end - begin) * dtype.itemsize:
            raise OSError(f"{self.path.name} is shorter than when it was checked")
        return np.frombuffer(data, dtype)

    def _expected(self) -> list[tuple[str, tuple[str, np.dtype[Any]], Shape]]:
        found = [(_value(i), _DTYPES[self.kind], tuple(shape)) for i, shape in enumerate(self.shapes)]
        if self.kind == "int8":
            found += [(_scale(i), _SCALES, (_blocks(size),)) for i, size in enumerate(self.sizes)]
        return found


def _header(data: bytes) -> tuple[dict[str, Any], int]:
    """The entries of a safetensors header, and where the values begin."""
    if len(data) < 8:
        raise FormatError("not a safetensors file: it is too short")
    (length,) = struct.unpack_from("<Q", data)
    if length > len(data) - 8:
        raise FormatError("not a safetensors file: its header is too long")
    try:
        header = json.loads(data[8 : 8 + length], object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise FormatError("not a safetensors file: its header is not JSON") from error
    if not isinstance(header, dict):
        raise FormatError("not a safetensors file: its header is not a map")
    return header, 8 + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name is there twice")
    return dict(pairs)


def _begin(name: str, entry: Any, code: str, shape: Shape, width: int, room: int) -> int:
    """Where a tensor's values begin, counted from the first of all; FormatError if it is another tensor."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"{name} is not described as a tensor")
    if entry["dtype"] != code:
        raise FormatError(f"{name} is {ascii(entry['dtype'])[:10]}, the job wants {code}")
    if entry["shape"] != list(shape):
        raise FormatError(f"{name} has shape {ascii(entry['shape'])[:40]}, the model needs {list(shape)}")
    offsets = entry["data_offsets"]
    if not (isinstance(offsets, list) and len(offsets) == 2 and all(type(item) is int for item in offsets)):
        raise FormatError(f"{name} does not say where its values are")
    begin, end = offsets
    if not (0 <= begin <= end <= room and end - begin == math.prod(shape) * width):
        raise FormatError(f"the values of {name} are not in the file")
    return int(begin)


def _quantised(array: Array) -> tuple[NDArray[np.int8], Array]:
    flat = np.zeros(_blocks(array.size) * BLOCK, np.float32)
    flat[: array.size] = array.reshape(-1)
    blocks = flat.reshape(-1, BLOCK)
    scales = (np.abs(blocks).max(axis=1) / np.float32(127)).astype(np.float32)
    # A scale that rounds to zero, of a block below the smallest float32, stands for zeros.
    codes = np.rint(blocks / np.where(scales > 0, scales, 1)[:, None]).clip(-127, 127).astype(np.int8)
    return codes.reshape(-1)[: array.size].reshape(array.shape), scales


def _blocks(values: int) -> int:
    return -(-values // BLOCK)


def _value(index: int) -> str:
    return f"w{index:04d}"


def _scale(index: int) -> str:
    return f"s{index:04d}"
