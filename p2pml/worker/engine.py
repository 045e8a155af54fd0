"""What the worker does with each request: build, train, evaluate, server step. TensorFlow is imported here.

An update is a function of its request alone: order from PCG64, a fresh optimizer, deterministic operations,
one thread.
"""

from __future__ import annotations

import platform
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from p2pml.formats import FormatError, SpecError, keras_json, shards, tensors
from p2pml.formats.initial import initial_weights
from p2pml.formats.local import MAX_PROX
from p2pml.formats.optimizers import CLIENT, Optimizer
from p2pml.formats.shards import Shard
from p2pml.formats.tensors import Array
from p2pml.worker import orders, plugins, quiet
from p2pml.worker.link import Control
from p2pml.worker.protocol import (
    Build,
    Built,
    Evaluate,
    Evaluated,
    Message,
    Progress,
    ServerStep,
    Span,
    Spanned,
    Stepped,
    Train,
    Trained,
)

quiet.silence()

import tensorflow as tf  # noqa: E402
import tensorflow_federated as tff  # noqa: E402

from p2pml.worker import optimizers  # noqa: E402
from p2pml.worker.classifier import Classifier, Gradients, LocalTraining, Watch  # noqa: E402
from p2pml.worker.devices import MirroredGradients, strategy_for  # noqa: E402

LOSS_SAMPLES = 1024
"""Loss before and after training is measured on the shard's first samples, at most so many."""

MAX_BATCH = 65_536
MAX_EPOCHS = 1000
KEEP = 4
"""How many compiled models stay in memory; compiling takes about a second, and a job's rounds share one."""


@dataclass(slots=True)
class _Compiled:
    classifier: Classifier
    gradients: Gradients | None = None
    trainings: dict[tuple[object, ...], LocalTraining] = field(default_factory=dict)

    def training(self, optimizer: Optimizer, prox: float) -> LocalTraining:
        # Another learning rate is another number in the optimizer's state, not another function.
        key = (optimizer.name, *sorted(optimizer.args.items()), prox)
        if key not in self.trainings:
            self.trainings[key] = LocalTraining(self.classifier, optimizer, prox, self.gradients)
        return self.trainings[key]


