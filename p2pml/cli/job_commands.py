"""`p2pml train` and `p2pml job …`: have a model trained, watch it, stop it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from p2pml.cli.job_quote import describe_quote
from p2pml.cli.options import HomeOption, JsonOption
from p2pml.cli.output import columns, emit, emit_json, fields, say, short, tokens
from p2pml.cli.train_view import TrainView, follow_job
from p2pml.client import NodeClient
from p2pml.errors import ExitCode, UserError
from p2pml.home import Home
from p2pml.job_output import FINAL_STATES, check_done, copy_files, result_files
from p2pml.jobs import Client, read_spec

LOOK_S = 0.5
LINE = 100
"""Signs in a line of `job show`; the reasons in it have `LEAST_REASON` at least."""
LEAST_REASON = 20

group = typer.Typer(help="Training jobs of this node: list, look, watch, stop.", no_args_is_help=True)

JobArgument = Annotated[str, typer.Argument(help="the job's id, or the start of it")]


def register(app: typer.Typer) -> None:
    app.command("train")(train)
    app.add_typer(group, name="job")


def train(
    job: Annotated[Path, typer.Option("--job", help="the job spec, a YAML file")],
    detach: Annotated[bool, typer.Option("--detach", help="start it and return")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what it would take")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have a model trained by the network and pay the trainers; shows the progress until it is done.

    The result comes into a folder of its own below the spec's `output.dir`, seen from the spec's folder.
    """
    spec = read_spec(job)
    place = Home.locate(home)
    with NodeClient(place) as node:
        request = {"spec": spec, "base_dir": str(job.absolute().parent), "origin": str(job)}
        if dry_run:
            quote = node.post("/jobs/quote", request, timeout_s=None)
            if as_json:
                emit_json(quote)
            else:
                emit(describe_quote(quote))
            return
        started = node.post("/jobs", request, timeout_s=None)
        if detach:
            _announce(started["id"], as_json)
            return
        say(f"job {started['id']}")
        _attend(node, started["id"], started["events_after"], as_json)


