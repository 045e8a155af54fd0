"""Which optimizers a job may name, with their arguments and bounds; the worker carries them out with
TensorFlow Federated's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from p2pml.formats import SpecError

CLIENT: Mapping[str, frozenset[str]] = {
    "sgd": frozenset(),
    "sgdm": frozenset({"momentum"}),
    "adam": frozenset({"beta_1", "beta_2", "epsilon"}),
}
"""Optimizers of a participant's local training, started afresh in every round, and the arguments they take
beside `lr`."""

SERVER: Mapping[str, frozenset[str]] = {
    "sgd": frozenset(),
    "sgdm": frozenset({"momentum"}),
    "adam": frozenset({"beta_1", "beta_2", "epsilon"}),
    "yogi": frozenset({"beta_1", "beta_2", "epsilon"}),
    "adagrad": frozenset({"epsilon"}),
    "adamw": frozenset({"beta_1", "beta_2", "epsilon", "weight_decay"}),
}
"""Optimizers of the requester's server step (Reddi et al., "Adaptive Federated Optimization", 2020), fed
−(mean delta)."""


@dataclass(frozen=True, slots=True)
class Optimizer:
    """An optimizer by name.

    Args:
        name: a key of `CLIENT` or `SERVER`.
        lr: learning rate, 0 < lr ≤ 1000.
        args: further arguments; what is left out has TensorFlow Federated's default, but sgdm's momentum is
            0.9 and the server's adam has the epsilon of 1e-3 that Reddi et al. recommend.
    """

    name: str
    lr: float
    args: Mapping[str, float] = field(default_factory=dict)

    def check(self, known: Mapping[str, frozenset[str]]) -> Optimizer:
        """Return itself if it is one of `known` with arguments in bounds.

        Raises:
            SpecError: naming what is wrong.
        """
        if self.name not in known:
            raise SpecError(f"unknown optimizer {self.name!r}; known: {', '.join(known)}")
        if not (math.isfinite(self.lr) and 0 < self.lr <= 1000):
            raise SpecError(f"lr is {self.lr}; it must be over 0 and at most 1000")
        for key, value in self.args.items():
            if key not in known[self.name]:
                takes = ", ".join(("lr", *sorted(known[self.name])))
                others = ", ".join(name for name, keys in known.items() if key in keys)
                hint = f", which belongs to {others}" if others else ""
                raise SpecError(f"optimizer {self.name!r} has no argument {key!r}{hint}; it takes {takes}")
            top = 1.0 if key == "epsilon" or key == "weight_decay" else 1 - 1e-9
            if not (math.isfinite(value) and 0 <= value <= top):
                raise SpecError(f"{self.name} {key} is {value}; it must be at least 0 and below 1")
        return self
