"""`p2pml lab …`: run a scenario with real nodes, on processes, network namespaces or containers."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pml.cli.options import JsonOption
from p2pml.cli.output import clean, columns, emit, emit_json, say, styled, tokens
from p2pml.errors import ExitCode

if TYPE_CHECKING:
    from p2pml.lab.run.report import Report
    from p2pml.lab.run.timeline import Event

_COLOURS = {"failure": "31", "skipped": "33", "check": "32", "step": "1"}

group = typer.Typer(help="Run a scenario with real nodes on this machine.", no_args_is_help=True)


class Place(StrEnum):
    """Where the nodes run."""

    processes = "processes"
    namespaces = "namespaces"
    containers = "containers"


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="lab")


@group.command("run")
def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="the scenario, as in examples/lab/lab.yaml")],
    on: Annotated[Place, typer.Option("--on", help="where the nodes run")] = Place.processes,
    out: Annotated[
        Path | None, typer.Option("--out", help="folder for report.html, report.json and the nodes' logs")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Carry a scenario out and write a report; exit code 1 when a step or a check failed.

    Verbs: wait, seed, join, train, wait_round, wait_job, wait_window, kill, restart, pause, link, partition,
    get, check.
    """
    from p2pml.lab.run.runner import run_scenario  # everything heavy, only here

    folder = (out or Path("lab-report")).absolute()
    report = run_scenario(file, on.value, tell=_tell, logs=folder / "logs")
    data, page = report.write(folder)
    if as_json:
        emit(report.to_json())
    else:
        emit(_summary(report))
    say(f"\nreport: {page}\n        {data}")
    if not report.ok:
        raise typer.Exit(int(ExitCode.FAILURE))


@group.command("clean")
def clean_up(as_json: JsonOption = False) -> None:
    """Remove what lab runs left behind whose process was killed; living runs are not touched."""
    from dataclasses import asdict

    from p2pml.lab.cleanup import cleanup

    removed = cleanup()
    if as_json:
        emit_json([asdict(item) for item in removed])
        return
    for item in removed:
        emit(
            f"run {item.run}: {item.processes} processes, {item.containers} containers, "
            f"{item.networks} networks, {item.images} images"
        )
    say(f"{len(removed)} dead runs cleaned up")


def _tell(event: Event) -> None:
    who = f"{event.node} " if event.node else ""
    line = clean(f"{event.at:6.1f} s  {'' if event.kind == 'step' else '  '}{who}{event.text}")
    colour = _COLOURS.get(event.kind)
    say(styled(line, colour) if colour else line)


def _summary(report: Report) -> str:
    rows = [
        (
            node.name,
            node.height,
            "–" if node.first_balance is None else tokens(node.first_balance),
            "–" if node.last_balance is None else tokens(node.last_balance),
            f"{node.cpu_s:.1f} s",
            f"{node.received / 1e6:.2f} MB",
            f"{node.sent / 1e6:.2f} MB",
        )
        for node in report.nodes
    ]
    headers = ("NODE", "HEIGHT", "TOKENS BEFORE", "AFTER", "CPU", "RECEIVED", "SENT")
    lines = ["", columns(headers, rows, right=range(1, 7)), "", f"{report.described}; link: {report.link}"]
    lines += [f"{'ok  ' if item.ok else 'FAIL'} {item.name}: {item.text}" for item in report.checks]
    lines += [f"skip {text}" for text in report.skipped]
    verdict = "all went well" if report.ok else f"FAILED: {'; '.join(report.failures)}"
    took = f"{report.scenario} on {report.backend} in {report.seconds:.0f} s"
    return "\n".join([*lines, "", f"{took}: {verdict}"])
