"""What a node asks its process for TensorFlow Federated: one JSON line each way, and files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from p2pml.formats.aggregation import Aggregation
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
        return json.dumps(fields) + "\n"

    @classmethod
    def from_line(cls, line: str) -> TffRequest:
        """What `to_line` wrote."""
        aggregation, updates, upload, shapes, rounds, result = json.loads(line)
        return cls(
            Aggregation(**aggregation), [(Path(path), weight) for path, weight in updates], upload,
            [tuple(shape) for shape in shapes], rounds, Path(result),
        )  # fmt: skip


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
