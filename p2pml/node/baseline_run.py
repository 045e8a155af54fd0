"""A baseline test of this machine: the data set is mixed, the lanes train for a fixed time, a few of their
episodes are replayed and evaluated, and the numbers give the rating.
"""

from __future__ import annotations

import hashlib
import math
import os
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import trio

from chain.baseline.bench import NumpyBench
from chain.baseline.dataset import net_for, prepare
from chain.baseline.episode import replay
from chain.baseline.kernel import NumpyTrainer
from chain.baseline.score import Matrix, Score, ScoreRules, add, score
from chain.baseline.trace import Trace
from chain.errors import InvalidRating, ParamsError
from chain.rating.steps import MAX_CLASSES, check_data
from p2pml.errors import ExitCode, UserError
from p2pml.training import dataset
from p2pml.worker.lanes import blas, store
from p2pml.worker.lanes.pool import LanesFailed, Look, Plan, Window, WindowRun

EVALUATED = 3
"""Episodes that are replayed and evaluated after the window, at most."""
HELD_OUT = 0.2
"""Share that is kept for the evaluation where a data set has no test samples."""

Progress = Callable[[str, Look | None], None]
"""Told what is being done now, and within the window how far it is."""


Baseline = NumpyBench
"""A data set, ready to be trained on, to be evaluated on, and to judge others on."""


