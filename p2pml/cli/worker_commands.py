"""`p2pml worker …`: the process that trains."""

from __future__ import annotations

from typing import Any

import typer

from p2pml.cli.options import HomeOption, JsonOption
from p2pml.cli.output import emit, emit_json, fields
from p2pml.client import NodeClient
from p2pml.home import Home
from p2pml.worker.rests import WORDS

group = typer.Typer(help="Look at the process that trains, and pause it.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="worker")


@group.command("status")
def status(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """What the worker does, and why it rests."""
    with NodeClient(Home.locate(home)) as node:
        _show(node.get("/worker"), as_json)


@group.command("pause")
def pause(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Let the worker rest until `p2pml worker resume`, also over restarts of the daemon."""
    with NodeClient(Home.locate(home)) as node:
        _show(node.post("/worker/pause"), as_json)


@group.command("resume")
def resume(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """End a pause."""
    with NodeClient(Home.locate(home)) as node:
        _show(node.post("/worker/resume"), as_json)


def _show(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit_json(answer)
    else:
        emit(describe(answer))


def describe(answer: dict[str, Any]) -> str:
    """What the API says of the worker, as text for people."""
    rows = [("worker", describe_state(answer["state"], answer["reason"], answer["rests"]))]
    if answer["pid"] is not None:
        versions = ", ".join(f"{name} {version}" for name, version in answer["versions"].items())
        started = f", started {answer['starts']} times" if answer["starts"] > 1 else ""
        network = "cut off from it" if answer["isolated"] else "not cut off: its system does not let it"
        rows += [("process", f"PID {answer['pid']}{started}"), ("with", versions), ("network", network)]
    if answer["limits"] is not None:
        rows.append(("limits", _limits(answer["limits"], answer["task_minutes"])))
    return fields(rows)


def _limits(limits: dict[str, Any], minutes: int) -> str:
    threads, idle = limits["threads"], ", on an idle machine only" if limits["idle_only"] else ""
    return (
        f"{threads} thread{'s' if threads > 1 else ''} at {limits['cpu']} %, {limits['memory'] >> 20} MiB, "
        f"nice {limits['nice']}, {minutes} min a task{idle}"
    )


def describe_state(state: str, reason: str, rests: list[str]) -> str:
    """State and reason in one line: `ready, resting: paused by its owner`."""
    words = ", ".join(WORDS.get(why, why) for why in rests)
    return state + (f": {reason}" if reason else "") + (f", resting: {words}" if words else "")
