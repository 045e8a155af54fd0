"""Carry out a comparison: a worker and a TensorFlow Federated process of its own, one arm after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import trio

from p2pml.compare.arms import Again, Arm, Row
from p2pml.compare.job import FinishedJob
from p2pml.compare.material import derive
from p2pml.errors import ExitCode, UserError
from p2pml.formats import tensors
from p2pml.worker.process import WorkerSupervisor
from p2pml.worker.session import WorkerError
from p2pml.worker.tff.process import TffProcess

PARITY = 1e-5
"""No weight of a networked job and of its simulation differs by more, where `exceptions` names nothing."""


@dataclass(frozen=True, slots=True)
class Distance:
    """Between an arm's last weights and the job's.

    Args:
        largest: difference of one weight.
        norm: of all differences (L2).
        share: `norm` over the norm of what the job's training changed.
    """

    largest: float
    norm: float
    share: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """A job and its arms.

    Args:
        arms: that were carried out, in order.
        distances: of each arm but the job itself, by name.
        left_out: why an arm could not be, by name.
    """

    job: FinishedJob
    arms: tuple[Arm, ...]
    distances: dict[str, Distance]
    left_out: dict[str, str]


def exceptions(job: FinishedJob) -> list[str]:
    """Why the simulation need not end with the job's weights; empty where it must, within `PARITY`."""
    spec, found = job.spec, []
    if job.model.random:
        found.append("dropout draws other numbers in the simulation")
    if spec.transport.upload != "float32":
        found.append(f"the simulation uploads float32, the job {spec.transport.upload}")
    if spec.aggregate.rule != "mean":
        found.append(f"rule {spec.aggregate.rule} cuts or rounds, where a hair's breadth may be a step")
    return found


def unsimulated(job: FinishedJob) -> str:
    """Why TensorFlow Federated's simulation has no counterpart of this job; empty where it has."""
    rule, trainer = job.spec.aggregate.rule, job.spec.train.trainer
    if trainer:
        return f"TensorFlow Federated does not have the job's trainer {trainer}"
    if rule in ("median", "trimmed_mean"):
        return f"TensorFlow Federated has no rule {rule}"
    if job.spec.train.prox:
        return "FedProx's term has the opposite sign in TensorFlow Federated 0.87: it drives clients apart"
    return "differential privacy draws noise of its own" if rule == "dp" else ""


async def compare(
    job: FinishedJob, data: Path, names: Sequence[str], log: Path, tell: Callable[[str, Row], None]
) -> Comparison:
    """Train a job again in each of these ways.

    Args:
        job: that is over.
        data: its data set.
        names: of `p2pml.compare.arms.ARMS`.
        log: for what worker and TensorFlow Federated print.
        tell: told each row as it is there, with its arm's name.

    Raises:
        UserError: (code 7) the data is not the job's; (code 6) an arm failed.
        OSError: no room for the shards.
    """
    with TemporaryDirectory(prefix="p2pml-compare-") as scratch:
        folder, tff, worker = Path(scratch), TffProcess(log), WorkerSupervisor(log)
        material = await trio.to_thread.run_sync(derive, job, data, folder)
        left_out = await _left_out(job, names, tff)
        again = Again(job, material, worker, tff, folder, tell)
        chosen = [name for name in names if name not in left_out]
        arms = await carried_out(again, chosen)
    if isinstance(arms, OSError):
        raise arms
    if isinstance(arms, WorkerError):
        raise UserError(f"the comparison failed: {arms.reason}", f"see {log}", ExitCode.JOB_FAILED) from arms
    distances = {arm.name: distance(job, arm.weights) for arm in arms if arm.name != "network"}
    return Comparison(job, tuple(arms), distances, left_out)


def distance(job: FinishedJob, weights: bytes) -> Distance:
    """How far weights are from those that the job ended with."""
    first, last, other = (tensors.decode(each) for each in (job.first, job.last, weights))
    apart = [a - b for a, b in zip(last, other, strict=True)]
    moved = tensors.norm([a - b for a, b in zip(last, first, strict=True)])
    norm = tensors.norm(apart)
    return Distance(max(float(np.abs(each).max(initial=0)) for each in apart), norm, norm / moved)


async def _left_out(job: FinishedJob, names: Sequence[str], tff: TffProcess) -> dict[str, str]:
    reason = (unsimulated(job) or await tff.refusal()) if "simulation" in names else ""
    return {"simulation": reason} if reason else {}


async def carried_out(again: Again, names: Sequence[str]) -> list[Arm] | WorkerError | OSError:
    """Every arm; an error comes as a value, or the nursery would wrap it in a group."""
    arms: list[Arm] = []
    failure: WorkerError | OSError | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(again.worker.run)
        try:
            for name in names:
                arms.append(await again.arm(name))
        except (WorkerError, OSError) as error:
            failure = error
        finally:
            await again.tff.close()
        nursery.cancel_scope.cancel()
    return failure or arms
