"""Trainers that the operator of a machine has installed: Python packages with an entry point in the group
`p2pml.trainers`. A job may name one instead of the training that p2pml brings; a machine carries it out only
if its owner has allowed that name.

What the entry point names is called without arguments and gives a `Trainer`. It is code of the operator's
choice, with the rights of the worker: nothing of it comes from the network but its name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Protocol, cast

import numpy as np

from p2pml.formats import FormatError
from p2pml.formats.optimizers import Optimizer
from p2pml.formats.shards import Shard
from p2pml.formats.tensors import Array

GROUP = "p2pml.trainers"

Watch = Callable[[int, int, float], None]
"""Called with steps done, steps in all and the mean loss since the last call, at least once in ten seconds:
it reports progress, rests where the machine's owner wants it, and raises to end the work. Scalars of NumPy
and TensorFlow will do."""


@dataclass(frozen=True, slots=True)
class LocalTask:
    """One client's part of one round.

    Args:
        model: Keras JSON in its canonical text, on the allow-list.
        weights: float32, to start from, in the order of the model's description; may be written over.
        shard: the samples.
        optimizer, batch, epochs, prox: as the job says; a trainer that has no use for one may ignore it.
        seed, round, client: what is random should follow from these three, so that a round can be repeated.
    """

    model: str
    weights: Sequence[Array]
    shard: Shard
    optimizer: Optimizer
    batch: int
    epochs: int
    prox: float
    seed: int
    round: int
    client: int


class Trainer(Protocol):
    """Trains a model on one shard."""

    def train(self, task: LocalTask, watch: Watch) -> Sequence[Array]:
        """The trained weights, float32, in the shapes and the order of those given."""
        ...


def installed() -> frozenset[str]:
    """The names of the trainers on this machine; none of them is imported."""
    return frozenset(found.name for found in entry_points(group=GROUP))


def reason_against(name: str, allowed: Sequence[str]) -> str:
    """Why a trainer is not to be had here; empty when it is."""
    if name not in allowed:
        return f"the trainer {name!r} is not allowed here"
    return "" if name in installed() else f"the trainer {name!r} is not installed here"


def load(name: str, allowed: Sequence[str]) -> Trainer:
    """Import a trainer.

    Raises:
        FormatError: it is not allowed or not installed.
    """
    if reason := reason_against(name, allowed):
        raise FormatError(reason)
    (found, *_) = entry_points(group=GROUP, name=name)
    return cast(Trainer, found.load()())


def checked(trained: Sequence[Array], task: LocalTask) -> list[Array]:
    """What a trainer gave, as the weights of the task's model.

    Raises:
        FormatError: it has other shapes, or values that are not finite.
    """
    arrays = [np.asarray(array, np.float32) for array in trained]
    wanted = [array.shape for array in task.weights]
    if [array.shape for array in arrays] != wanted:
        raise FormatError(f"the trainer gave weights of {[array.shape for array in arrays]}, not {wanted}")
    if not all(np.isfinite(array).all() for array in arrays):
        raise FormatError("the trainer gave a weight that is not finite")
    return arrays
