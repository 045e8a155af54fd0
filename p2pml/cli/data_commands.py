"""`p2pml seed` and `p2pml data …`: offer data, see what there is, fetch it."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from p2pml.cli import data_create
from p2pml.cli.data_choices import file_choice, file_numbers, range_choice
from p2pml.cli.data_copies import copy_out
from p2pml.cli.data_progress import daemon_progress, told_when_interrupted, transfer_progress
from p2pml.cli.data_view import describe, state_of
from p2pml.cli.options import HomeOption, JsonOption
from p2pml.cli.output import columns, emit, emit_json, say, size
from p2pml.client import NodeClient
from p2pml.errors import ExitCode, UserError
from p2pml.home import Home

MAX_METAINFO = 10_000_000
POLL_S = 0.3
SHOWN_MEMBERS = 20

DatasetArgument = Annotated[str, typer.Argument(help="name or info-hash")]

group = typer.Typer(help="Data sets: make, list, look, fetch, check, stop, remove.", no_args_is_help=True)
group.command("create")(data_create.create)


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
    hybrid: Annotated[
        bool, typer.Option("--hybrid/--v1", help="with SHA-256 trees (BEP 52) beside SHA-1, or SHA-1 only")
    ] = True,
    tracker: data_create.TrackerOption = None,
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
        "hybrid": hybrid,
        "trackers": tracker or [],
    }
    place = Home.locate(home)
    given_up = f"the node does not offer {path}, unless it had hashed it by then: `p2pml data ls` tells"
    with (
        told_when_interrupted(given_up),
        NodeClient(place) as node,
        daemon_progress(place, "data.hash", f"hashing {path}"),
    ):
        answer = node.post("/datasets", request, timeout_s=None)
    if as_json:
        emit_json(answer)
        return
    emit(describe(answer))
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
            state_of(item),
            item["infohash"],
        )
        for item in answer
    ]
    emit(columns(("NAME", "SIZE", "PIECES", "PEERS", "STATE", "INFOHASH"), rows, right=(1, 2, 3)))


@group.command("info")
def info(
    dataset: DatasetArgument,
    members: Annotated[
        int, typer.Option("--members", min=0, max=100_000, help="how many members of each tar to show")
    ] = SHOWN_MEMBERS,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """One data set: its files and what is in its tars, its pieces, and where each byte came from."""
    path = _path(dataset)
    with NodeClient(Home.locate(home)) as node:
        answer = node.get(path)
        tars = node.get(f"{path}/members", limit=members) if members else []
    if as_json:
        emit_json(answer | {"tars": tars})
    else:
        emit(describe(answer, tars))


@group.command("verify")
def verify(dataset: DatasetArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Hash a data set anew. What is damaged is fetched again, unless the files are your own: exit code 1."""
    place = Home.locate(home)
    with NodeClient(place) as node, daemon_progress(place, "data.verify", f"checking {dataset}"):
        answer = node.post(f"{_path(dataset)}/verify", timeout_s=None)
    if as_json:
        emit_json(answer)
    else:
        emit(f"{answer['name']}: {answer['good']} of {answer['pieces']} pieces are good")
    if not answer["damaged"]:
        return
    rows = ", ".join(map(str, answer["damaged"][:20])) + (" …" if len(answer["damaged"]) > 20 else "")
    say(f"damaged: {len(answer['damaged'])} pieces ({rows})")
    if not answer["refetching"]:
        raise UserError(
            f"the damaged pieces of {answer['name']} are not fetched again",
            "your own files: put them right and verify again, or seed them anew; a paused one: resume it",
        )
    say("they are fetched again; `p2pml data info` shows how far it is")


