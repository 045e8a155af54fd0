"""Federated averaging by TensorFlow Federated's own simulation, as the reference of `test_tff_parity.py`.

Run as `python tff_reference.py IN.npz OUT.npz`, in a process of its own: the tests' stays without TensorFlow.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from p2pml.worker.quiet import silence

silence()

import tensorflow as tf  # noqa: E402
import tensorflow_federated as tff  # noqa: E402

BATCH, EPOCHS, ROUNDS, SEED = 10, 2, 3, 11


def client_data(x: np.ndarray, y: np.ndarray, round_number: int, client: int) -> tf.data.Dataset:
    """All batches of all epochs of one client in one round, in the order that the worker promises."""

    epochs = None
    for epoch in range(EPOCHS):
        order = np.random.Generator(np.random.PCG64([SEED, round_number, client, epoch])).permutation(len(y))
        samples = x[order].astype(np.float32) * np.float32(1 / 16)
        batches = tf.data.Dataset.from_tensor_slices((samples, y[order])).batch(BATCH)
        epochs = batches if epochs is None else epochs.concatenate(batches)
    return epochs


def signature(x: np.ndarray) -> tuple[tf.TensorSpec, tf.TensorSpec]:
    return tf.TensorSpec([None, *x.shape[1:]], tf.float32), tf.TensorSpec([None], tf.int64)


def main(source: str, target: str) -> None:
    given: Any = np.load(source)
    shape = given["x0"].shape[1:]
    clients = sum(name.startswith("x") for name in given.files)
    optimizers = {
        "sgd": tff.learning.optimizers.build_sgdm(0.1),
        "adam": tff.learning.optimizers.build_adam(0.01),
    }

    def model_fn() -> Any:
        layers = tf.keras.layers
        keras = tf.keras.Sequential(
            [layers.InputLayer(shape), layers.Flatten(), layers.Dense(16, "relu"), layers.Dense(10)]
        )
        loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return tff.learning.models.from_keras_model(keras, loss=loss, input_spec=signature(given["x0"]))

    process = tff.learning.algorithms.build_weighted_fed_avg(
        model_fn, optimizers[str(given["optimizer"])], tff.learning.optimizers.build_sgdm(1.0)
    )
    first = [given[f"w{i}"] for i in range(4)]
    state = process.set_model_weights(process.initialize(), tff.learning.models.ModelWeights(first, []))
    for number in range(ROUNDS):
        data = [client_data(given[f"x{c}"], given[f"y{c}"], number, c) for c in range(clients)]
        state = process.next(state, data).state
    last = process.get_model_weights(state).trainable
    np.savez(target, **{f"w{i}": np.asarray(array) for i, array in enumerate(last)})


if __name__ == "__main__":
    main(*sys.argv[1:])
