"""A shard: the samples of one logical client as a safetensors file.

Tensors: `x` [n, …] uint8 or float32, `y` [n] int64 labels from 0, `scale` [1] float32. What a model sees is
`float32(x) · scale`, so that image data stays at one byte a value on the wire and on disk.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from p2pml.formats import FormatError

MAX_BYTES = 2 << 30
"""The most bytes that one shard file may have, 2 GiB."""

MAX_CLASSES = 100_000
"""Labels are below this."""


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """Samples in memory.

    Args:
        x: [n, …] uint8 or float32.
        y: [n] int64 labels, 0 ≤ y < `MAX_CLASSES`.
        scale: the factor from stored to model values, finite and positive.

    Raises:
        FormatError: when the parts do not fit that.
    """

    x: npt.NDArray[Any]
    y: npt.NDArray[np.int64]
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.x.ndim < 2 or self.x.dtype not in (np.uint8, np.float32):
            raise FormatError(f"samples must be uint8 or float32 [n, …], not {self.x.dtype} {self.x.shape}")
        if self.y.dtype != np.int64 or self.y.shape != self.x.shape[:1]:
            raise FormatError(f"labels must be int64 [{self.x.shape[0]}], not {self.y.dtype} {self.y.shape}")
        if self.y.size and not (self.y.min() >= 0 and self.y.max() < MAX_CLASSES):
            raise FormatError(
                f"labels run from {self.y.min()} to {self.y.max()}, not within 0 … {MAX_CLASSES - 1}"
            )
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise FormatError(f"scale is {self.scale}, not a positive number")
        if self.x.dtype == np.float32 and not np.isfinite(self.x).all():
            raise FormatError("samples hold a value that is not finite")

    def __len__(self) -> int:
        return int(self.y.shape[0])

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(int(n) for n in self.x.shape[1:])

    def __str__(self) -> str:
        """What people compare: how many samples of which shape, and what labels and values a model sees."""
        text = f"{len(self)} samples of {list(self.sample_shape)}"
        if self.x.size:
            low, high = (float(value) * self.scale for value in (self.x.min(), self.x.max()))
            text += f", labels {self.y.min()} to {self.y.max()}, values {low:.6g} to {high:.6g}"
        return text

    def check_tokens(self, below: int) -> None:
        """That samples are tokens as an embedding takes them. Raises FormatError."""
        whole = self.x.dtype == np.uint8 or bool((self.x == np.floor(self.x)).all())
        if self.scale != 1 or not whole:
            raise FormatError("samples are not tokens: whole numbers that are not scaled (scale: 1)")
        if self.x.size and not (self.x.min() >= 0 and self.x.max() < below):
            raise FormatError(f"tokens run from {self.x.min()} to {self.x.max()}, not within 0 … {below - 1}")

    def take(self, indices: npt.NDArray[np.integer[Any]]) -> Shard:
        """The samples at these positions, in that order."""
        return Shard(self.x[indices], self.y[indices], self.scale)


def encode(shard: Shard) -> bytes:
    """The bytes of a shard file; the same shard always gives the same bytes."""
    return save(
        {
            "x": np.ascontiguousarray(shard.x),
            "y": np.ascontiguousarray(shard.y),
            "scale": np.array([shard.scale], np.float32),
        }
    )


def write(path: Path, shard: Shard) -> int:
    """Write a shard file (whole or not at all) and return its size in bytes."""
    data = encode(shard)
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    os.replace(part, path)
    return len(data)


def read(path: Path, max_bytes: int = MAX_BYTES) -> Shard:
    """Read and check a shard file that anyone may have made.

    Raises:
        FormatError: too large or not a shard.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as source:
        size = os.fstat(source.fileno()).st_size
        if size > max_bytes:
            raise FormatError(f"shard of {size} bytes, at most {max_bytes} are allowed")
        data = source.read()
    try:
        named = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path.name} is not a safetensors file: {error}") from error
    if set(named) != {"x", "y", "scale"} or named["scale"].shape != (1,):
        raise FormatError(f"{path.name} is not a shard: it holds {sorted(named)}, not scale, x, y")
    return Shard(named["x"], named["y"], float(named["scale"][0]))


def sample_count(path: Path) -> int:
    """How many samples a shard file says it has, from its header alone.

    Raises:
        FormatError: not a shard.
    """
    try:
        with safe_open(str(path), framework="numpy") as source:
            return int(source.get_slice("y").get_shape()[0])
    except (SafetensorError, IndexError, OSError) as error:
        raise FormatError(f"{path.name} is not a shard: {error}") from error
