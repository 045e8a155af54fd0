"""Federated averaging by TensorFlow Federated's own simulation, with which networked jobs are compared.
TensorFlow is imported here.

A round is a function of its request alone, as in the network: the clients' order comes from PCG64, their
optimizers start afresh, and the server optimizer's state lies in a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from p2pml.formats import keras_json, shards, tensors
from p2pml.formats.keras_json import ModelSpec
from p2pml.formats.shards import Shard
from p2pml.worker import orders, quiet
from p2pml.worker.tff.request import RoundRequest, TffResult, state_file

quiet.silence()

import tensorflow as tf  # noqa: E402
import tensorflow_federated as tff  # noqa: E402

from p2pml.worker import optimizers  # noqa: E402
from p2pml.worker.classifier import Classifier  # noqa: E402
from p2pml.worker.tff.factories import factory_of  # noqa: E402


class Simulation:
    """Carries out rounds, one at a time; keeps what TFF compiled for the last one."""

    def __init__(self) -> None:
        self._key: object = None
        self._process: Any = None

    def carry_out(self, request: RoundRequest) -> TffResult:
        """One round; the next weights and the server optimizer's state are in the request's files.

        Raises:
            FormatError: the request is to blame, or the result is not finite.
            OSError: a file cannot be read or written.
        """
        spec = keras_json.parse(request.model)
        weights = tensors.decode(request.start.read_bytes(), spec.weight_shapes)
        self._compile(request, spec)
        places = _keras_places(spec)
        state = self._process.initialize()
        if state_file(request.start).exists():
            state = _with_optimizer(state, state_file(request.start).read_bytes())
        first = tff.learning.models.ModelWeights(_arranged(weights, places), [])
        state = self._process.set_model_weights(state, first)
        data = [_samples(request, client, path) for client, path in request.clients]
        state = self._process.next(state, data).state
        found = self._process.get_model_weights(state).trainable
        result = [np.asarray(found[place], np.float32) for place in places]
        tensors.check(result, spec.weight_shapes)
        state_file(request.result).write_bytes(optimizers.pack_state(state.finalizer))
        request.result.write_bytes(tensors.encode(result))
        return TffResult()

    def _compile(self, request: RoundRequest, spec: ModelSpec) -> None:
        count = len(request.clients)
        parts = (request.optimizer, request.server, request.aggregation)
        key = (spec.to_json(), repr(parts), count)
        if key != self._key:
            self._process, self._key = _process(request, spec), key


def _process(request: RoundRequest, spec: ModelSpec) -> Any:
    signature = (
        tf.TensorSpec([None, *spec.input_shape], tf.float32),
        tf.TensorSpec([None], tf.int64),
    )

    def model_fn() -> Any:
        loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=spec.from_logits)
        return tff.learning.models.from_keras_model(Classifier(spec).model, loss=loss, input_spec=signature)

    parts = {
        "model_fn": model_fn,
        "client_optimizer_fn": optimizers.client(request.optimizer),
        "server_optimizer_fn": optimizers.server(request.server),
        "model_aggregator": factory_of(request.aggregation, len(request.clients)),
    }
    return tff.learning.algorithms.build_weighted_fed_avg(**parts)


def _keras_places(spec: ModelSpec) -> list[int]:
    """Where each weight of the description stands among the Keras model's own."""
    classifier = Classifier(spec)
    numbers = {id(variable): place for place, variable in enumerate(classifier.model.trainable_variables)}
    return [numbers[id(variable)] for variable in classifier.variables]


def _arranged(weights: Sequence[Any], places: Sequence[int]) -> list[Any]:
    """The weights in the Keras model's order."""
    return [weights[places.index(place)] for place in range(len(places))]


def _with_optimizer(state: Any, packed: bytes) -> Any:
    like = tf.nest.map_structure(tf.convert_to_tensor, state.finalizer)
    return state._replace(finalizer=optimizers.unpack_state(like, packed))


def _samples(request: RoundRequest, client: int, path: Path) -> Any:
    """What a client sees in the round: the batches of all epochs, as a `tf.data.Dataset`."""
    shard = shards.read(path)
    found: Any = None
    for epoch in range(request.epochs):
        order = orders.of_client((request.seed, request.number, client), epoch, len(shard))
        if request.one_batch:
            order = order[: request.batch]
        rows = tf.data.Dataset.from_tensor_slices(order).batch(request.batch)
        found = rows if found is None else found.concatenate(rows)
    return found.map(_picker(shard))


def _picker(shard: Shard) -> Any:
    """From the numbers of samples to what the model sees, as the worker's own loop makes it."""
    x, y, scale = tf.constant(shard.x), tf.constant(shard.y), tf.constant(shard.scale, tf.float32)
    return lambda rows: (tf.cast(tf.gather(x, rows), tf.float32) * scale, tf.gather(y, rows))
