"""`p2pml train` and `p2pml job …`: have a model trained, watch it, stop it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from p2pml.cli.job_quote import describe_quote
from p2pml.cli.options import HomeOption, JsonOption
from p2pml.cli.output import columns, emit, emit_json, fields, say, tokens
from p2pml.cli.train_view import FINAL_STATES, TrainView, follow_job
from p2pml.client import NodeClient
from p2pml.config import Home
from p2pml.errors import ExitCode, UserError

MAX_SPEC = 256 * 1024
RESULT_FILES = ("model.json", "model.safetensors", "metrics.csv", "report.json")

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


@group.command("stop")
def stop(job: JobArgument, home: HomeOption = None) -> None:
    """End a running job: what was earned is paid, the rest of the budget comes back."""
    with NodeClient(Home.locate(home)) as node:
        node.delete(f"/jobs/{job}")
    say("asked it to stop; `p2pml job show` tells when it has")


def result_files(answer: dict[str, Any]) -> list[Path]:
    """The files of a job's result.

    Args:
        answer: of `/jobs/<id>`.

    Raises:
        UserError: (code 6) there is none, or not any more.
    """
    if not answer.get("output"):
        over = answer["state"] in FINAL_STATES
        raise UserError(
            f"the job {answer['id']} has no result: it is {answer['state']}",
            answer.get("fix") or ("" if over else f"watch it with `p2pml job watch {answer['id'][:12]}`"),
            ExitCode.JOB_FAILED,
        )
    folder = Path(answer["output"])
    files = [folder / name for name in RESULT_FILES]
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise UserError(
            f"the result in {folder} is not complete any more: {', '.join(missing)} is gone",
            "put it back, or train again",
            ExitCode.JOB_FAILED,
        )
    return files


def copy_files(files: list[Path], folder: Path) -> list[Path]:
    """Copy files into a folder, made if it is not there; returns the copies.

    Raises:
        UserError: (code 2) one of them is there already; (code 1) the folder cannot be written.
    """
    copies = [folder / path.name for path in files]
    there = [path for path in copies if path.exists()]
    if there:
        raise UserError(f"{there[0]} is there already", "name another folder", ExitCode.USAGE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source, copy in zip(files, copies, strict=True):
            shutil.copyfile(source, copy)
    except OSError as error:
        raise UserError(
            f"the result cannot be copied to {folder}: {error.strerror or error}", "name another folder"
        ) from error
    return copies


def read_spec(path: Path) -> str:
    """The text of a spec file.

    Raises:
        UserError: (code 7) missing, unreadable, too large, not text.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SPEC + 1)
        if len(content) > MAX_SPEC:
            raise UserError(
                f"{path} is larger than a job spec may be", "name a job spec", ExitCode.BAD_CONFIG
            )
        return content.decode("utf-8")
    except OSError as error:
        raise UserError(
            f"the job spec {path} cannot be read: {error.strerror or error}",
            "check the path",
            ExitCode.BAD_CONFIG,
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"the job spec {path} is not UTF-8 text", "save it as UTF-8", ExitCode.BAD_CONFIG
        ) from error


def describe_job(answer: dict[str, Any]) -> str:
    """A job as text for people."""
    lines = [
        ("job", f"{answer['name']} {answer['id']}"),
        ("state", answer["state"] + (f": {answer['reason']}" if answer.get("reason") else "")),
        ("round", f"{answer['round']} of {answer['rounds']}"),
        ("accuracy", _percent(answer["accuracy"])),
    ]
    if answer.get("budget"):
        lines.append(("budget", f"{tokens(answer['budget'])} tokens"))
    if answer.get("output"):
        lines.append(("result", answer["output"]))
    if answer.get("fix") and answer["state"] == "suspended":
        lines.append(("fix", answer["fix"]))
    parts = [fields(lines)]
    if answer.get("peers"):
        rows = [
            (
                item["name"] or item["peer"],
                item["state"],
                " ".join(str(client) for client in item["clients"]),
                item["samples"],
                tokens(item["earned"]),
            )
            for item in answer["peers"]
        ]
        parts.append(columns(("PEER", "STATE", "SHARDS", "SAMPLES", "EARNED"), rows, right=(3, 4)))
    return "\n\n".join(parts)


def _attend(node: NodeClient, job_id: str, after: int, as_json: bool) -> None:
    """Show a job until it ends; Ctrl-C leaves it running.

    Raises:
        UserError: (code 6) the job failed.
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
    if answer["state"] != "done":
        raise UserError(
            f"the job ended as {answer['state']}: {answer.get('reason') or 'no reason given'}",
            answer.get("fix") or "the node's log has the details",
            ExitCode.JOB_FAILED,
        )


def _announce(job_id: str, as_json: bool) -> None:
    if as_json:
        emit_json({"id": job_id})
        return
    emit(job_id)
    say(f"watch it with `p2pml job watch {job_id[:12]}`")


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.1%}"
