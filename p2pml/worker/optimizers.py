"""TensorFlow Federated's optimizers by the names that jobs use, and their state as bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from safetensors import SafetensorError
from safetensors.numpy import load, save

from p2pml.formats import FormatError, tensors
from p2pml.formats.optimizers import CLIENT, SERVER, Optimizer

_BUILDERS = {
    "sgd": tff.learning.optimizers.build_sgdm,
    "sgdm": tff.learning.optimizers.build_sgdm,
    "adam": tff.learning.optimizers.build_adam,
    "yogi": tff.learning.optimizers.build_yogi,
    "adagrad": tff.learning.optimizers.build_adagrad,
    "adamw": tff.learning.optimizers.build_adamw,
}
_CLIENT_DEFAULTS: dict[str, dict[str, float]] = {"sgdm": {"momentum": 0.9}}
_SERVER_DEFAULTS: dict[str, dict[str, float]] = {"sgdm": {"momentum": 0.9}, "adam": {"epsilon": 1e-3}}


def client(optimizer: Optimizer) -> Any:
    """The `tff.learning.optimizers.Optimizer` of local training.

    Raises:
        SpecError: not one of `CLIENT`.
    """
    optimizer.check(CLIENT)
    args = {**_CLIENT_DEFAULTS.get(optimizer.name, {}), **optimizer.args}
    return _BUILDERS[optimizer.name](optimizer.lr, **args)


def server(optimizer: Optimizer) -> Any:
    """The `tff.learning.optimizers.Optimizer` of the server step.

    Raises:
        SpecError: not one of `SERVER`.
    """
    optimizer.check(SERVER)
    args = {**_SERVER_DEFAULTS.get(optimizer.name, {}), **optimizer.args}
    return _BUILDERS[optimizer.name](optimizer.lr, **args)


def initial_state(optimizer: Any, shapes: list[tuple[int, ...]]) -> Any:
    """The state before the first step, every number in it a tensor."""
    specs = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    return tf.nest.map_structure(_as_tensor, optimizer.initialize(specs))


def server_step(optimizer: Optimizer, weights: bytes, mean_delta: bytes, state: bytes) -> tuple[bytes, bytes]:
    """One eager step with the pseudo-gradient −`mean_delta`.

    Args:
        optimizer: of `SERVER`.
        weights, mean_delta: `p2pml.formats.tensors`, of the same shapes.
        state: what the step before returned; empty at the first.

    Returns:
        the next weights and state.

    Raises:
        FormatError: the parts do not fit each other, or the step left a value that is not finite.
    """
    built = server(optimizer)
    now = tensors.decode(weights)
    delta = tensors.decode(mean_delta, [array.shape for array in now])
    before = initial_state(built, [array.shape for array in now])
    if state:
        before = unpack_state(before, state)
    after, moved = built.next(
        before, [tf.constant(array) for array in now], [tf.constant(-array) for array in delta]
    )
    result = [value.numpy() for value in moved]
    tensors.check(result)
    return tensors.encode(result), pack_state(after)


def pack_state(state: Any) -> bytes:
    """An optimizer's state as safetensors: its leaves `s0000`, … in `tf.nest` order."""
    leaves = [np.asarray(leaf) for leaf in tf.nest.flatten(state)]
    return save({f"s{i:04d}": np.asarray(leaf, order="C") for i, leaf in enumerate(leaves)})


def unpack_state(like: Any, data: bytes) -> Any:
    """The state that `pack_state` wrote, in the structure of `like`.

    Raises:
        FormatError: the state is another optimizer's or another model's.
    """
    expected = tf.nest.flatten(like)
    try:
        named = load(data)
        leaves = [named[f"s{i:04d}"] for i in range(len(expected))]
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"not a state of this optimizer: {error}") from error
    for leaf, wanted in zip(leaves, expected, strict=True):
        if leaf.shape != tuple(wanted.shape) or leaf.dtype != wanted.dtype.as_numpy_dtype:
            raise FormatError("the optimizer's state does not fit the model")
    return tf.nest.pack_sequence_as(like, [tf.constant(leaf) for leaf in leaves])


def _as_tensor(leaf: Any) -> tf.Tensor:
    return tf.constant(leaf, tf.float32) if isinstance(leaf, float) else tf.convert_to_tensor(leaf)
