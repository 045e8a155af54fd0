"""`p2pml seed` and `p2pml data …`: offer data, see what there is, fetch it."""

from __future__ import annotations

import base64
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from p2pml.cli.options import HomeOption, JsonOption
from p2pml.cli.output import columns, emit, emit_json, fields, is_live, say, short, size
from p2pml.client import NodeClient
from p2pml.config import Home
from p2pml.errors import ExitCode, UserError

MAX_METAINFO = 5 * 1024 * 1024
POLL_S = 0.3

group = typer.Typer(help="Data sets on the network: list, look, fetch.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.command("seed")(seed)
    app.add_typer(group, name="data")


def seed(
    path: Annotated[Path, typer.Argument(help="file or folder to offer")],
    name: Annotated[
        str | None, typer.Option("--name", help="its name on the network; default: the file's")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="only for peers named with --allow")] = False,
    allow: Annotated[list[str] | None, typer.Option("--allow", help="peer id that may fetch it")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Offer a file or folder to the network; it stays where it is."""
    if not path.exists():
        raise UserError(f"there is no file or folder {path}", "check the path")
    request = {
        "action": "seed",
        "path": str(path.absolute()),
        "name": name,
        "private": private,
        "allowed": allow or [],
    }
    place = Home.locate(home)
    with NodeClient(place) as node, _hashing_progress(place, str(path)):
        answer = node.post("/datasets", request, timeout_s=None)
    if as_json:
        emit_json(answer)
        return
    emit(_describe(answer))
    say(f"others fetch it with `p2pml data get {answer['name']}` or by the .torrent file")


@group.command("ls")
def ls(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """The data sets on this node."""
    with NodeClient(Home.locate(home)) as node:
        answer = node.get("/datasets")
    if as_json:
        emit_json(answer)
        return
    rows = [
        (
            item["name"],
            size(item["size"]),
            f"{item['have']}/{item['pieces']}",
            item["peers"],
            "private" if item["private"] else "",
            item["infohash"],
        )
        for item in answer
    ]
    emit(columns(("NAME", "SIZE", "PIECES", "PEERS", "", "INFOHASH"), rows, right=(1, 2, 3)))


@group.command("info")
def info(
    dataset: Annotated[str, typer.Argument(help="name or info-hash")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """One data set: its files, its pieces, and where each byte came from."""
    with NodeClient(Home.locate(home)) as node:
        answer = node.get(f"/datasets/{dataset}")
    if as_json:
        emit_json(answer)
    else:
        emit(_describe(answer))


@group.command("get")
def get(
    dataset: Annotated[str, typer.Argument(help="name, info-hash, or a .torrent file")],
    files: Annotated[str | None, typer.Option("--files", help="only these, by number: 0,2,5")] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="folder to copy the files to when they are here")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="until it is complete")] = True,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch a data set from its peers and offer it on."""
    request: dict[str, Any] = {"action": "get", "wanted": _numbers(files)}
    if dataset.endswith(".torrent"):
        request["metainfo"] = base64.b64encode(_read_metainfo(Path(dataset))).decode("ascii")
    else:
        request["dataset"] = dataset
    with NodeClient(Home.locate(home)) as node:
        answer = node.post("/datasets", request, timeout_s=None)
        if wait or to is not None:
            answer = _wait_complete(node, answer)
    if to is not None:
        _copy_out(answer, request["wanted"], to)
    if as_json:
        emit_json(answer)
    else:
        emit(_describe(answer))


def _describe(answer: dict[str, Any]) -> str:
    state = "complete" if answer["complete"] else f"{answer['have']} of {answer['wanted']} wanted pieces"
    lines = fields(
        [
            ("name", answer["name"]),
            ("infohash", answer["infohash"]),
            ("size", f"{size(answer['size'])} in {answer['pieces']} pieces"),
            ("state", state + (", private" if answer["private"] else "")),
            ("peers", answer["peers"]),
            ("rates", f"{size(answer['rate_down'])}/s down, {size(answer['rate_up'])}/s up"),
            ("files in", answer["folder"] + (" (your own)" if answer["in_place"] else "")),
            ("torrent", answer["torrent_file"]),
            *([("problem", answer["problem"])] if answer["problem"] else []),
        ]
    )
    files = [(item["index"], size(item["size"]), item["path"]) for item in answer["files"]]
    parts = [lines, columns(("#", "SIZE", "FILE"), files, right=(0, 1))]
    if answer["sources"]:
        total = max(1, sum(answer["sources"].values()))
        rows = [
            (short(peer, 20), size(count), f"{count / total:.0%}")
            for peer, count in answer["sources"].items()
        ]
        parts.append(columns(("RECEIVED FROM", "BYTES", "SHARE"), rows, right=(1, 2)))
    return "\n\n".join(parts)


def _numbers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise UserError(f"--files {text!r} is not a list of numbers", "write it as 0,2,5", ExitCode.USAGE)
    return [int(part) for part in parts]


def _read_metainfo(path: Path) -> bytes:
    try:
        content = path.read_bytes() if path.stat().st_size <= MAX_METAINFO else None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", "check the path") from error
    if content is None:
        raise UserError(f"{path} is larger than any .torrent file", "name a .torrent file")
    return content


def _wait_complete(node: NodeClient, answer: dict[str, Any]) -> dict[str, Any]:
    """Poll until every wanted piece is here, with one progress bar, or a line now and then off a terminal."""
    infohash = answer["infohash"]
    with _transfer_progress(answer) as show:
        while True:
            show(answer)
            if answer["complete"]:
                return answer
            time.sleep(POLL_S)
            if answer["problem"]:
                raise UserError(answer["problem"], "`p2pml data get` again goes on where it stopped")
            answer = node.get(f"/datasets/{infohash}")


@contextmanager
def _transfer_progress(answer: dict[str, Any]) -> Iterator[Any]:
    if not is_live():
        last = -10.0

        def plain(state: dict[str, Any]) -> None:
            nonlocal last
            if state["complete"] or time.monotonic() - last >= 5:
                last = time.monotonic()
                rate = f"{size(state['rate_down'])}/s from {state['peers']} peers"
                say(f"{state['name']}: {state['have']} of {state['wanted']} pieces, {rate}")

        yield plain
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    layout = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} pieces {task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*layout, console=Console(stderr=True)) as progress:
        task = progress.add_task(answer["name"], total=answer["wanted"], rate="")

        def bar(state: dict[str, Any]) -> None:
            rate = f"{size(state['rate_down'])}/s from {state['peers']} peers"
            progress.update(task, completed=state["have"], total=state["wanted"], rate=rate)

        yield bar


@contextmanager
def _hashing_progress(home: Home, label: str) -> Iterator[None]:
    """On a terminal, show how far the daemon is with hashing, told by its events in a thread of their own."""
    if not is_live():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"hashing {label}", total=None)

        def follow() -> None:
            try:
                with NodeClient(home) as node:
                    for event in node.events():
                        if event.kind == "data.hash":
                            progress.update(task, completed=event.data["done"], total=event.data["total"])
            except (UserError, OSError):
                return  # only the bar is lost; the request itself tells what is wrong

        threading.Thread(target=follow, daemon=True).start()
        yield


def _copy_out(answer: dict[str, Any], wanted: list[int] | None, to: Path) -> None:
    for item in answer["files"]:
        if wanted is not None and item["index"] not in wanted:
            continue
        target = to / item["path"]
        if os.path.commonpath([to.absolute(), target.absolute()]) != str(to.absolute()):
            raise UserError(f"the data set names a file outside its folder: {item['path']!r}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(item["location"], target)
        except OSError as error:
            raise UserError(
                f"{target} cannot be written: {error.strerror or error}", "choose another --to"
            ) from error
        say(f"{target}")
