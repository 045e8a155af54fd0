"""The first weights of a model, the same bits on every machine.

TensorFlow's initializers promise that for one version and device only; NumPy's PCG64 stream does for all.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from p2pml.formats.keras_fields import Weight
from p2pml.formats.keras_json import ModelSpec
from p2pml.formats.tensors import Array

EMBEDDING_LIMIT = 0.05


def initial_weights(spec: ModelSpec, seed: int) -> list[Array]:
    """Glorot-uniform kernels (Glorot and Bengio, 2010) unless the model names another start, zero biases,
    unit scales; embeddings within ±0.05, and recurrent kernels with orthonormal rows (Saxe et al., 2013).

    Args:
        spec: the model.
        seed: the job's seed, 0 ≤ seed < 2^64; weight i draws from the stream [seed, i].

    Returns:
        float32 arrays in the order of `spec.weights`.
    """
    return [
        _start(weight, np.random.Generator(np.random.PCG64([seed, index])))
        for index, weight in enumerate(spec.weights)
    ]


def _start(weight: Weight, generator: np.random.Generator) -> Array:
    if weight.start in ("zeros", "ones"):
        return np.full(weight.shape, 0.0 if weight.start == "zeros" else 1.0, np.float32)
    if weight.start == "forget":
        # Input, forget, cell and output gates in Keras' order; an open forget gate lets gradients through
        # (Jozefowicz et al., 2015).
        return np.repeat(np.array([0, 1, 0, 0], np.float32), weight.shape[0] // 4)
    # 2u − 1 on 53-bit uniforms is exact arithmetic up to one rounding to float32 everywhere.
    draws = 2.0 * generator.random(weight.shape) - 1.0
    if weight.start == "orthogonal":
        return _orthonormal_rows(draws).astype(np.float32)
    return (draws * _limit(weight)).astype(np.float32)


def _limit(weight: Weight) -> float:
    if weight.start == "uniform":
        return EMBEDDING_LIMIT
    fans = weight.fan_in if weight.start == "he" else weight.fan_in + weight.fan_out
    return float(np.sqrt(6.0 / fans))


def _orthonormal_rows(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The rows by modified Gram-Schmidt: sums and products one by one, where a matrix library would add in an
    order of its own."""
    columns = np.ascontiguousarray(rows.T)
    for i in range(columns.shape[1]):
        unit = columns[:, i] / np.sqrt(np.add.reduce(columns[:, i] * columns[:, i]))
        columns[:, i] = unit
        rest = columns[:, i + 1 :]
        rest -= unit[:, None] * np.add.reduce(unit[:, None] * rest, axis=0)
    return columns.T
