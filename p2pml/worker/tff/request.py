"""What TensorFlow Federated's process is asked for: one JSON line each way, and files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from p2pml.formats.aggregation import Aggregation
from p2pml.formats.optimizers import Optimizer
from p2pml.formats.tensors import Shape


@dataclass(frozen=True, slots=True)
class TffRequest:
    """Make one update of many.

    Args:
        aggregation: of a rule of `p2pml.formats.aggregation.TFF`.
        updates: file and weight of each, in client order.
        upload: kind of the files (`p2pml.formats.uploads`).
        shapes: of the model's weights.
        rounds: of the job so far, this one counted; ε is told for all of them.
        result: where the update is written (`p2pml.formats.tensors`).
    """

    aggregation: Aggregation
    updates: Sequence[tuple[Path, int]]
    upload: str
    shapes: Sequence[Shape]
    rounds: int
    result: Path

    def to_line(self) -> str:
        """As one line."""
        updates = [[str(path), weight] for path, weight in self.updates]
        fields = (
            asdict(self.aggregation), updates, self.upload, [list(shape) for shape in self.shapes],
            self.rounds, str(self.result),
        )  # fmt: skip
        return json.dumps(["aggregate", *fields]) + "\n"

    @classmethod
    def from_fields(cls, fields: Sequence[Any]) -> TffRequest:
        """What `to_line` wrote, without its first word."""
        aggregation, updates, upload, shapes, rounds, result = fields
        return cls(
            Aggregation(**aggregation), [(Path(path), weight) for path, weight in updates], upload,
            [tuple(shape) for shape in shapes], rounds, Path(result),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class RoundRequest:
    """Have one round of federated averaging simulated: the clients' training, the mean, the server's step.

    The clients visit their samples in the order that `p2pml.worker.protocol.Train` promises.

    Args:
        model: Keras JSON.
        optimizer: of the clients, of `optimizers.CLIENT`.
        server: optimizer of the server's step, of `optimizers.SERVER`.
        aggregation: `mean`, or another rule of TensorFlow Federated's that is weighted.
        batch, epochs, one_batch: as in `Train`.
        seed: of the job.
        number: of the round, from 0.
        clients: number and shard file of each that takes part, in client order.
        start: the round's global weights (`p2pml.formats.tensors`); `state_file(start)` is there after the
            first round.
        result: where the next weights are written, and the server optimizer's state to its `state_file`.
    """

    model: str
    optimizer: Optimizer
    server: Optimizer
    aggregation: Aggregation
    batch: int
    epochs: int
    one_batch: bool
    seed: int
    number: int
    clients: Sequence[tuple[int, Path]]
    start: Path
    result: Path

    def to_line(self) -> str:
        """As one line."""
        return json.dumps(["round", asdict(self)], default=str) + "\n"

    @classmethod
    def from_fields(cls, fields: Sequence[Any]) -> RoundRequest:
        """What `to_line` wrote, without its first word."""
        (given,) = fields
        for name in ("optimizer", "server"):
            given[name] = Optimizer(**given[name])
        given["aggregation"] = Aggregation(**given["aggregation"])
        given["clients"] = [(client, Path(path)) for client, path in given["clients"]]
        return cls(**{**given, "start": Path(given["start"]), "result": Path(given["result"])})


def state_file(weights: Path) -> Path:
    """Where the server optimizer's state lies that belongs to a simulation's weights."""
    return weights.with_suffix(".state")


def decode(line: str) -> TffRequest | RoundRequest:
    """The request that a line is."""
    kind, *fields = json.loads(line)
    return TffRequest.from_fields(fields) if kind == "aggregate" else RoundRequest.from_fields(fields)


@dataclass(frozen=True, slots=True)
class TffResult:
    """Args:
    epsilon: of the rounds so far, for rule `dp`.
    error: why there is no result, in one line; empty when there is one.
    ended: whether the process ends with this error, and another one may do better.
    """

    epsilon: float | None = None
    error: str = ""
    ended: bool = False

    def to_line(self) -> str:
        """As one line."""
        return json.dumps([self.epsilon, self.error, self.ended]) + "\n"

    @classmethod
    def from_line(cls, line: str) -> TffResult:
        """What `to_line` wrote."""
        return cls(*json.loads(line))
