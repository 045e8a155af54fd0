"""From a round's updates to the next global model, and how good it is: the requester's own worker at work."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import trio

from p2pml.errors import ExitCode, UserError
from p2pml.formats import FormatError, keras_json, tensors
from p2pml.formats.aggregation import Aggregation
from p2pml.formats.optimizers import Optimizer
from p2pml.node.job_session import GlobalModel
from p2pml.node.job_store import Receipted
from p2pml.node.ports import TffPort, WorkerPort
from p2pml.training import rules
from p2pml.training.aggregate import aggregate
from p2pml.training.rules import Rule
from p2pml.worker.protocol import Evaluate, Message, Request, ServerStep
from p2pml.worker.session import WorkerDied, WorkerError
from p2pml.worker.tff.request import TffRequest

log = logging.getLogger(__name__)
R = TypeVar("R", bound=Message)
T = TypeVar("T")

MAX_DEATHS = 3
"""How often the worker may die at one piece of work before the job fails."""


@dataclass(frozen=True, slots=True)
class Aggregator:
    """Aggregates and evaluates for one job.

    Args:
        worker: of this node.
        optimizer: of the server step.
        model: Keras JSON.
        evaluation: the shard file to evaluate on.
        aggregation: how updates become one.
        upload: kind of the updates' files.
        tff: carries out TensorFlow Federated's rules.
        note: tells people what a round has cost in privacy.
    """

    worker: WorkerPort
    optimizer: Optimizer
    model: str
    evaluation: Path
    aggregation: Aggregation
    upload: str
    tff: TffPort
    note: Callable[[str], None]

    async def step(
        self, number: int, chosen: Sequence[Receipted], model: GlobalModel, state: bytes
    ) -> tuple[bytes, bytes]:
        """The next global weights and optimizer state, from the updates of round `number` in client order.

        Raises:
            UserError: (code 6) the worker failed, or the model diverged.
        """
        updates = [(item.path, item.samples) for item in chosen]
        shapes = keras_json.parse(self.model).weight_shapes
        if self.aggregation.by_tff:
            delta = await self._by_tff(number, updates, shapes)
        else:
            rule = _rule(self.aggregation)
            found = await trio.to_thread.run_sync(aggregate, updates, self.upload, shapes, rule)
            delta = await trio.to_thread.run_sync(tensors.encode, found)
            del found  # a whole model
        result = await self._call(ServerStep(self.optimizer, model.weights, delta, state))
        try:
            tensors.decode(result.weights)
        except FormatError as error:
            raise _failed(f"the global model diverged: {error}", "lower the learning rate") from error
        return result.weights, result.state

    async def evaluate(self, weights: bytes) -> tuple[float, float]:
        """Loss (nats) and accuracy (0 to 1) of a global model.

        Raises:
            UserError: (code 6) the worker failed, or the loss is not finite.
        """
        result = await self._call(Evaluate(self.model, weights, str(self.evaluation)))
        if not math.isfinite(result.loss):
            raise _failed("the global model diverged: its loss is not finite", "lower the learning rate")
        return result.loss, result.accuracy

    async def close(self) -> None:
        """End what runs for this job alone."""
        await self.tff.close()

    async def _by_tff(
        self, number: int, updates: list[tuple[Path, int]], shapes: Sequence[tuple[int, ...]]
    ) -> bytes:
        result = updates[0][0].with_name("aggregate")
        request = TffRequest(self.aggregation, updates, self.upload, shapes, number + 1, result)
        answer = await self._patiently(lambda: self.tff.aggregate(request))
        if answer.epsilon is not None:
            self.note(
                f"round {number + 1}: so far differentially private with ε = {answer.epsilon:.3g} at "
                f"δ = {self.aggregation.delta:g}, for all that one client has"
            )
        return await trio.to_thread.run_sync(result.read_bytes)

    async def _call(self, request: Request[R]) -> R:
        return await self._patiently(lambda: self.worker.call(request))

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """A call to a process; one death of it is not yet the job's."""
        deaths = 0
        while True:
            try:
                return await call()
            except WorkerDied as error:
                log.warning("the worker died at work for a job: %s", error)
                deaths += 1
                if deaths == MAX_DEATHS:
                    raise _failed(f"this node's worker died {deaths} times: {error}") from error
            except WorkerError as error:
                raise _failed(f"this node's worker failed: {error}") from error


def _rule(aggregation: Aggregation) -> Rule:
    match aggregation.rule:
        case "mean":
            return rules.mean
        case "median":
            return rules.median
        case "trimmed_mean":
            return rules.trimmed_mean(aggregation.trim)
    raise ValueError(f"{aggregation.rule} is not carried out here")


def _failed(cause: str, fix: str = "see logs/worker.log") -> UserError:
    return UserError(cause, fix, ExitCode.NO_WORKER)
