"""Model weights and updates as bytes: safetensors with float32 arrays named `w0000`, `w0001`, … in the
model's order.

safetensors (https://github.com/huggingface/safetensors) holds a JSON header and raw little-endian data:
nothing in it can run, unlike pickle or HDF5 with Lambda layers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from p2pml.formats import FormatError

Array = npt.NDArray[np.float32]
Shape = tuple[int, ...]

MAX_TENSORS = 4096
"""The most arrays one weights file may hold."""

MAX_BYTES = 512 << 20
"""The most bytes one weights file may have, 512 MiB: 134 million float32 parameters."""

_PART = 1 << 18


def encode(arrays: Sequence[npt.ArrayLike]) -> bytes:
    """Pack arrays in their order as float32; the same arrays always give the same bytes.

    Raises:
        FormatError: more than `MAX_TENSORS` arrays.
    """
    if len(arrays) > MAX_TENSORS:
        raise FormatError(f"{len(arrays)} tensors, at most {MAX_TENSORS} are allowed")
    return save({_name(i): np.asarray(array, np.float32, order="C") for i, array in enumerate(arrays)})


def decode(data: bytes, shapes: Sequence[Shape] | None = None, max_bytes: int = MAX_BYTES) -> list[Array]:
    """Unpack and check weights that anyone may have sent.

    Args:
        data: a safetensors file.
        shapes: the shapes that the arrays must have, in order; None accepts any.
        max_bytes: the most bytes that `data` may have.

    Returns:
        float32 arrays in order, every value finite. One NaN would poison every mean it enters, at any weight.

    Raises:
        FormatError: anything else than that.
    """
    if len(data) > max_bytes:
        raise FormatError(f"{len(data)} bytes of weights, at most {max_bytes} are allowed")
    try:
        named = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"not a safetensors file: {error}") from error
    if len(named) > MAX_TENSORS or set(named) != {_name(i) for i in range(len(named))}:
        raise FormatError(f"{len(named)} tensors whose names are not w0000, w0001, … in order")
    arrays = [named[_name(i)] for i in range(len(named))]
    check(arrays, shapes)
    return arrays


def check(arrays: Sequence[npt.NDArray[np.generic]], shapes: Sequence[Shape] | None = None) -> None:
    """Check type, shapes and finiteness.

    Raises:
        FormatError: a wrong type, number of tensors or shape, or a value that is not finite.
    """
    if shapes is not None and len(arrays) != len(shapes):
        raise FormatError(f"{len(arrays)} tensors where the model has {len(shapes)}")
    for i, array in enumerate(arrays):
        if array.dtype != np.float32:
            raise FormatError(f"tensor {i} is {array.dtype}, not float32")
        if shapes is not None and array.shape != tuple(shapes[i]):
            raise FormatError(f"tensor {i} has shape {array.shape}, the model needs {tuple(shapes[i])}")
        if not np.isfinite(array).all():
            raise FormatError(f"tensor {i} holds a value that is not finite")


def digest(data: bytes) -> bytes:
    """The content hash under which weights and updates are known: SHA-256, 32 bytes."""
    return hashlib.sha256(data).digest()


def norm(arrays: Sequence[Array]) -> float:
    """The L2 norm over all arrays together, summed in float64, a part at a time."""
    flat = (array.reshape(-1) for array in arrays)
    parts = (array[begin : begin + _PART] for array in flat for begin in range(0, array.size, _PART))
    return float(np.sqrt(sum(float(np.square(part, dtype=np.float64).sum()) for part in parts)))


def _name(index: int) -> str:
    return f"w{index:04d}"
