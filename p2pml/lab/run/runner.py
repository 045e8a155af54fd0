"""Run a scenario on real nodes and report what came of it."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from p2pml.config import DEFAULT_TRANSPORT
from p2pml.errors import UserError
from p2pml.lab.hosts.session import open_lab
from p2pml.lab.run.fleet import Fleet
from p2pml.lab.run.report import Report, collect
from p2pml.lab.run.steps import Steps
from p2pml.lab.run.timeline import Event, Timeline
from p2pml.scenario import spec


def run_scenario(
    path: Path,
    kind: str,
    *,
    tell: Callable[[Event], None] = lambda event: None,
    logs: Path | None = None,
    runs: Path | None = None,
    transport: str = DEFAULT_TRANSPORT,
) -> Report:
    """Carry a scenario file out and clear everything away again.

    Args:
        path: of the file.
        kind: `processes`, `namespaces` or `containers`.
        tell: called with each event as it happens, from any thread.
        logs: folder that the nodes' logs are copied to; not kept when None.
        runs: the registry of lab runs; the user's own by default.
        transport: of every node, one of `p2pml.config.TRANSPORTS`.

    Returns:
        What happened; `failures` is empty when every step and every check went well. A step that fails
        ends the scenario, a check that fails does not.

    Raises:
        UserError: the file is wrong (code 7), or the place to run lacks something that it needs.
    """
    scenario = spec.load(path)
    text = path.read_text(encoding="utf-8")
    with open_lab(kind, runs=runs) as hosts:
        steps = Steps(scenario, path.absolute().parent, Fleet(hosts, scenario, transport), Timeline(tell))
        return _run(steps, text, logs)


def _run(steps: Steps, text: str, logs: Path | None) -> Report:
    scenario, timeline = steps.scenario, steps.timeline
    failures: list[str] = []
    try:
        timeline.add("step", "", f"start {scenario.nodes} founders")
        steps.found()
        for number, step in enumerate(scenario.steps, start=1):
            timeline.add("step", "", f"{number}/{len(scenario.steps)} {describe(step)}")
            steps.carry_out(step)
    except UserError as error:
        failures.append(error.cause)
        timeline.add("failure", "", error.cause)
    finally:
        steps.close()
        if logs is not None:
            _keep_logs(steps.fleet, logs)
    failures += [f"{item.name}: {item.text}" for item in steps.results if not item.ok]
    return collect(steps, text, failures, machine=f"{platform.system()} {platform.release()}")


def describe(step: spec.Step) -> str:
    """A step in one line, as the file has it."""
    body = step.model_dump(exclude_defaults=True, by_alias=True)
    if isinstance(step, spec.Checks):
        return f"check: {', '.join(step.checks)}"
    return f"{spec.verb_of(step)}: " + ", ".join(f"{key} {_plain(value)}" for key, value in body.items())


def _plain(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_plain(item) for item in value) + "]"
    return str(value)


def _keep_logs(fleet: Fleet, logs: Path) -> None:
    for node in fleet.nodes.values():
        with suppress(OSError, shutil.Error):
            shutil.copytree(node.home.logs, logs / node.name, dirs_exist_ok=True)
