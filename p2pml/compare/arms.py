"""The ways in which a job's training is done again, each as rows by round.

* `network`: the job itself, from its journal.
* `simulation`: the same rounds by TensorFlow Federated on this machine.
* `steps`: all data in one place, for as many optimizer steps after each other as the job's models had behind
  them: those of a round's largest client.
* `epochs`: all data in one place, for as many samples as the job's clients trained on together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from p2pml.compare.job import FinishedJob
from p2pml.compare.material import Material
from p2pml.worker.process import WorkerSupervisor
from p2pml.worker.protocol import Evaluate, Span
from p2pml.worker.tff.process import TffProcess
from p2pml.worker.tff.request import RoundRequest, state_file

ARMS = ("network", "simulation", "steps", "epochs")
TITLES = {
    "network": "networked",
    "simulation": "simulated by TFF",
    "steps": "in one place, equal steps",
    "epochs": "in one place, equal samples",
}


@dataclass(frozen=True, slots=True)
class Row:
    """After a round; everything is counted from the start.

    Args:
        round: from 1.
        samples: seen, each counted in every epoch.
        steps: optimizer steps that followed each other.
        seconds: evaluations included.
        loss, accuracy: on the samples that the requester kept, nats and 0 to 1.
    """

    round: int
    samples: int
    steps: int
    seconds: float
    loss: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of training: its rows, and the weights at the end (`p2pml.formats.tensors`)."""

    name: str
    rows: tuple[Row, ...]
    weights: bytes


def networked(job: FinishedJob) -> Arm:
    """The job as it went."""
    seconds = accumulate(each.seconds for each in job.rounds)
    rows = [
        Row(number, samples, steps, taken, each.loss, each.accuracy)
        for number, (each, samples, steps, taken) in enumerate(
            zip(job.rounds, samples_after(job), steps_after(job), seconds, strict=True), 1
        )
    ]
    return Arm("network", tuple(rows), job.last)


def samples_after(job: FinishedJob) -> list[int]:
    """Samples that were trained on up to the end of each round."""
    return list(accumulate(each.samples for each in job.rounds))


def steps_after(job: FinishedJob) -> list[int]:
    """Steps that followed each other up to the end of each round."""
    return list(accumulate(each.steps for each in job.rounds))


def steps_for(samples: int, of: int, batch: int) -> int:
    """Steps in one place until so many samples of `of` have been seen; each epoch ends with its own batch."""
    epochs, rest = divmod(samples, of)
    return epochs * -(-of // batch) + -(-rest // batch)


def samples_of(steps: int, of: int, batch: int) -> int:
    """Samples seen in one place in so many steps."""
    epochs, rest = divmod(steps, -(-of // batch))
    return epochs * of + rest * batch


@dataclass(frozen=True, slots=True)
class Again:
    """Trains a job again.

    Args:
        job: the job.
        material: its data.
        worker: to train and evaluate with.
        tff: to simulate with.
        folder: for weights.
        tell: told each row as it is there, with its arm's name.
    """

    job: FinishedJob
    material: Material
    worker: WorkerSupervisor
    tff: TffProcess
    folder: Path
    tell: Callable[[str, Row], None]

    async def arm(self, name: str) -> Arm:
        """One of `ARMS`.

        Raises:
            WorkerError: the worker or TensorFlow Federated failed.
        """
        if name == "network":
            return networked(self.job)
        if name == "simulation":
            return await self._simulated()
        batch, total = self.job.spec.train.batch, self.material.samples
        if name == "steps":
            return await self._in_one_place(name, steps_after(self.job))
        return await self._in_one_place(
            name, [steps_for(samples, total, batch) for samples in samples_after(self.job)]
        )

    async def _simulated(self) -> Arm:
        rows: list[Row] = []
        self._weights(0).write_bytes(self.job.first)
        counted = zip(samples_after(self.job), steps_after(self.job), strict=True)
        for number, (samples, steps) in enumerate(counted):
            begun = time.monotonic()
            await self.tff.ask(self._round(number))
            weights = self._weights(number + 1).read_bytes()
            for old in (self._weights(number), state_file(self._weights(number))):
                old.unlink(missing_ok=True)  # no more than two: a model may be large, and the rounds many
            await self._keep("simulation", rows, (samples, steps), weights, begun)
        return Arm("simulation", tuple(rows), weights)

    async def _in_one_place(self, name: str, ends: Sequence[int]) -> Arm:
        """Train on everything, with a row at each of these numbers of steps."""
        rows: list[Row] = []
        train, weights, state, begin = self.job.spec.train, self.job.first, b"", 0
        for end in ends:
            begun = time.monotonic()
            done = await self.worker.call(
                Span(
                    self.job.model.to_json(), weights, state, str(self.material.whole),
                    train.client_optimizer(), train.batch, self.job.spec.seed, begin, end,
                )
            )  # fmt: skip
            weights, state, begin = done.weights, done.state, end
            seen = samples_of(end, self.material.samples, train.batch)
            await self._keep(name, rows, (seen, end), weights, begun)
        return Arm(name, tuple(rows), weights)

    async def _keep(
        self, name: str, rows: list[Row], seen: tuple[int, int], weights: bytes, begun: float
    ) -> None:
        """Evaluate, and add the row."""
        evaluation = str(self.material.evaluation)
        found = await self.worker.call(Evaluate(self.job.model.to_json(), weights, evaluation))
        before = rows[-1].seconds if rows else 0.0
        taken = before + time.monotonic() - begun
        rows.append(Row(len(rows) + 1, *seen, taken, found.loss, found.accuracy))
        self.tell(name, rows[-1])

    def _round(self, number: int) -> RoundRequest:
        spec = self.job.spec
        train, clients = spec.train, self.job.rounds[number].clients
        return RoundRequest(
            self.job.model.to_json(), train.client_optimizer(), spec.aggregate.server_optimizer.optimizer(),
            spec.aggregate.aggregation(), train.batch, train.epochs, train.algorithm == "sync_sgd",
            spec.seed, number,
            [(client, self.material.shards[client]) for client in clients],
            self._weights(number), self._weights(number + 1),
        )  # fmt: skip

    def _weights(self, number: int) -> Path:
        return self.folder / f"model-{number:05}.safetensors"
