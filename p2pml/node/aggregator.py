"""From a round's updates to the next global model, and how good it is: the requester's own worker at work."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import trio
from numpy.typing import NDArray

from p2pml.errors import ExitCode, UserError
from p2pml.formats import FormatError, tensors
from p2pml.formats.optimizers import Optimizer
from p2pml.node.job_session import GlobalModel
from p2pml.node.job_store import Receipted
from p2pml.node.ports import WorkerPort
from p2pml.training.aggregate import weighted_mean
from p2pml.worker.protocol import Evaluate, Message, Request, ServerStep
from p2pml.worker.session import WorkerDied, WorkerError

log = logging.getLogger(__name__)
R = TypeVar("R", bound=Message)

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
    """

    worker: WorkerPort
    optimizer: Optimizer
    model: str
    evaluation: Path

    async def step(
        self, chosen: Sequence[Receipted], model: GlobalModel, state: bytes
    ) -> tuple[bytes, bytes]:
        """The next global weights and optimizer state, from the mean of the updates in client order.

        Raises:
            UserError: (code 6) the worker failed, or the model diverged.
        """
        updates = [(item.path, item.samples) for item in chosen]
        mean = await trio.to_thread.run_sync(weighted_mean, updates, _load)
        result = await self._call(ServerStep(self.optimizer, model.weights, tensors.encode(mean), state))
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

    async def _call(self, request: Request[R]) -> R:
        """A call to the worker; one death of it is not yet the job's."""
        deaths = 0
        while True:
            try:
                return await self.worker.call(request)
            except WorkerDied as error:
                log.warning("the worker died at work for a job: %s", error)
                deaths += 1
                if deaths == MAX_DEATHS:
                    raise _failed(f"this node's worker died {deaths} times: {error}") from error
            except WorkerError as error:
                raise _failed(f"this node's worker failed: {error}") from error


def _load(path: Path) -> list[NDArray[np.float32]]:
    return tensors.decode(path.read_bytes())


def _failed(cause: str, fix: str = "see logs/worker.log") -> UserError:
    return UserError(cause, fix, ExitCode.JOB_FAILED)