@group.command("ls")
def ls(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """The jobs that this node asked for."""
    with NodeClient(Home.locate(home)) as node:
        answer = node.get("/jobs")
    if as_json:
        emit_json(answer)
        return
    rows = [
        (
            item["name"],
            item["state"],
            f"{item['round']}/{item['rounds']}",
            _percent(item["accuracy"]),
            item["id"],
        )
        for item in answer
    ]
    emit(columns(("NAME", "STATE", "ROUND", "ACCURACY", "ID"), rows, right=(2, 3)))


@group.command("show")
def show(job: JobArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """One job: its state, its rounds, who earned what, where the model is."""
    with NodeClient(Home.locate(home)) as node:
        answer = node.get(f"/jobs/{job}")
    if as_json:
        emit_json(answer)
    else:
        emit(describe_job(answer))


@group.command("watch")
def watch(job: JobArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Attach to a running job; Ctrl-C detaches."""
    with NodeClient(Home.locate(home)) as node:
        _attend(node, node.get(f"/jobs/{job}")["id"], 0, as_json)


@group.command("logs")
def logs(
    job: JobArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="wait for more until it is over")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """What happened in a job: its rounds, who came and went, what was refused and why."""
    with NodeClient(Home.locate(home)) as node:
        for line in log_lines(node, job, follow):
            moment = f"{datetime.fromtimestamp(line['at']):%Y-%m-%d %H:%M:%S}"
            emit(json.dumps(line) if as_json else f"{moment}  {line['text']}")


@group.command("resume")
def resume(job: JobArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Go on with a job that this node's disk has suspended; shows the progress, Ctrl-C detaches."""
    with NodeClient(Home.locate(home)) as node:
        started = node.post(f"/jobs/{job}/resume", {})
        _attend(node, started["id"], started["events_after"], as_json)


@group.command("result")
def result(
    job: JobArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="copy the result's files into this folder")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Where a job's model is: model.json and model.safetensors, with its report and metrics; or a copy."""
    with NodeClient(Home.locate(home)) as node:
        answer = node.get(f"/jobs/{job}")
    files = result_files(answer)
    if out is not None:
        files = copy_files(files, out)
    if as_json:
        emit_json(
            {"id": answer["id"], "folder": str(files[0].parent), "files": [str(path) for path in files]}
        )
    else:
        emit("\n".join(str(path) for path in files))


@group.command("report")
def report(
    job: JobArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="the file to write")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a job's report, an HTML page: plots of accuracy and loss, who took part, payments, spec."""
    found = Client(Home.locate(home).root).job(job)
    page = found.report()
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"the report cannot be written to {out}: {error.strerror or error}", "name another file"
        ) from error
    if as_json:
        emit_json({"id": found.id, "file": str(out)})
    else:
        emit(str(out))


@group.command("tensorboard")
def tensorboard(
    job: JobArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="the folder for the event files")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a job's event files for `tensorboard --logdir`: accuracy and loss by rounds and by samples."""
    found = Client(Home.locate(home).root).job(job)
    folder = str(found.tensorboard(out))
    if as_json:
        emit_json({"id": found.id, "folder": folder})
    else:
        emit(folder)


@group.command("stop")
def stop(job: JobArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """End a running job: what was earned is paid, the rest of the budget comes back."""
    with NodeClient(Home.locate(home)) as node:
        node.delete(f"/jobs/{job}")
        answer = node.get(f"/jobs/{job}")
    if as_json:
        emit_json({key: answer[key] for key in ("id", "state", "end")})
    else:
        say("asked it to stop; `p2pml job show` tells when it has")


def log_lines(node: NodeClient, job: str, follow: bool) -> Iterator[dict[str, Any]]:
    """The lines of a job's log; with `follow` also those that come, until it is over.

    Raises:
        UserError: (code 3) the daemon ended before the job did.
    """
    last = 0
    while True:
        record = node.get(f"/jobs/{job}")  # first: what is in the log by now is all of a job that is over
        for line in node.get(f"/jobs/{record['id']}/log", after=last):
            last = line["number"]
            yield line
        if not follow or record["state"] in FINAL_STATES:
            return
        time.sleep(LOOK_S)


def describe_job(answer: dict[str, Any]) -> str:
    """A job as text for people."""
    lines = [
        ("job", f"{answer['name']} {answer['id']}"),
        ("state", _state(answer)),
        ("round", f"{answer['round']} of {answer['rounds']}"),
        ("accuracy", _percent(answer["accuracy"])),
    ]
    if answer.get("budget"):
        lines.append(("budget", f"{tokens(answer['budget'])} tokens"))
    if answer.get("output"):
        lines.append(("result", answer["output"]))
    if answer.get("fix") and answer["end"]:
        lines.append(("fix", answer["fix"]))
    parts = [fields(lines)]
    if answer.get("peers"):
        parts.append(_peer_table(answer["peers"]))
    return "\n\n".join(parts)


def _peer_table(peers: Sequence[dict[str, Any]]) -> str:
    """A line for each peer; the reason for which it last left is cut to what is left of the line."""
    headers = ("PEER", "STATE", "SHARDS", "SAMPLES", "EARNED")
    rows = [
        (
            item["name"] or item["peer"],
            item["state"],
            " ".join(str(client) for client in item["clients"]),
            str(item["samples"]),
            tokens(item["earned"]),
        )
        for item in peers
    ]
    taken = sum(2 + max(map(len, column)) for column in zip(headers, *rows, strict=True))
    room = max(LINE - taken, LEAST_REASON)
    reasons = [short(item["reason"], room - 1) for item in peers]
    told = [(*row, reason) for row, reason in zip(rows, reasons, strict=True)]
    return columns((*headers, "REASON"), told, right=(3, 4))


def _attend(node: NodeClient, job_id: str, after: int, as_json: bool) -> None:
    """Show a job until it ends; Ctrl-C leaves it running.

    Raises:
        UserError: the job did not end well; the code says how.
    """
    view = TrainView(job_id)
    try:
        follow_job(node, view, after)
    except KeyboardInterrupt:
        say(f"\ndetached; the job goes on. Watch it with `p2pml job watch {job_id[:12]}`,")
        say(f"end it with `p2pml job stop {job_id[:12]}`")
        raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
    answer = node.get(f"/jobs/{job_id}")
    if as_json:
        emit_json(answer)
    else:
        emit(describe_job(answer))
    check_done(answer)


def _announce(job_id: str, as_json: bool) -> None:
    if as_json:
        emit_json({"id": job_id})
        return
    emit(job_id)
    say(f"watch it with `p2pml job watch {job_id[:12]}`")


def _state(answer: dict[str, Any]) -> str:
    """The state, with the word for the end where that says more, and the reason."""
    state, end, reason = (str(answer[key]) for key in ("state", "end", "reason"))
    return state + (f" ({end})" if end not in ("", state) else "") + (f": {reason}" if reason else "")


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.1%}"
