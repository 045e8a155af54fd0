"""`p2pml bench …`: what this machine would be rated, and why."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2pml.cli.options import JsonOption
from p2pml.cli.output import emit, emit_json, fields, is_live, say
from p2pml.cli.tasks import run_tasks

if TYPE_CHECKING:
    from chain.baseline.score import Score
    from p2pml.node.baseline_run import Outcome, Progress
    from p2pml.worker.lanes.pool import Look

PLAIN_S = 10.0
"""Seconds between two lines of progress off a terminal."""

group = typer.Typer(help="Measure this machine as a rating window does.", no_args_is_help=True)


class Kernel(StrEnum):
    """What computes the training; all give the same numbers."""

    numpy = "numpy"
    tensorflow = "tensorflow"


class Preset(StrEnum):
    """Networks whose leaders are drawn by rating."""

    main = "main"
    lab = "lab"
    demo = "demo"


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="bench")


@group.command("run")
def run(
    seconds: Annotated[
        float, typer.Option("--seconds", min=1.0, max=3600.0, help="length of the window")
    ] = 60.0,
    lanes: Annotated[
        int, typer.Option("--lanes", min=0, max=1024, help="processes that train; 0: one per core")
    ] = 0,
    dataset: Annotated[
        str, typer.Option("--dataset", metavar="digits|PATH.npz", help="what is trained on")
    ] = "digits",
    cap: Annotated[
        int, typer.Option("--cap", min=1, max=100, help="per cent of a core that each lane may use")
    ] = 100,
    nice: Annotated[
        int, typer.Option("--nice", min=0, max=19, help="how much the lanes give way to everything else")
    ] = 10,
    watts: Annotated[
        float | None,
        typer.Option("--watts", min=0.1, help="what the machine draws, where it has no counters"),
    ] = None,
    kernel: Annotated[Kernel, typer.Option("--kernel", help="what computes the training")] = Kernel.numpy,
    preset: Annotated[Preset, typer.Option("--preset", help="whose rules rate it")] = Preset.lab,
    as_json: JsonOption = False,
) -> None:
    """Train for a fixed time as in a rating window, and say what the rating would be, and why."""
    from chain import params  # everything heavy, only here
    from chain.baseline.score import rules_of
    from p2pml.node.baseline_run import RunPlan, load_baseline, run_baseline

    chosen = params.preset(preset.value)
    rules = rules_of(chosen.baseline, chosen.energy_span_ppm)
    plan = RunPlan(seconds, lanes, cap, nice, kernel.value, watts)
    say("mixing the samples")
    baseline = load_baseline(None if dataset == "digits" else Path(dataset))
    with _progress() as tell:
        outcome = run_tasks(run_baseline, baseline, plan, rules, tell)
    if as_json:
        emit_json(document(outcome))
    else:
        emit(fields(rows(outcome)))
        for line in advice(outcome.score, outcome.energy_source):
            say(line)


def document(outcome: Outcome) -> dict[str, Any]:
    """An outcome as JSON; parts of the rating in ppm."""
    score, quality = outcome.score, outcome.score.quality
    return {
        "rating": score.rating,
        "segments": score.segments,
        "window_ms": score.window_ms,
        "quality_factor_ppm": score.quality_factor,
        "energy_factor_ppm": score.energy_factor,
        "quality_ppm": quality.combined,
        "accuracy_ppm": quality.accuracy,
        "precision_ppm": quality.precision,
        "f1_ppm": quality.f1,
        "confusion": outcome.confusion,
        "lanes": outcome.lanes,
        "episodes": outcome.completed,
        "evaluated": outcome.evaluated,
        "cpu_ms": outcome.cpu_ms,
        "joules": outcome.joules,
        "energy_source": outcome.energy_source,
        "samples_per_joule": score.samples_per_joule,
        "trace_root": outcome.root.hex(),
        "challenge": outcome.challenge.hex(),
    }


def rows(outcome: Outcome) -> list[tuple[str, object]]:
    """An outcome for people: the rating, its terms, and what they come from."""
    score, quality = outcome.score, outcome.score.quality
    seconds = score.window_ms / 1000
    energy = f"{outcome.joules} J, {outcome.energy_source}, {score.samples_per_joule} samples/J"
    return [
        ("rating", score.rating),
        ("", f"= {score.segments} segments x 60 / {seconds:g} s x quality x energy"),
        ("work", f"{score.segments} segments, {outcome.completed} episodes, on {outcome.lanes} lanes"),
        ("processor", f"{outcome.cpu_ms / 1000:.1f} s, {outcome.cpu_ms / score.segments:.0f} ms per segment"),
        ("quality", f"x {_share(score.quality_factor)}, from {_percent(quality.combined)}"),
        ("accuracy", _percent(quality.accuracy)),
        ("precision", f"{_percent(quality.precision)} (mean over classes)"),
        ("F1", f"{_percent(quality.f1)} (mean over classes)"),
        ("energy", f"x {_share(score.energy_factor)}, from {energy if outcome.joules else 'no report'}"),
        ("replayed", f"episodes {', '.join(map(str, outcome.evaluated))}: the same numbers"),
        ("trace root", outcome.root.hex()),
    ]


def advice(score: Score, energy_source: str) -> list[str]:
    """What would raise the rating."""
    found = []
    if score.quality_factor < 1_000_000:
        found.append(
            "quality is the same for everybody who computes this data set: work is what tells nodes apart"
        )
    if energy_source == "none" and score.energy_factor < 1_000_000:
        found.append(
            "no energy was told, which counts as much of it: declare the machine's power with --watts"
        )
    return found


@contextmanager
def _progress() -> Iterator[Progress]:
    """Shows how far it is: one line that is redrawn on a terminal, else a line now and then."""
    live, last = is_live(), -PLAIN_S

    def tell(text: str, look: Look | None) -> None:
        nonlocal last
        if look is not None and look.seconds_left is not None:
            text = f"{text}: {look.segments} segments, {look.seconds_left:.0f} s left"
        if live:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
        elif look is None or time.monotonic() - last >= PLAIN_S:
            last = time.monotonic()
            say(text)

    try:
        yield tell
    finally:
        if live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _percent(ppm: int) -> str:
    return f"{ppm / 10_000:.2f}%"


def _share(ppm: int) -> str:
    return f"{ppm / 1_000_000:.3f}"
