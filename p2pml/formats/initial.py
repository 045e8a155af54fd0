"""The first weights of a model, the same bits on every machine.

TensorFlow's initializers promise that for one version and device only; NumPy's PCG64 stream does for all.
"""

from __future__ import annotations

import numpy as np

from p2pml.formats.keras_json import ModelSpec
from p2pml.formats.tensors import Array


def initial_weights(spec: ModelSpec, seed: int) -> list[Array]:
    """Glorot-uniform kernels (Glorot and Bengio, 2010), zero biases, unit scales.

    Args:
        spec: the model.
        seed: the job's seed, 0 ≤ seed < 2^64; weight i draws from the stream [seed, i].

    Returns:
        float32 arrays in the order of `spec.weights`.
    """
    arrays: list[Array] = []
    for index, weight in enumerate(spec.weights):
        if weight.start == "glorot":
            limit = float(np.sqrt(6.0 / (weight.fan_in + weight.fan_out)))
            generator = np.random.Generator(np.random.PCG64([seed, index]))
            # 2u − 1 on 53-bit uniforms is exact arithmetic up to one rounding to float32 everywhere.
            array = ((2.0 * generator.random(weight.shape) - 1.0) * limit).astype(np.float32)
        else:
            array = np.full(weight.shape, 0.0 if weight.start == "zeros" else 1.0, np.float32)
        arrays.append(array)
    return arrays
