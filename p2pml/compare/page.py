"""A comparison as data, and as a page that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from html import escape
from typing import Any

from p2pml.compare.arms import TITLES, Arm, Row
from p2pml.compare.run import PARITY, Comparison, exceptions
from p2pml.report import html, svg

HEADERS = (
    "ARM",
    "ROUNDS",
    "SAMPLES",
    "STEPS",
    "SECONDS",
    "LOSS",
    "ACCURACY",
    "LARGEST DIFFERENCE",
    "DISTANCE",
)
_X: dict[str, Callable[[Row], float]] = {
    "round": lambda row: row.round,
    "samples seen": lambda row: row.samples,
    "seconds": lambda row: row.seconds,
}
_Y: dict[str, Callable[[Row], float]] = {
    "accuracy": lambda row: row.accuracy,
    "loss": lambda row: row.loss,
}
_PLOTS = (
    "<style>.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:1rem}</style>"
)


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Everything, as compare.json holds it."""
    job = comparison.job
    return {
        "job": job.id,
        "name": job.spec.name,
        "spec": job.spec.model_dump(mode="json"),
        "arms": {arm.name: [asdict(row) for row in arm.rows] for arm in comparison.arms},
        "distances": {name: asdict(each) for name, each in comparison.distances.items()},
        "left_out": comparison.left_out,
        "parity": {"within": PARITY, "claimed": not exceptions(job), "because": exceptions(job)},
    }


def table(comparison: Comparison) -> list[tuple[str, ...]]:
    """A line for each arm under `HEADERS`, as it ended."""
    return [_line(comparison, arm) for arm in comparison.arms]


def remarks(comparison: Comparison) -> list[str]:
    """What is to be known beside the table, a sentence each."""
    found = [f"{TITLES[name]}: left out, {reason}" for name, reason in comparison.left_out.items()]
    distance = comparison.distances.get("simulation")
    if distance is not None:
        because = exceptions(comparison.job)
        if because:
            found.append(f"network and simulation may differ: {'; '.join(because)}")
        elif distance.largest <= PARITY:
            found.append(f"network and simulation ended with the same weights within {PARITY:g}")
        else:
            found.append(f"NETWORK AND SIMULATION DIFFER by {distance.largest:.1e}, more than {PARITY:g}")
    return found


def charts(comparison: Comparison) -> list[str]:
    """Accuracy and loss by round, by samples seen and by second, as `<svg>` elements."""
    return [
        svg.line_chart(
            f"{y_name} by {x_name}",
            x_name,
            y_name,
            {TITLES[arm.name]: [(x(row), y(row)) for row in arm.rows] for arm in comparison.arms},
        )
        for y_name, y in _Y.items()
        for x_name, x in _X.items()
    ]


def page(comparison: Comparison) -> str:
    """report.html."""
    title = f"{comparison.job.spec.name}: the job {comparison.job.id} compared"
    headers = [name.lower() for name in HEADERS]
    return html.page(
        title,
        (
            f"{_PLOTS}<h1>{escape(title)}</h1>",
            html.table(headers, table(comparison), len(headers) - 1),
            *(f"<p>{escape(text)}.</p>" for text in remarks(comparison)),
            f'<div class="plots">{"".join(charts(comparison))}</div>',
        ),
    )


def _line(comparison: Comparison, arm: Arm) -> tuple[str, ...]:
    last, distance = arm.rows[-1], comparison.distances.get(arm.name)
    apart = ("–", "–") if distance is None else (f"{distance.largest:.1e}", f"{distance.share:.2%}")
    return (
        TITLES[arm.name], f"{last.round}", f"{last.samples:,}", f"{last.steps:,}", f"{last.seconds:.1f}",
        f"{last.loss:.4f}", f"{last.accuracy:.2%}", *apart,
    )  # fmt: skip