class TensorFlowEngine:
    """Carries out requests, one at a time.

    Args:
        trainers: names of the installed trainers that may be used.
        devices: that a training is spread over.

    Raises:
        UnableError: there are not so many.
    """

    def __init__(self, trainers: Sequence[str] = (), devices: int = 1) -> None:
        self._allowed = trainers
        self._plugins: dict[str, plugins.Trainer] = {}
        self._strategy = strategy_for(devices)
        tf.config.experimental.enable_op_determinism()
        self._compiled: OrderedDict[str, _Compiled] = OrderedDict()

    def versions(self) -> dict[str, str]:
        """Of the libraries that decide what bits an update has."""
        return {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "tensorflow": tf.__version__,
            "tensorflow_federated": tff.__version__,
        }

    def carry_out(self, request: Message, control: Control) -> Message:
        """Carry out one request.

        Raises:
            FormatError: the request is to blame.
            MemoryError: it needs more than this process may use.
            Cancelled: the node cancelled it.
        """
        try:
            return self._carry_out(request, control)
        except (MemoryError, tf.errors.ResourceExhaustedError) as error:
            self._compiled.clear()  # what it has built goes too
            raise MemoryError(str(error)) from error

    def _carry_out(self, request: Message, control: Control) -> Message:
        if isinstance(request, Build):
            return self._build(request)
        if isinstance(request, Train):
            return self._train(request, control)
        if isinstance(request, Evaluate):
            return self._evaluate(request, control)
        if isinstance(request, Span):
            return self._span(request, control)
        if isinstance(request, ServerStep):
            step = optimizers.server_step(
                request.optimizer, request.weights, request.mean_delta, request.state
            )
            return Stepped(*step)
        raise FormatError(f"{type(request).__name__} is no request")

    def _build(self, request: Build) -> Built:
        spec = keras_json.parse(request.model)
        if not 0 <= request.seed < 1 << 64:
            raise SpecError(f"seed {request.seed} is not within 0 … 2^64 − 1")
        self._entry(spec)  # TensorFlow must agree that it is a model with these weights
        return Built(tensors.encode(initial_weights(spec, request.seed)), spec.to_json(), spec.params)

    def _train(self, request: Train, control: Control) -> Trained:
        _check_train(request)
        spec = keras_json.parse(request.model)
        start = tensors.decode(request.weights, spec.weight_shapes)
        shard = _load(request.shard, spec)
        spec.check_batch(min(request.batch, len(shard)))
        if spec.random:
            # Random state lives in the compiled function: a fresh one draws the same numbers every time.
            self._compiled.pop(spec.to_json(), None)
            entropy = [request.seed, request.round, request.client, 1 << 32]
            tf.keras.utils.set_random_seed(np.random.PCG64(entropy).random_raw() >> 33)
        classifier = self._entry(spec).classifier
        classifier.set_weights(start)
        probe = shard.take(np.arange(min(LOSS_SAMPLES, len(shard))))
        batch = spec.evaluation_batch(512)
        before, _ = classifier.evaluate(probe, batch, lambda *_: control.check())
        train = self._by_plugin if request.trainer else self._by_keras
        steps = train(request, spec, start, shard, _Watch(control))
        after, _ = classifier.evaluate(probe, batch, lambda *_: control.check())
        update = [end - begin for end, begin in zip(classifier.get_weights(), start, strict=True)]
        _check_finite(update, request.optimizer)
        return Trained(tensors.encode(update), len(shard), steps, before, after, len(probe))

    def _by_keras(
        self, request: Train, spec: keras_json.ModelSpec, start: Sequence[Array], shard: Shard, watch: Watch
    ) -> int:
        """Train the model, which has the weights to start from; the number of steps."""
        training = self._entry(spec).training(request.optimizer, request.prox)
        training.reset(request.optimizer)
        visited = min(request.batch, len(shard)) if request.one_batch else len(shard)
        work = request.seed, request.round, request.client
        visits = [orders.of_client(work, epoch, len(shard))[:visited] for epoch in range(request.epochs)]
        return training.run(shard, visits, request.batch, watch)

    def _by_plugin(
        self, request: Train, spec: keras_json.ModelSpec, start: Sequence[Array], shard: Shard, watch: Watch
    ) -> int:
        """Have an installed trainer do it; the number of steps that this was counted as."""
        name = request.trainer
        if name not in self._plugins:
            self._plugins[name] = plugins.load(name, self._allowed)
        own = [array.copy() for array in start]  # it may train in place
        task = plugins.LocalTask(
            spec.to_json(), own, shard, request.optimizer, request.batch, request.epochs, request.prox,
            request.seed, request.round, request.client,
        )  # fmt: skip
        trained = plugins.checked(self._plugins[name].train(task, watch), task)
        self._entry(spec).classifier.set_weights(trained)
        return request.epochs * -(-len(shard) // request.batch)

    def _span(self, request: Span, control: Control) -> Spanned:
        _check_span(request)
        spec = keras_json.parse(request.model)
        shard = _load(request.shard, spec)
        spec.check_batch(min(request.batch, len(shard)))
        compiled = self._entry(spec)
        classifier, training = compiled.classifier, compiled.training(request.optimizer, 0.0)
        classifier.set_weights(tensors.decode(request.weights, spec.weight_shapes))
        training.reset(request.optimizer)
        if request.state:
            training.resume(request.state)
        per_epoch = -(-len(shard) // request.batch)
        first = request.begin // per_epoch
        epochs = range(first, -(-request.end // per_epoch))
        visits = [orders.central(request.seed, epoch, len(shard)) for epoch in epochs]
        span = range(request.begin - first * per_epoch, request.end - first * per_epoch)
        training.run(shard, visits, request.batch, _Watch(control), span)
        weights = classifier.get_weights()
        _check_finite(weights, request.optimizer)
        return Spanned(tensors.encode(weights), training.state())

    def _evaluate(self, request: Evaluate, control: Control) -> Evaluated:
        spec = keras_json.parse(request.model)
        shard = _load(request.data, spec)
        if not 1 <= request.batch <= MAX_BATCH:
            raise FormatError(f"batch {request.batch} is not within 1 … {MAX_BATCH}")
        classifier = self._entry(spec).classifier
        classifier.set_weights(tensors.decode(request.weights, spec.weight_shapes))
        loss, accuracy = classifier.evaluate(shard, spec.evaluation_batch(request.batch), _Watch(control))
        return Evaluated(loss, accuracy, len(shard))

    def _entry(self, spec: keras_json.ModelSpec) -> _Compiled:
        key = spec.to_json()
        if key not in self._compiled:
            self._compiled[key] = self._build_entry(spec)
        self._compiled.move_to_end(key)
        while len(self._compiled) > KEEP:
            self._compiled.popitem(last=False)
        return self._compiled[key]

    def _build_entry(self, spec: keras_json.ModelSpec) -> _Compiled:
        if self._strategy is None:
            return _Compiled(Classifier(spec))
        with self._strategy.scope():
            classifier = Classifier(spec)
        return _Compiled(classifier, MirroredGradients(classifier, self._strategy))


def _check_train(request: Train) -> None:
    request.optimizer.check(CLIENT)
    if not 1 <= request.batch <= MAX_BATCH or not 1 <= request.epochs <= MAX_EPOCHS:
        raise FormatError(f"batch {request.batch} or epochs {request.epochs} out of bounds")
    if not 0 <= request.prox <= MAX_PROX:
        raise FormatError(f"prox {request.prox} is not within 0 … {MAX_PROX:g}")
    if min(request.seed, request.round, request.client) < 0:
        raise FormatError("seed, round and client must not be negative")


def _check_span(request: Span) -> None:
    request.optimizer.check(CLIENT)
    if not 1 <= request.batch <= MAX_BATCH or request.seed < 0:
        raise FormatError(f"batch {request.batch} or seed {request.seed} out of bounds")
    if not 0 <= request.begin < request.end:
        raise FormatError(f"there are no steps from {request.begin} to {request.end}")


def _check_finite(arrays: Sequence[tensors.Array], optimizer: Optimizer) -> None:
    if not all(np.isfinite(array).all() for array in arrays):
        raise FormatError(f"training diverged (learning rate {optimizer.lr} is too high?)")


def _load(path: str, spec: keras_json.ModelSpec) -> Shard:
    shard = shards.read(Path(path))
    if not len(shard):
        raise FormatError("the shard holds no samples")
    if shard.sample_shape != spec.input_shape:
        raise FormatError(f"samples of shape {shard.sample_shape} for a model of {spec.input_shape}")
    if int(shard.y.max()) >= spec.classes:
        raise FormatError(f"label {int(shard.y.max())} for a model of {spec.classes} classes")
    if spec.tokens is not None:
        shard.check_tokens(spec.tokens)
    return shard


class _Watch:
    """Passes progress on, but not oftener than about twice a second, and ends cancelled work."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._due = 0.0

    def __call__(self, done: int, total: int, loss: float) -> None:
        self._control.check()
        now = time.monotonic()
        if now >= self._due or done == total:
            self._due = now + 0.5
            self._control.report(
                Progress(int(done), int(total), float(loss))
            )  # a trainer has its own scalars
