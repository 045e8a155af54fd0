"""What a fifth of lying clients does to a job, by rule of aggregation: the accuracy after some rounds.

    python -m tests.bench.robust                  # digits, 3 seeds, about 5 minutes on one core
    python -m tests.bench.robust --mnist FILE     # MNIST's npz
    python -m tests.bench.robust --smoke

A liar sends its honest update times −`--flip`: with 1 the sign alone is turned. Training and the server's
step are the worker's own engine in this process, updates are spooled and aggregated as a requester does it;
only the network is left out. Prints JSON: for each rule the accuracy of every seed, without liars and with.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from p2pml.formats import shards, tensors, uploads
from p2pml.formats.initial import initial_weights
from p2pml.formats.optimizers import Optimizer
from p2pml.training import dataset, models, rules
from p2pml.training.aggregate import aggregate
from p2pml.training.partition import partition
from p2pml.training.rules import Rule
from p2pml.worker.engine import TensorFlowEngine
from p2pml.worker.link import Control
from p2pml.worker.protocol import Evaluate, Evaluated, ServerStep, Stepped, Train, Trained

RULES: dict[str, Rule] = {
    "mean": rules.mean,
    "median": rules.median,
    "trimmed_mean": rules.trimmed_mean(0.2),
}


@dataclass(frozen=True)
class Setting:
    """Of one run, except for its rule, seed and liars."""

    data: Path
    clients: int
    rounds: int
    epochs: int = 1


class Runs:
    """Jobs in this process.

    Args:
        folder: for shards and updates.
    """

    def __init__(self, setting: Setting, folder: Path) -> None:
        self._setting = setting
        self._folder = folder
        self._engine = TensorFlowEngine()
        self._control = Control(lambda progress: None)
        whole = dataset.load(setting.data)
        self._train, evaluation = dataset.hold_out(whole, 0.1, 1)
        self._spec = models.build("mlp", {"hidden": [64]}, whole.sample_shape, whole.classes)
        self._evaluation = folder / "evaluation"
        shards.write(self._evaluation, evaluation)

    def accuracy(self, rule: Rule, seed: int, liars: int, flip: float) -> float:
        """Accuracy at the end of one job whose last `liars` clients send theirs times −`flip`."""
        parts = partition("iid", self._train.y, self._setting.clients, seed)
        for client, rows in enumerate(parts):
            shards.write(self._shard(client), self._train.take(rows))
        weights, state = tensors.encode(initial_weights(self._spec, seed)), b""
        first_liar = self._setting.clients - liars
        for number in range(self._setting.rounds):
            updates = [
                self._update(weights, seed, number, client, -flip if client >= first_liar else 1.0)
                for client in range(self._setting.clients)
            ]
            delta = aggregate(updates, "float32", self._spec.weight_shapes, rule)
            if not all(np.isfinite(array).all() for array in delta):
                break
            step = ServerStep(Optimizer("sgd", 1.0), weights, tensors.encode(delta), state)
            stepped = self._call(step)
            assert isinstance(stepped, Stepped)
            weights, state = stepped.weights, stepped.state
        found = self._call(Evaluate(self._spec.to_json(), weights, str(self._evaluation)))
        assert isinstance(found, Evaluated)
        return found.accuracy

    def _update(self, weights: bytes, seed: int, number: int, client: int, factor: float) -> tuple[Path, int]:
        setting = self._setting
        model, shard, optimizer = self._spec.to_json(), str(self._shard(client)), Optimizer("sgd", 0.1)
        trained = self._call(
            Train(model, weights, shard, optimizer, 20, setting.epochs, seed, number, client)
        )
        assert isinstance(trained, Trained)
        arrays = [np.float32(factor) * array for array in tensors.decode(trained.update)]
        path = self._folder / f"{client}.update"
        path.write_bytes(uploads.encode(arrays, "float32"))
        return path, trained.samples * setting.epochs

    def _call(self, request: Any) -> Any:
        return self._engine.carry_out(request, self._control)

    def _shard(self, client: int) -> Path:
        return self._folder / f"client-{client}"


def study(
    setting: Setting, seeds: Sequence[int], flips: Sequence[float], folder: Path
) -> dict[str, dict[str, Any]]:
    """Every rule without liars, and with a fifth of them."""
    runs, liars = Runs(setting, folder), setting.clients // 5
    cases = [("all honest", 0, 0.0), *((f"times -{flip:g}", liars, flip) for flip in flips)]
    found: dict[str, dict[str, Any]] = {}
    for name, rule in RULES.items():
        for label, count, flip in cases:
            values = [round(runs.accuracy(rule, seed, count, flip), 4) for seed in seeds]
            found.setdefault(name, {})[label] = {"mean": round(statistics.mean(values), 4), "seeds": values}
            print(f"{name}, {label}: {values}", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mnist", type=Path, help="npz; the bundled digits without it")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--flip", type=float, nargs="+", default=[1.0, 5.0])
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    if given.smoke:
        given.clients, given.rounds, given.seeds, given.flip = 5, 2, 1, [5.0]
    data = given.mnist or dataset.digits_path()
    found: dict[str, Any] = {
        "cpus": os.cpu_count(), "data": data.name, "clients": given.clients, "liars": given.clients // 5,
        "rounds": given.rounds,
    }  # fmt: skip
    with TemporaryDirectory() as folder:
        setting, seeds = Setting(data, given.clients, given.rounds), range(1, given.seeds + 1)
        found["accuracy"] = study(setting, seeds, given.flip, Path(folder))
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
