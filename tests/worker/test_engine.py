"""The worker's arithmetic, in a real worker process with TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2pml.formats import shards, tensors
from p2pml.formats.initial import initial_weights
from p2pml.formats.keras_json import ModelSpec
from p2pml.formats.optimizers import SERVER, Optimizer
from p2pml.formats.shards import Shard
from p2pml.training import dataset, models
from p2pml.training.spec import parse_spec
from p2pml.worker.process import WorkerError
from p2pml.worker.protocol import Build, Evaluate, Progress, ServerStep, Train, Trained

pytestmark = pytest.mark.slow

SGD = Optimizer("sgd", 0.1)


def train(worker: Any, spec: ModelSpec, weights: bytes, path: Path, **changes: Any) -> Trained:
    values: dict[str, Any] = {
        "optimizer": SGD, "batch": 10, "epochs": 2, "seed": 1, "round": 0, "client": 0, **changes,
    }  # fmt: skip
    result = worker.call(Train(spec.to_json(), weights, str(path), **values))
    assert isinstance(result, Trained)
    return result


@pytest.fixture(scope="module")
def digits_train(worker: Any) -> Path:
    path: Path = worker.folder / "train"
    shards.write(path, dataset.load(dataset.digits_path()).train)
    return path


@pytest.fixture(scope="module")
def digits_test(worker: Any) -> Path:
    test = dataset.load(dataset.digits_path()).test
    assert test is not None
    path: Path = worker.folder / "test"
    shards.write(path, test)
    return path


@pytest.fixture(scope="module")
def small(worker: Any) -> Path:
    path: Path = worker.folder / "small"
    shards.write(path, dataset.load(dataset.digits_path()).train.take(np.arange(103)))
    return path


def test_hello_says_what_decides_the_bits(worker: Any) -> None:
    hello = worker.hello()
    assert hello.versions["tensorflow"].startswith("2.14")
    assert hello.versions["tensorflow_federated"].startswith("0.87")
    assert hello.threads == 1
    assert worker.supervisor.status == "ready"
    print(f"worker ready after {hello.seconds:.1f} s with {hello.memory >> 20} MiB")


def test_build_gives_the_weights_that_numpy_alone_gives(worker: Any) -> None:
    spec = models.build("cnn", {"filters": [4], "kernel": 3, "dense": 8}, (8, 8), 10)
    built = worker.call(Build(spec.to_json(), 5))
    assert built.weights == tensors.encode(initial_weights(spec, 5))
    assert built.model == spec.to_json()
    assert built.params == spec.params


def test_it_learns_digits(worker: Any, digits_train: Path, digits_test: Path) -> None:
    spec = models.build("mlp", {"hidden": [64]}, (8, 8), 10)
    weights = worker.call(Build(spec.to_json(), 7)).weights
    reports: list[Progress] = []
    request = Train(spec.to_json(), weights, str(digits_train), SGD, 20, 12, 1, 0, 0)
    result = worker.call(request, reports.append)
    assert (result.samples, result.steps, result.loss_samples) == (1497, 12 * 75, 1024)
    assert result.loss_after < 0.25 < 2 < result.loss_before
    assert reports
    assert reports[-1].done == reports[-1].total == 12 * 75
    assert [report.done for report in reports] == sorted(report.done for report in reports)
    start = tensors.decode(weights)
    update = tensors.decode(result.update, spec.weight_shapes)
    trained = tensors.encode([w + d for w, d in zip(start, update, strict=True)])
    before = worker.call(Evaluate(spec.to_json(), weights, str(digits_test)))
    after = worker.call(Evaluate(spec.to_json(), trained, str(digits_test), batch=64))
    assert before.accuracy < 0.3
    assert after.accuracy >= 0.9
    assert after.samples == 300


@pytest.mark.parametrize(
    ("builder", "args", "optimizer"),
    [
        ("sequential", {}, Optimizer("sgd", 0.3)),
        ("resnet", {"blocks": 1, "filters": 8, "groups": 4}, Optimizer("adam", 0.01)),
    ],
)
def test_other_builders_learn_digits(
    worker: Any, small: Path, builder: str, args: dict[str, int], optimizer: Optimizer
) -> None:
    spec = models.build(builder, args, (8, 8), 10)
    weights = worker.call(Build(spec.to_json(), 7)).weights
    result = train(worker, spec, weights, small, optimizer=optimizer, epochs=5)
    assert result.loss_after < 1.2 < 2.2 < result.loss_before
    assert train(worker, spec, weights, small, optimizer=optimizer, epochs=5) == result


def test_an_lstm_learns_text_and_wants_tokens(worker: Any, small: Path) -> None:
    path = worker.folder / "text.txt"
    path.write_bytes(b"the cat sat on the mat. " * 30)
    text = dataset.load(path, dataset.Reading(shape=(12,)))
    spec = models.build("lstm", {"units": [16, 16]}, (12,), text.classes)
    shards.write(worker.folder / "text", text.train)
    weights = worker.call(Build(spec.to_json(), 7)).weights
    result = train(worker, spec, weights, worker.folder / "text", optimizer=Optimizer("adam", 0.02), epochs=4)
    assert result.loss_after < 2.6 < 4 < result.loss_before
    scaled = Shard(text.train.x, text.train.y, 1 / 255)
    for number, (shard, message) in enumerate(
        [(scaled, "not tokens"), (Shard(text.train.x.astype(np.float32) + 0.5, text.train.y), "not tokens")]
    ):
        shards.write(worker.folder / f"wrong{number}", shard)
        with pytest.raises(WorkerError, match=message) as caught:
            train(worker, spec, weights, worker.folder / f"wrong{number}")
        assert caught.value.refused
    few = models.build("lstm", {"units": [4], "vocabulary": 100}, (12,), text.classes)
    few_weights = tensors.encode(initial_weights(few, 1))
    with pytest.raises(WorkerError, match=r"tokens run from .* not within 0 … 99"):
        train(worker, few, few_weights, worker.folder / "text")


def numpy_softmax_regression(
    weights: Sequence[np.ndarray],
    shard: Shard,
    lr: float,
    batch: int,
    orders: Sequence[np.ndarray],
    prox: float = 0.0,
) -> list[np.ndarray]:
    """Minibatch SGD on softmax regression in float64: the reference that shares no code with the worker."""
    first = [array.astype(np.float64) for array in weights]
    kernel, bias = first
    x = shard.x.reshape(len(shard), -1).astype(np.float64) * shard.scale
    for order in orders:
        for begin in range(0, len(order), batch):
            rows = order[begin : begin + batch]
            logits = x[rows] @ kernel + bias
            p = np.exp(logits - logits.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            p[np.arange(len(rows)), shard.y[rows]] -= 1
            kernel = kernel - lr * (x[rows].T @ p / len(rows) + prox * (kernel - first[0]))
            bias = bias - lr * (p.mean(axis=0) + prox * (bias - first[1]))
    return [kernel, bias]


def test_sgd_is_the_textbooks_in_the_promised_order_with_the_partial_batch(worker: Any, small: Path) -> None:
    spec = models.build("logistic", {}, (8, 8), 10)
    start = initial_weights(spec, 3)
    result = train(worker, spec, tensors.encode(start), small, epochs=3, seed=4, round=5, client=6)
    assert result.steps == 3 * 11
    orders = [np.random.Generator(np.random.PCG64([4, 5, 6, epoch])).permutation(103) for epoch in range(3)]
    wanted = numpy_softmax_regression(start, shards.read(small), 0.1, 10, orders)
    for got, begin, end in zip(tensors.decode(result.update), start, wanted, strict=True):
        assert np.abs(got - (end - begin)).max() < 1e-6


def test_the_proximal_term_pulls_towards_the_rounds_weights(worker: Any, small: Path) -> None:
    """FedProx (Li et al. 2020) by its definition; another μ and none at all do not disturb each other."""
    spec = models.build("logistic", {}, (8, 8), 10)
    start = initial_weights(spec, 3)
    weights = tensors.encode(start)
    plain = train(worker, spec, weights, small, epochs=3, seed=4, round=5, client=6)
    orders = [np.random.Generator(np.random.PCG64([4, 5, 6, epoch])).permutation(103) for epoch in range(3)]
    for prox in (1.0, 0.2):
        result = train(worker, spec, weights, small, epochs=3, seed=4, round=5, client=6, prox=prox)
        wanted = numpy_softmax_regression(start, shards.read(small), 0.1, 10, orders, prox)
        for got, begin, end in zip(tensors.decode(result.update), start, wanted, strict=True):
            assert np.abs(got - (end - begin)).max() < 1e-6
        assert tensors.norm(tensors.decode(result.update)) < tensors.norm(tensors.decode(plain.update))
    assert train(worker, spec, weights, small, epochs=3, seed=4, round=5, client=6) == plain


def test_one_batch_is_one_step_on_the_first_of_the_order(worker: Any, small: Path) -> None:
    spec = models.build("logistic", {}, (8, 8), 10)
    start = initial_weights(spec, 3)
    result = train(worker, spec, tensors.encode(start), small, epochs=1, seed=4, round=5, one_batch=True)
    assert (result.steps, result.samples) == (1, 103)
    order = np.random.Generator(np.random.PCG64([4, 5, 0, 0])).permutation(103)[:10]
    wanted = numpy_softmax_regression(start, shards.read(small), 0.1, 10, [order])
    for got, begin, end in zip(tensors.decode(result.update), start, wanted, strict=True):
        assert np.abs(got - (end - begin)).max() < 1e-6
    whole = train(worker, spec, tensors.encode(start), small, epochs=1, batch=500, one_batch=True)
    assert whole == train(worker, spec, tensors.encode(start), small, epochs=1, batch=500)


@pytest.mark.parametrize("momentum", [None, 0.5])
def test_momentum_is_that_of_the_jobs_spec(worker: Any, small: Path, momentum: float | None) -> None:
    """v ← m · v + g, w ← w − lr · v, with m = 0.9 where the job names none; in steps on the whole shard."""
    named = "" if momentum is None else f", momentum: {momentum}"
    job = parse_spec(
        "name: a\nmodel: {builder: logistic}\ndata: {train: x}\n"
        f"train: {{optimizer: sgdm, lr: 0.1{named}, batch: 103, epochs: 3}}\n"
    ).train
    spec = models.build("logistic", {}, (8, 8), 10)
    start = initial_weights(spec, 3)
    result = train(
        worker, spec, tensors.encode(start), small,
        optimizer=job.client_optimizer(), batch=job.batch, epochs=job.epochs,
    )  # fmt: skip
    now, velocity = start, [np.zeros_like(array) for array in start]
    for _ in range(3):
        plain = numpy_softmax_regression(now, shards.read(small), 0.1, 103, [np.arange(103)])
        velocity = [
            np.float32(0.9 if momentum is None else momentum) * v + (end - begin)
            for v, begin, end in zip(velocity, now, plain, strict=True)
        ]
        now = [array + v for array, v in zip(now, velocity, strict=True)]
    for got, begin, end in zip(tensors.decode(result.update), start, now, strict=True):
        assert np.abs(got - (end - begin)).max() < 1e-6


@pytest.mark.parametrize("name", ["sgd", "sgdm", "adam"])
def test_an_update_is_a_function_of_its_request(worker: Any, small: Path, name: str) -> None:
    spec = models.build("cnn", {"filters": [4], "kernel": 3, "dense": 8}, (8, 8), 10)
    weights = tensors.encode(initial_weights(spec, 3))
    optimizer = Optimizer(name, 0.01)
    first = train(worker, spec, weights, small, optimizer=optimizer)
    train(worker, spec, first.update, small, optimizer=Optimizer(name, 0.02), batch=7)
    again = train(worker, spec, weights, small, optimizer=optimizer)
    assert again == first
    for changed in ({"seed": 2}, {"round": 1}, {"client": 1}, {"batch": 11}):
        other = train(worker, spec, weights, small, optimizer=optimizer, **changed)
        assert other.update != first.update


def test_dropout_draws_the_same_numbers_every_time(worker: Any, small: Path) -> None:
    spec = models.build("mlp", {"hidden": [16], "dropout": 0.5}, (8, 8), 10)
    plain = models.build("mlp", {"hidden": [16]}, (8, 8), 10)
    weights = tensors.encode(initial_weights(spec, 3))
    first = train(worker, spec, weights, small)
    assert train(worker, spec, weights, small) == first
    assert train(worker, plain, weights, small).update != first.update


def test_adam_and_probabilities(worker: Any, small: Path) -> None:
    text = json.loads(models.build("mlp", {"hidden": [16]}, (8, 8), 10).to_json())
    text["config"]["layers"][-1]["config"]["activation"] = "softmax"
    spec = models.parse(json.dumps(text))
    weights = tensors.encode(initial_weights(spec, 3))
    result = train(worker, spec, weights, small, optimizer=Optimizer("adam", 0.01), epochs=10)
    assert result.loss_after < 0.5 < 2 < result.loss_before


def server(worker: Any, optimizer: Optimizer, steps: int) -> tuple[list[np.ndarray], list[np.ndarray], list]:
    rng = np.random.default_rng(2)
    weights = [rng.standard_normal(shape).astype(np.float32) for shape in ((3, 4), (4,))]
    delta = [rng.standard_normal(array.shape).astype(np.float32) for array in weights]
    now, state = tensors.encode(weights), b""
    for _ in range(steps):
        stepped = worker.call(ServerStep(optimizer, now, tensors.encode(delta), state))
        now, state = stepped.weights, stepped.state
    return weights, delta, tensors.decode(now)


def test_server_sgd_with_lr_one_is_plain_addition(worker: Any) -> None:
    weights, delta, after = server(worker, Optimizer("sgd", 1.0), 1)
    for w, d, got in zip(weights, delta, after, strict=True):
        assert got.tobytes() == (w + d).tobytes()


def test_server_momentum_and_adam_carry_their_state(worker: Any) -> None:
    weights, delta, after = server(worker, Optimizer("sgdm", 0.5, {"momentum": 0.5}), 2)
    for w, d, got in zip(weights, delta, after, strict=True):
        assert np.abs(got - (w + 0.5 * d + 0.5 * 1.5 * d)).max() < 1e-6
    weights, delta, after = server(worker, Optimizer("adam", 0.1, {"epsilon": 1e-3}), 2)
    for w, d, got in zip(weights, delta, after, strict=True):
        wanted, m, v = w.astype(np.float64), 0.0, 0.0
        for t in (1, 2):
            m, v = 0.9 * m + 0.1 * -d, 0.999 * v + 0.001 * d**2
            rate = 0.1 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            wanted = wanted - rate * m / (np.sqrt(v) + 1e-3)
        assert np.abs(got - wanted).max() < 1e-5


@pytest.mark.parametrize("name", SERVER)
def test_every_server_optimizer_moves_along_the_mean_delta(worker: Any, name: str) -> None:
    weights, delta, after = server(worker, Optimizer(name, 0.01), 2)
    moved = sum(float(((a - w) * d).sum()) for a, w, d in zip(after, weights, delta, strict=True))
    assert moved > 0


def test_a_state_of_another_optimizer_is_refused(worker: Any) -> None:
    weights = tensors.encode([np.ones(2)])
    state = worker.call(ServerStep(Optimizer("sgdm", 1.0), weights, weights)).state
    for wrong in (state, b"junk", state[:-1]):
        with pytest.raises(WorkerError, match="state") as caught:
            worker.call(ServerStep(Optimizer("adam", 1.0), weights, weights, wrong))
        assert caught.value.refused


def test_requests_that_are_to_blame_are_refused_and_the_worker_lives_on(worker: Any, small: Path) -> None:
    spec = models.build("logistic", {}, (8, 8), 10)
    weights = tensors.encode(initial_weights(spec, 3))
    few = models.build("logistic", {}, (8, 8), 3)
    few_weights = tensors.encode(initial_weights(few, 1))
    flat = models.build("logistic", {}, (64,), 10)
    empty: Path = worker.folder / "empty"
    shards.write(empty, Shard(np.zeros((0, 8, 8), np.uint8), np.zeros(0, np.int64)))
    nan = tensors.encode([np.full((64, 10), np.nan), np.zeros(10)])
    lambda_layer = spec.to_json().replace('"Flatten"', '"Lambda"')
    pid = worker.hello().pid
    calls: list[tuple[Any, str]] = [
        (Build(lambda_layer, 1), "Lambda.*not accepted"),
        (Build(spec.to_json(), -1), "seed"),
        (Train(spec.to_json(), nan, str(small), SGD, 1, 1, 0, 0, 0), "not finite"),
        (Train(spec.to_json(), b"", str(small), SGD, 1, 1, 0, 0, 0), "safetensors"),
        (Train(few.to_json(), few_weights, str(small), SGD, 1, 1, 0, 0, 0), "label 9"),
        (Train(flat.to_json(), weights, str(small), SGD, 1, 1, 0, 0, 0), "samples of shape"),
        (Train(spec.to_json(), weights, str(empty), SGD, 1, 1, 0, 0, 0), "no samples"),
        (Train(spec.to_json(), weights, str(small), SGD, 0, 1, 0, 0, 0), "batch 0"),
        (Train(spec.to_json(), weights, str(small), Optimizer("lion", 1), 1, 1, 0, 0, 0), "lion"),
        (Train(spec.to_json(), weights, str(small), SGD, 1, 1, 0, -1, 0), "negative"),
        (Train(spec.to_json(), weights, str(small), SGD, 1, 1, 0, 0, 0, float("nan")), "prox nan"),
        (Evaluate(spec.to_json(), weights, str(small), 0), "batch 0"),
        (ServerStep(SGD, weights, tensors.encode([np.ones(1)])), "1 tensors"),
    ]  # fmt: skip
    for request, message in calls:
        with pytest.raises(WorkerError, match=message) as caught:
            worker.call(request)
        assert caught.value.refused
        assert "Traceback" in caught.value.traceback
    assert worker.hello().pid == pid


def test_divergence_and_a_missing_shard_have_their_reasons(worker: Any, small: Path) -> None:
    spec = models.build("mlp", {"hidden": [16], "activation": "linear"}, (8, 8), 10)
    weights = tensors.encode(initial_weights(spec, 3))
    with pytest.raises(WorkerError, match=r"training diverged \(learning rate 1000"):
        train(worker, spec, weights, small, optimizer=Optimizer("sgd", 1000.0), epochs=100)
    with pytest.raises(WorkerError, match="FileNotFoundError") as caught:
        train(worker, spec, weights, small.with_name("missing"))
    assert not caught.value.refused


def test_weights_of_a_hundred_megabytes_pass(worker: Any) -> None:
    spec = models.build("mlp", {"hidden": [6000, 4000]}, (8, 8), 10)
    built = worker.call(Build(spec.to_json(), 1))
    assert len(built.weights) > 97_000_000
    stepped = worker.call(ServerStep(Optimizer("sgd", 1.0), built.weights, built.weights))
    first = tensors.decode(built.weights)[0]
    assert np.array_equal(tensors.decode(stepped.weights)[0], first + first)
