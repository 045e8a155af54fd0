"""Training in one place, span by span: where it is cut changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2pml.formats import shards, tensors
from p2pml.formats.initial import initial_weights
from p2pml.formats.optimizers import Optimizer
from p2pml.formats.shards import Shard
from p2pml.training import dataset, models
from p2pml.worker.process import WorkerError
from p2pml.worker.protocol import Span, Spanned

pytestmark = pytest.mark.slow

SEED, BATCH, LR = 4, 10, 0.5
SPEC = models.build("logistic", {}, (8, 8), 10)
FIRST = tensors.encode(initial_weights(SPEC, 1))


@pytest.fixture(scope="module")
def some(worker: Any) -> tuple[Path, Shard]:
    shard = dataset.load(dataset.digits_path()).train.take(np.arange(53))  # five batches and a small one
    shards.write(worker.folder / "some", shard)
    return worker.folder / "some", shard


def through(worker: Any, path: Path, optimizer: Optimizer, *ends: int, keep: bool = True) -> bytes:
    weights, state, begin = FIRST, b"", 0
    for end in ends:
        request = Span(SPEC.to_json(), weights, state, str(path), optimizer, BATCH, SEED, begin, end)
        done = worker.call(request)
        assert isinstance(done, Spanned)
        weights, state, begin = done.weights, done.state if keep else b"", end
    return weights


def test_where_a_span_ends_does_not_change_a_bit(worker: Any, some: tuple[Path, Shard]) -> None:
    adam = Optimizer("adam", 0.01)
    whole = through(worker, some[0], adam, 17)
    assert through(worker, some[0], adam, 1, 5, 6, 13, 17) == whole
    assert through(worker, some[0], adam, 5, 17, keep=False) != whole


def test_the_steps_are_those_of_sgd(worker: Any, some: tuple[Path, Shard]) -> None:
    """Against the definition: softmax regression, epochs of six batches in the documented order."""
    path, shard = some
    x = shard.x.reshape(len(shard), -1).astype(np.float64) * shard.scale
    kernel, bias = (array.astype(np.float64) for array in tensors.decode(FIRST))
    for step in range(14):
        epoch, at = divmod(step, 6)
        entropy = [SEED, int.from_bytes(b"central", "big"), epoch]
        order = np.random.Generator(np.random.PCG64(entropy)).permutation(len(shard))
        rows = order[at * BATCH : (at + 1) * BATCH]
        scores = np.exp(x[rows] @ kernel + bias)
        error = scores / scores.sum(axis=1, keepdims=True) - np.eye(10)[shard.y[rows]]
        kernel -= LR * x[rows].T @ error / len(rows)
        bias -= LR * error.mean(axis=0)
    found = tensors.decode(through(worker, path, Optimizer("sgd", LR), 4, 14))
    np.testing.assert_allclose(found[0], kernel, atol=1e-5)
    np.testing.assert_allclose(found[1], bias, atol=1e-5)
    assert np.abs(found[0] - tensors.decode(FIRST)[0]).max() > 0.05


@pytest.mark.parametrize("change", [{"begin": 5, "end": 5}, {"batch": 0}, {"state": b"x"}, {"seed": -1}])
def test_a_span_that_cannot_be_is_refused(
    worker: Any, some: tuple[Path, Shard], change: dict[str, Any]
) -> None:
    fields: dict[str, Any] = {"state": b"", "batch": BATCH, "seed": SEED, "begin": 0, "end": 3, **change}
    with pytest.raises(WorkerError) as caught:
        worker.call(Span(SPEC.to_json(), FIRST, shard=str(some[0]), optimizer=Optimizer("sgd", LR), **fields))
    assert caught.value.refused
