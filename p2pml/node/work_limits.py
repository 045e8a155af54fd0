"""How much of this node others' jobs may take: its operator's limits, not the requester's."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from chain.entries import Job
from p2pml.config import Config
from p2pml.formats import keras_json
from p2pml.node.terms import settle_interval
from p2pml.worker.plugins import reason_against

MIN_IDLE_S = 300.0
"""However short a job's rounds are, so long a trainer waits for a task: its peers may still be coming."""


@dataclass(frozen=True, slots=True)
class WorkLimits:
    """Limits of one node as a trainer.

    Args:
        model: how large a model may be.
        task_steps: most optimizer steps of one task.
        task_s: longest training of one task, seconds.
        idle_s: longest wait for a task, seconds.
        unsettled_rounds: how many rounds may go by before a job pays; more only where the fees of paying
            would otherwise take more than their share of the budget.
        trainers: names of the installed trainers (`p2pml.worker.plugins`) that a job may name.
        elsewhere: whether the worker is on another machine, which knows what is installed there.
    """

    model: keras_json.Limits = field(default_factory=keras_json.Limits)
    task_steps: int = 1_000_000
    task_s: float = 3600.0
    idle_s: float = 900.0
    unsettled_rounds: int = 1
    trainers: tuple[str, ...] = ()
    elsewhere: bool = False

    @classmethod
    def of(cls, config: Config) -> WorkLimits:
        """What the node's `config.toml` says."""
        return cls(
            task_steps=config.max_task_steps,
            task_s=60.0 * config.max_task_minutes,
            idle_s=60.0 * config.max_idle_minutes,
            unsettled_rounds=config.max_unsettled_rounds,
            trainers=config.worker_trainers,
            elsewhere=bool(config.worker),
        )

    def against(self, trainer: str) -> str:
        """Why a job that names this trainer is not for this node; empty when it is."""
        if not trainer or (self.elsewhere and trainer in self.trainers):
            return ""
        return reason_against(trainer, self.trainers)

    def patience(self, job: Job, slot: int, slot_ms: int) -> float:
        """Seconds that a job's trainer waits for a task: the time that the job's deadline on the chain leaves
        for each of its rounds, within what this node allows."""
        left = max(0, job.deadline_slot - slot) * slot_ms / 1000
        return min(self.idle_s, max(MIN_IDLE_S, left / max(1, job.rounds - job.next_round)))

    def unsettled(self, job: Job, fee: int) -> int:
        """After how many rounds a job has to pay at the latest."""
        return max(self.unsettled_rounds, settle_interval(job.budget, job.rounds, fee))


def most_steps(samples: int, batch: int, epochs: int) -> int:
    """An upper bound of a task's optimizer steps; `samples` are counted once an epoch."""
    return math.ceil(samples / batch) + epochs
