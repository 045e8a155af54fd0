"""Raw samples to the inputs that are trained on.

Images are mostly zeros, which a sparse kernel would skip: each is multiplied by a fixed matrix of +1 and -1,
which makes all inputs dense and every data set the same work. Rounding keeps the matrix from being folded
into the weights. It is done once per data set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chain.baseline.draws import mix_bits
from chain.baseline.net import TOP, Net, half
from chain.errors import ParamsError

_ROWS = 4096
"""Samples that are mixed at a time: bounds the memory."""
_SPREAD = 80
"""Mixed inputs have at most this root mean square before they are cut to -TOP .. TOP."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Mixed samples.

    Args:
        x: int8 [n, inputs].
        y: intp [n], labels.
    """

    x: npt.NDArray[np.int8]
    y: npt.NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.y)


def net_for(x: npt.NDArray[np.uint8], y: npt.NDArray[np.int64]) -> Net:
    """The net of a data set.

    Args:
        x: uint8 [n, ...], the training samples.
        y: labels from 0, of all samples.

    Raises:
        ParamsError: no samples, nothing but zeros, or more values or classes than the bounds allow.
    """
    if x.dtype != np.uint8 or not x.size or not x.any():
        raise ParamsError("baseline: needs samples of bytes that are not all 0")
    top, pixels = int(x.max()), int(np.prod(x.shape[1:]))
    levels = np.bincount(x.reshape(-1), minlength=256)
    power = sum(int(count) * (value * TOP // top) ** 2 for value, count in enumerate(levels) if count)
    shift = 0
    while power > len(x) * _SPREAD * _SPREAD * 4**shift:
        shift += 1
    return Net(pixels=pixels, top=top, mix_shift=shift, classes=max(2, int(y.max()) + 1))


def prepare(net: Net, x: npt.NDArray[np.uint8], y: npt.NDArray[np.int64]) -> Samples:
    """Mix samples.

    Args:
        x: uint8 [n, ...], values up to `net.top`.
        y: [n] labels below `net.classes`.

    Raises:
        ParamsError: samples that are not of this net.
    """
    if x.dtype != np.uint8 or x.shape[0] != y.shape[0] or int(np.prod(x.shape[1:])) != net.pixels:
        raise ParamsError(f"baseline: samples must be bytes [n, {net.pixels}], not {x.dtype} {x.shape}")
    if not len(y) or y.min() < 0 or y.max() >= net.classes or x.max() > net.top:
        raise ParamsError(f"baseline: labels must be below {net.classes}, values at most {net.top}")
    signs = _signs(net)
    rows = x.reshape(len(x), -1)
    mixed = np.empty((len(x), net.inputs), np.int8)
    for start in range(0, len(x), _ROWS):
        levels = rows[start : start + _ROWS].astype(np.int32) * TOP // net.top
        sums = np.matmul(levels.astype(np.float32), signs)
        sums += np.float32(half(net.mix_shift))
        np.floor(np.multiply(sums, np.float32(2.0**-net.mix_shift), out=sums), out=sums)
        mixed[start : start + _ROWS] = np.clip(sums, -TOP, TOP)
    return Samples(mixed, y.astype(np.intp))


def _signs(net: Net) -> npt.NDArray[np.float32]:
    """The mixing matrix, +1 and -1 [pixels, inputs]."""
    bits = np.unpackbits(np.frombuffer(mix_bits(net), np.uint8))[: net.pixels * net.inputs]
    return (bits.astype(np.float32) * 2 - 1).reshape(net.pixels, net.inputs)