@group.command("pause")
def pause(dataset: DatasetArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Neither fetch nor offer a data set, also after a restart, until `resume`."""
    _change(dataset, "pause", home, as_json)


@group.command("resume")
def resume(dataset: DatasetArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Go on with a data set that was paused or that stopped at an error."""
    _change(dataset, "resume", home, as_json)


def _change(dataset: str, action: str, home: Path | None, as_json: bool) -> None:
    with NodeClient(Home.locate(home)) as node:
        answer = node.post(f"{_path(dataset)}/{action}")
    if as_json:
        emit_json(answer)
    else:
        emit(f"{answer['name']}: {state_of(answer)}")


@group.command("rm")
def remove(
    dataset: DatasetArgument,
    with_data: Annotated[
        bool, typer.Option("--with-data", help="delete what was fetched, too; never your own files")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget a data set: it is no longer fetched or offered. Its files stay unless --with-data."""
    with NodeClient(Home.locate(home)) as node:
        answer = node.delete(_path(dataset), timeout_s=None, with_data=with_data)
    if as_json:
        emit_json(answer)
        return
    kept = f"; its files are still in {answer['kept']}" if answer["kept"] else ", and its files are deleted"
    emit(f"{answer['name']} is forgotten{kept}")


def _path(dataset: str) -> str:
    """The end point of a data set, whose name may hold signs that mean something in a URL."""
    return f"/datasets/{quote(dataset, safe='')}"


@group.command("get")
def get(
    dataset: Annotated[str, typer.Argument(help="name, info-hash, or a .torrent file")],
    files: Annotated[str | None, typer.Option("--files", help="only these, by number: 0,2,5")] = None,
    file: Annotated[
        list[str] | None,
        typer.Option(
            "--file",
            metavar="PATTERN[=PRIORITY]",
            help="only these, by path, * for any signs; priority 7 comes first, 4 is usual, 0 never comes",
        ),
    ] = None,
    range_: Annotated[
        list[str] | None,
        typer.Option(
            "--range",
            metavar="FILE:START-END[=PRIORITY]",
            help="only these bytes of a file, END left out; patterns and priorities as with --file",
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", help="folder to copy the files to when they are here; nothing in it is replaced"
        ),
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            "--peer", help="host:port of an ordinary BitTorrent client that has it; may be repeated"
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="until it is complete")] = True,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch a data set from its peers and offer it on."""
    choices = [*map(file_choice, file or ()), *map(range_choice, range_ or ())]
    wanted = file_numbers(files)
    if wanted is not None and choices:
        raise UserError("--files and --file or --range say the same", "use one of them", ExitCode.USAGE)
    if to is not None and range_:
        raise UserError(
            "--to copies whole files", "leave it out: `data info` says where the bytes are", ExitCode.USAGE
        )
    request: dict[str, Any] = {
        "action": "get",
        "wanted": wanted,
        "choices": choices,
        "peers": peer or [],
    }
    if dataset.endswith(".torrent"):
        request["metainfo"] = base64.b64encode(_read_metainfo(Path(dataset))).decode("ascii")
    else:
        request["dataset"] = dataset
    given_up = f"the node does not fetch {dataset}, unless it had found it by then: `p2pml data ls` tells"
    with NodeClient(Home.locate(home)) as node:
        with told_when_interrupted(given_up):
            answer = node.post("/datasets", request, timeout_s=None)
        if wait or to is not None:
            answer = _wait_complete(node, answer)
    if to is not None:
        if choices:
            wanted = [item["index"] for item in answer["files"] if item["priority"]]
        copy_out(answer, wanted, to)
    if as_json:
        emit_json(answer)
    else:
        emit(describe(answer))


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
    infohash, name = answer["infohash"], answer["name"]
    goes_on = f"the node goes on fetching {name}: see `p2pml data info`, end it with `p2pml data pause`"
    with told_when_interrupted(goes_on), transfer_progress(answer) as show:
        while True:
            show(answer)
            if answer["complete"]:
                return answer
            time.sleep(POLL_S)
            if answer["paused"]:
                raise UserError(f"{answer['name']} is paused", f"`p2pml data resume {answer['name']}`")
            if answer["problem"]:
                raise UserError(answer["problem"], "`p2pml data get` again goes on where it stopped")
            answer = node.get(f"/datasets/{infohash}")
