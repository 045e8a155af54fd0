"""`p2pml compare`: a finished job beside TensorFlow Federated's simulation and training in one place."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2pml.cli.options import HomeOption, JsonOption
from p2pml.cli.output import columns, emit, emit_json, say
from p2pml.cli.tasks import run_tasks
from p2pml.client import NodeClient
from p2pml.errors import ExitCode, UserError
from p2pml.home import Home

if TYPE_CHECKING:
    from p2pml.compare.arms import Row
    from p2pml.compare.run import Comparison

NAMES = ("network", "simulation", "steps", "epochs")


def register(app: typer.Typer) -> None:
    app.command("compare")(compare)


def compare(
    job: Annotated[str, typer.Argument(help="the id of a job that is over, or the start of it")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="folder for report.html and compare.json")
    ] = None,
    arms: Annotated[str, typer.Option("--arms", help="which ways of training, by commas")] = ",".join(NAMES),
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a job again: simulated by TensorFlow Federated; in one place for equal steps and equal samples.

    Writes a table, plots by round, sample and second, and how far the weights are apart, into the folder
    `compare` of the job's result. Uses a worker of its own; the node goes on with what it does.
    """
    chosen = chosen_arms(arms)
    place = Home.locate(home)
    with NodeClient(place) as node:
        material = node.get(f"/jobs/{job}/material", timeout_s=None)
    folder = out or Path(material["output"]) / "compare"
    _writable(folder)
    found = _carry_out(material, chosen, place.logs / "compare.log")
    shown = _write(found, folder)
    if as_json:
        emit_json(shown)
        return
    from p2pml.compare import page

    emit(columns(page.HEADERS, page.table(found), right=range(1, len(page.HEADERS))))
    for remark in page.remarks(found):
        say(remark)
    say(f"plots: {folder / 'report.html'}")


def chosen_arms(text: str) -> list[str]:
    """The arms that a list names, in their order; the job itself is always one.

    Raises:
        UserError: (code 2) an unknown one.
    """
    wanted = {name.strip() for name in text.split(",") if name.strip()}
    if unknown := sorted(wanted - set(NAMES)):
        raise UserError(
            f"there is no way of training called {unknown[0]!r}",
            f"choose of {','.join(NAMES)}",
            ExitCode.USAGE,
        )
    return [name for name in NAMES if name in wanted | {"network"}]


def _carry_out(material: dict[str, Any], arms: list[str], log: Path) -> Comparison:
    from p2pml.compare.arms import TITLES
    from p2pml.compare.job import read_job
    from p2pml.compare.run import compare as carry_out

    finished = read_job(Path(material["folder"]))

    def tell(name: str, row: Row) -> None:
        say(
            f"{TITLES[name]}: round {row.round}/{len(finished.rounds)}, loss {row.loss:.4f}, "
            f"accuracy {row.accuracy:.2%}, {row.seconds:.1f} s"
        )

    try:
        return run_tasks(carry_out, finished, Path(material["data"]), arms, log, tell)
    except OSError as error:
        raise UserError(
            f"the job's data cannot be written for a while: {error.strerror or error}",
            "make room in the folder for temporary files, or name another in $TMPDIR",
        ) from error


def _writable(folder: Path) -> None:
    """Found out before minutes of training. Raises UserError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written: {error.strerror or error}", "name another --out"
        ) from error


def _write(found: Comparison, folder: Path) -> dict[str, Any]:
    from p2pml.compare import page
    from p2pml.storage.journal import write_atomic

    shown = page.as_json(found)
    write_atomic(folder / "compare.json", f"{json.dumps(shown, indent=2)}\n".encode())
    write_atomic(folder / "report.html", page.page(found).encode())
    return shown
