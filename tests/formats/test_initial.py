from __future__ import annotations

import numpy as np

from p2pml.formats import tensors
from p2pml.formats.initial import initial_weights
from p2pml.training import models

GOLDEN = "a730e9085b32176a841ac2943426df33f47f831d462fbe48352f3f929e5a629b"
"""SHA-256 of the weights file of the 2NN on 8 × 8 inputs, seed 7. Every machine must build these bits."""


def test_the_same_bits_everywhere() -> None:
    spec = models.build("mlp", {}, (8, 8), 10)
    assert tensors.digest(tensors.encode(initial_weights(spec, 7))).hex() == GOLDEN


def test_glorot_bounds_zero_biases_and_independent_streams() -> None:
    spec = models.build("cnn", {"filters": [4, 8], "dense": 16}, (12, 12), 10)
    weights = initial_weights(spec, 1)
    assert tuple(array.shape for array in weights) == spec.weight_shapes
    for array, weight in zip(weights, spec.weights, strict=True):
        if weight.start == "zeros":
            assert not array.any()
            continue
        limit = np.sqrt(6 / (weight.fan_in + weight.fan_out))
        assert np.abs(array).max() <= limit
        assert abs(float(array.std()) / (limit / np.sqrt(3)) - 1) < 0.25
    other = initial_weights(spec, 2)
    assert not np.array_equal(weights[0], other[0])


def test_recurrent_kernels_are_orthonormal_and_forget_gates_open() -> None:
    spec = models.build("lstm", {"units": [12], "vocabulary": 9}, (5,), 3)
    embedding, kernel, recurrent, bias, _, _ = initial_weights(spec, 3)
    assert 0.04 < np.abs(embedding).max() <= 0.05
    assert kernel.shape == (8, 48)
    assert np.abs(recurrent.astype(np.float64) @ recurrent.T - np.eye(12)).max() < 1e-6
    assert bias.tolist() == [0.0] * 12 + [1.0] * 12 + [0.0] * 24
    he = models.build("resnet", {"blocks": 1}, (8, 8), 3)
    assert np.abs(initial_weights(he, 3)[0]).max() <= np.sqrt(6 / 9)
    zeros = models.build("sequential", {}, (4,), 3)
    assert not any(array.any() for array in initial_weights(zeros, 3))
