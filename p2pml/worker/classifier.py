"""A checked model in TensorFlow: its training loop and its evaluation, both compiled once and run in chunks.

A chunk is some consecutive steps in one TensorFlow call, so that Python's cost per step is small, and short
enough that progress and cancellation are timely. Where chunks end does not change a bit of the result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from p2pml.formats.keras_json import ModelSpec
from p2pml.formats.optimizers import Optimizer
from p2pml.formats.shards import Shard
from p2pml.formats.tensors import Array
from p2pml.worker import optimizers

CHUNK_SECONDS = 0.5
"""About how long one chunk takes."""

MAX_CHUNK = 1024

Watch = Callable[[int, int, float], None]
"""Called after each chunk with steps done, steps in all and the chunk's mean loss; may raise to end the
work."""

Gradients = Callable[[Any, Any, Any, Any], tuple[Any, list[Any]]]
"""Mean loss and gradients from all samples, their labels, the scale, and which are picked."""


class Classifier:
    """A Keras model made from the checked values of its description, layer by layer; in a strategy's scope,
    if it is to be trained on several devices."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        layers = [getattr(tf.keras.layers, layer.kind)(**layer.options) for layer in spec.layers]
        values = [tf.keras.Input(spec.input_shape)]
        for layer, sources in zip(layers, spec.sources, strict=True):
            inputs = [values[source] for source in sources]
            values.append(layer(inputs[0] if len(inputs) == 1 else inputs))
        self._model = tf.keras.Model(values[0], values[-1])
        # In the description's order; a Keras model of several branches has one of its own.
        self._weights = [variable for layer in layers for variable in layer.trainable_variables]
        shapes = tuple(tuple(variable.shape) for variable in self._weights)
        if shapes != spec.weight_shapes:
            raise RuntimeError(f"Keras built weights {shapes} for a description of {spec.weight_shapes}")
        self._loss = tf.keras.losses.SparseCategoricalCrossentropy(
            from_logits=spec.from_logits, reduction=tf.keras.losses.Reduction.SUM
        )
        self._evaluate = _compiled(self._evaluate_chunk)

    def set_weights(self, arrays: Sequence[Array]) -> None:
        """Assign all trainable weights."""
        for variable, array in zip(self._weights, arrays, strict=True):
            variable.assign(array)

    def get_weights(self) -> list[Array]:
        """All trainable weights, copied."""
        return [variable.numpy() for variable in self._weights]

    def evaluate(self, shard: Shard, batch: int, watch: Watch) -> tuple[float, float]:
        """Mean loss and accuracy over all samples, `batch` at a time."""
        x, y, scale = _on_device(shard)
        loss = correct = 0.0

        def run(begin: int, end: int) -> float:
            nonlocal loss, correct
            part, hits = self._evaluate(x, y, scale, _int(begin), _int(end), _int(batch))
            loss += float(part)
            correct += float(hits)
            return float(part) / batch

        _in_chunks(_steps(len(shard), batch), run, watch)
        return loss / len(shard), correct / len(shard)

    def _evaluate_chunk(
        self, x: tf.Tensor, y: tf.Tensor, scale: tf.Tensor, begin: tf.Tensor, end: tf.Tensor, batch: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        def one(step: tf.Tensor, loss: tf.Tensor, correct: tf.Tensor) -> tuple[tf.Tensor, ...]:
            labels = y[step * batch : (step + 1) * batch]
            outputs = self._model(tf.cast(x[step * batch : (step + 1) * batch], tf.float32) * scale)
            hits = tf.argmax(outputs, axis=1, output_type=tf.int64) == labels
            loss += self._loss(labels, outputs)
            return step + 1, loss, correct + tf.reduce_sum(tf.cast(hits, tf.float32))

        _, loss, correct = _repeat(one, begin, end, tf.constant(0.0), tf.constant(0.0))
        return loss, correct

    @property
    def model(self) -> Any:
        """The Keras model."""
        return self._model

    @property
    def variables(self) -> list[Any]:
        """All trainable weights, in the order of the description."""
        return list(self._weights)

    def gradients(
        self,
        x: tf.Tensor,
        y: tf.Tensor,
        scale: tf.Tensor,
        picked: tf.Tensor,
        weight: tf.Tensor | None = None,
        count: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Mean loss over the picked samples (cross-entropy in nats), and its gradients.

        Args:
            weight: of each picked sample; 1 when None.
            count: what the sum is divided by; how many are picked when None.
        """
        samples, labels = tf.cast(tf.gather(x, picked), tf.float32) * scale, tf.gather(y, picked)
        count = tf.shape(labels)[0] if count is None else count
        with tf.GradientTape() as tape:
            outputs = self._model(samples, training=True)
            loss = self._loss(labels, outputs, sample_weight=weight) / tf.cast(count, tf.float32)
        # An embedding's gradient is rows and their numbers; optimizers and reproducible sums want it whole.
        found = tape.gradient(loss, self._weights)
        return loss, [tf.convert_to_tensor(gradient) for gradient in found]


class LocalTraining:
    """The local steps of one classifier with one kind of optimizer (McMahan et al. 2017, ClientUpdate).

    Args:
        classifier: to train.
        optimizer: of the steps.
        prox: μ of FedProx (Li et al. 2020); 0 for none. The losses that are reported are without its term.
        gradients: of one step; the classifier's own when None.
    """

    def __init__(
        self,
        classifier: Classifier,
        optimizer: Optimizer,
        prox: float = 0.0,
        gradients: Gradients | None = None,
    ) -> None:
        self._classifier = classifier
        self._gradients = gradients or classifier.gradients
        self._optimizer = optimizers.client(optimizer)
        first = optimizers.initial_state(self._optimizer, list(classifier.spec.weight_shapes))
        self._state = tf.nest.map_structure(lambda leaf: tf.Variable(leaf, trainable=False), first)
        self._prox = prox
        variables = classifier.variables if prox else []
        self._begun = [tf.Variable(variable, trainable=False) for variable in variables]
        self._chunk = _compiled(self._train_chunk)

    def reset(self, optimizer: Optimizer) -> None:
        """Start the optimizer afresh, with this one's numbers, from the weights that the model has now."""
        shapes = list(self._classifier.spec.weight_shapes)
        first = optimizers.initial_state(optimizers.client(optimizer), shapes)
        tf.nest.map_structure(lambda variable, leaf: variable.assign(leaf), self._state, first)
        if self._prox:
            for begun, variable in zip(self._begun, self._classifier.variables, strict=True):
                begun.assign(variable)

    def resume(self, state: bytes) -> None:
        """Go on from what `state` returned. Raises FormatError when that is another optimizer's."""
        found = optimizers.unpack_state(self._state, state)
        tf.nest.map_structure(lambda variable, leaf: variable.assign(leaf), self._state, found)

    def state(self) -> bytes:
        """The optimizer's state after the steps so far."""
        return optimizers.pack_state(self._state)

    def run(
        self, shard: Shard, orders: Sequence[Any], batch: int, watch: Watch, span: range | None = None
    ) -> int:
        """Visit the samples in each epoch's order, a partial last batch included; the number of steps taken.

        Args:
            shard: holds the samples.
            orders: numbers of samples, one array for each epoch, all of one length.
            batch: samples a step.
            watch: told the progress.
            span: which steps of all that are; everything when None.
        """
        x, y, scale = _on_device(shard)
        per_epoch = _steps(len(orders[0]), batch)
        span = span or range(per_epoch * len(orders))
        for epoch, order in enumerate(orders):
            rows = tf.constant(order, tf.int64)
            first = max(span.start - epoch * per_epoch, 0)
            last = min(span.stop - epoch * per_epoch, per_epoch)

            def run(begin: int, end: int, rows: tf.Tensor = rows, first: int = first) -> float:
                loss = self._chunk(x, y, scale, rows, _int(first + begin), _int(first + end), _int(batch))
                return float(loss) / (end - begin)

            def tell(done: int, _: int, loss: float, at: int = epoch * per_epoch + first) -> None:
                watch(at + done - span.start, len(span), loss)

            _in_chunks(last - first, run, tell)
        return len(span)

    def _train_chunk(
        self,
        x: tf.Tensor,
        y: tf.Tensor,
        scale: tf.Tensor,
        rows: tf.Tensor,
        begin: tf.Tensor,
        end: tf.Tensor,
        batch: tf.Tensor,
    ) -> tf.Tensor:
        def one(step: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return step + 1, total + self._step(x, y, scale, rows[step * batch : (step + 1) * batch])

        _, total = _repeat(one, begin, end, tf.constant(0.0))
        return total

    def _step(self, x: tf.Tensor, y: tf.Tensor, scale: tf.Tensor, picked: tf.Tensor) -> tf.Tensor:
        variables = self._classifier.variables
        loss, gradients = self._gradients(x, y, scale, picked)
        if self._prox:
            gradients = [
                gradient + self._prox * (variable - begun)
                for gradient, variable, begun in zip(gradients, variables, self._begun, strict=True)
            ]
        state = tf.nest.map_structure(lambda variable: variable.read_value(), self._state)
        weights = [variable.read_value() for variable in variables]
        state, weights = self._optimizer.next(state, weights, gradients)
        tf.nest.map_structure(lambda variable, leaf: variable.assign(leaf), self._state, state)
        for variable, weight in zip(variables, weights, strict=True):
            variable.assign(weight)
        return loss


def _in_chunks(total: int, run: Callable[[int, int], float], watch: Watch) -> None:
    done, size = 0, 1
    while done < total:
        begin = time.monotonic()
        end = min(done + size, total)
        loss = run(done, end)
        done = end
        watch(done, total, loss)
        fast = time.monotonic() - begin < CHUNK_SECONDS / 2
        size = min(2 * size, MAX_CHUNK) if fast else max(1, size // 2)


def _compiled(chunk: Callable[..., Any]) -> Any:
    """A chunk as one graph. Without AutoGraph, whose generated sources stay in the temporary folder when the
    process is killed, which is how a worker ends.
    """
    return tf.function(chunk, reduce_retracing=True, autograph=False)


def _repeat(
    one: Callable[..., tuple[tf.Tensor, ...]], begin: tf.Tensor, end: tf.Tensor, *sums: tf.Tensor
) -> Any:
    """`one(step, *sums)` for each step from `begin` up to `end`, one after the other."""
    return tf.while_loop(lambda step, *_: step < end, one, (begin, *sums), parallel_iterations=1)


def _on_device(shard: Shard) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    return tf.constant(shard.x), tf.constant(shard.y), tf.constant(shard.scale, tf.float32)


def _steps(samples: int, batch: int) -> int:
    return -(-samples // batch)


def _int(value: int) -> tf.Tensor:
    return tf.constant(value, tf.int64)