@dataclass(frozen=True, slots=True)
class RunPlan:
    """How to run a window.

    Args:
        seconds: length of the window.
        lanes: processes; one per core that this process may use when 0.
        cap: per cent of a core for each.
        nice: by how much they give way.
        kernel: `numpy`, `int64` or `tensorflow`.
        watts: what the machine draws, declared by its owner; None to read counters, where there are any.
        challenge: 32 bytes; drawn at random for a test that nobody asked for.
    """

    seconds: float = 60.0
    lanes: int = 0
    cap: int = 100
    nice: int = 10
    kernel: str = "numpy"
    watts: float | None = None
    challenge: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    @property
    def processes(self) -> int:
        """Lanes, resolved."""
        return self.lanes or len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a window gave.

    Args:
        root: of the trace, 32 bytes.
        completed: episodes that were finished.
        evaluated: of these, which were replayed and evaluated.
        confusion: their confusion matrices, added up.
        cpu_ms: processor time of the segments that count.
        joules: 0 where nobody told.
        energy_source: who told.
    """

    score: Score
    root: bytes
    challenge: bytes
    lanes: int
    completed: int
    evaluated: tuple[int, ...]
    confusion: Matrix
    cpu_ms: int
    joules: int
    energy_source: Literal["declared", "counters", "none"]


def load_baseline(path: Path | None = None) -> Baseline:
    """Load and mix a data set: the bundled digits, or an `.npz` of bytes.

    Raises:
        UserError: a file that cannot be read, or samples that the test cannot be run on.
    """
    name = path or dataset.digits_path()
    try:
        found = dataset.load(name)
        train, test = dataset.hold_out(found, HELD_OUT, seed=0)
        if train.x.dtype != np.uint8 or test.x.dtype != np.uint8:
            raise ParamsError("the samples are not bytes (0..255)")
        net = net_for(train.x, np.concatenate([train.y, test.y]))
        check_data(net.classes, len(test))
        return Baseline(
            net, prepare(net, train.x, train.y), prepare(net, np.minimum(test.x, net.top), test.y)
        )
    except OSError as error:
        raise UserError(
            f"cannot read {name}: {error.strerror or error}", "give the path of an .npz file"
        ) from error
    except (dataset.DatasetError, ParamsError) as error:
        raise UserError(
            f"{name}: {error}",
            f"the test takes images or tables of bytes with labels from 0 to {MAX_CLASSES - 1} at most",
            ExitCode.BAD_CONFIG,
        ) from error


async def run_baseline(
    baseline: Baseline, plan: RunPlan, rules: ScoreRules, progress: Progress | None = None
) -> Outcome:
    """Run a window on this machine and rate it.

    Raises:
        UserError: no lane could train, none finished an episode, or what they computed is not what this
            process computes.
    """
    tell = progress or (lambda text, look: None)
    with tempfile.TemporaryDirectory(prefix="p2pml-baseline-") as name:
        folder = Path(name)
        await trio.to_thread.run_sync(store.write, folder, baseline.net, baseline.train)
        kernels = ""
        if plan.kernel == "numpy":
            tell("trying out kernels", None)
            kernels = await blas.fastest(folder, plan.nice)
        lanes = Plan(
            folder, baseline.net, plan.challenge, plan.processes, plan.seconds, plan.cap, plan.nice,
            plan.kernel, kernels,
        )  # fmt: skip
        tell(f"starting {plan.processes} lanes" + (f" with kernels for {kernels}" if kernels else ""), None)
        try:
            window = await WindowRun(lanes, lambda look: tell("training", look)).run()
        except (LanesFailed, OSError) as error:
            raise UserError(
                f"no lane could train: {error}", "choose another --kernel or fewer --lanes"
            ) from error
    tell("evaluating", None)
    work = partial(rate, baseline, plan, rules, window)
    return await trio.to_thread.run_sync(work, abandon_on_cancel=True)  # type: ignore[call-arg]


def rate(baseline: Baseline, plan: RunPlan, rules: ScoreRules, window: Window) -> Outcome:
    """Evaluate a window's episodes and give the rating.

    Raises:
        UserError: there is nothing to rate, or the lanes' work cannot be repeated.
    """
    trace = Trace(baseline.net, window.leaves)
    evaluated = draw(trace, EVALUATED)
    if not evaluated:
        raise UserError(
            f"no lane finished an episode of {baseline.net.segments} segments in {plan.seconds:g} s",
            "give it more time with --seconds, or fewer --lanes",
        )
    confusion = evaluate(baseline, plan.challenge, trace, evaluated)
    joules, source = _energy(plan, window)
    try:
        found = score(rules, baseline.net, len(trace), math.ceil(plan.seconds * 1000), joules, confusion)
    except InvalidRating as error:
        raise UserError(str(error), "declare the power of the whole machine with --watts") from error
    return Outcome(
        found, trace.root, plan.challenge, plan.processes, len(trace.completed), evaluated, confusion,
        window.cpu_ms, joules, source,
    )  # fmt: skip


def draw(trace: Trace, count: int) -> tuple[int, ...]:
    """Which completed episodes are evaluated: drawn by the trace's root, so not chosen by anybody."""

    def ticket(episode: int) -> bytes:
        return hashlib.sha256(trace.root + episode.to_bytes(8, "big")).digest()

    return tuple(sorted(sorted(trace.completed, key=ticket)[:count]))


def evaluate(baseline: Baseline, challenge: bytes, trace: Trace, episodes: tuple[int, ...]) -> Matrix:
    """Replay completed episodes and add up their confusion matrices on the test samples.

    Raises:
        UserError: a replay gives other leaves than the trace has.
    """
    trainer = NumpyTrainer(baseline.net, baseline.train)
    matrices = []
    for episode in episodes:
        if replay(trainer, challenge, episode, 0, baseline.net.segments - 1) != trace.of_episode(episode):
            raise UserError(
                f"episode {episode} gives other numbers when it is computed again",
                "the machine's arithmetic or memory is faulty, or its kernel not exact: try --kernel numpy",
            )
        matrices.append(trainer.confusion(baseline.test))
    return add(matrices)


def _energy(plan: RunPlan, window: Window) -> tuple[int, Literal["declared", "counters", "none"]]:
    if plan.watts is not None:
        return math.ceil(plan.watts * plan.seconds), "declared"
    return (0, "none") if window.joules is None else (window.joules, "counters")
