"""`p2pml demo`: real nodes on this machine, real data, a paid training job, and the books at the end."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from p2pml.cli.demo_data import TOKENS, make_spec
from p2pml.cli.demo_report import Account, Report, make_report
from p2pml.cli.local_network import TOKEN, LocalNetwork, LocalNode
from p2pml.cli.options import JsonOption
from p2pml.cli.output import columns, emit, emit_json, is_live, say, size, tokens
from p2pml.cli.train_view import TrainView, follow_job
from p2pml.client import ApiEvent, NodeClient
from p2pml.errors import ExitCode, UserError, exit_code
from p2pml.training.bundled import DIGITS_NAME, write_digits

NICENESS = 3
"""The user's own programs go first; the workers are nicer still."""
START_TIMEOUT_S = 120.0
WORKER_TIMEOUT_S = 300.0
AGREE_TIMEOUT_S = 60.0


def register(app: typer.Typer) -> None:
    app.command("demo")(demo)


def demo(
    nodes: Annotated[int, typer.Option("--nodes", min=2, max=16, help="how many nodes")] = 4,
    rounds: Annotated[int, typer.Option("--rounds", min=1, max=100, help="rounds of training")] = 5,
    keep: Annotated[
        bool, typer.Option("--keep", help="keep the nodes' folders and the trained model")
    ] = False,
    stay: Annotated[bool, typer.Option("--stay", help="leave the nodes running until Ctrl-C")] = False,
    folder: Annotated[Path | None, typer.Option("--dir", help="where to put it all (implies --keep)")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a whole network on this machine: consensus, data, training, payment. Leaves nothing behind."""
    _need_tensorflow()
    with _workplace(folder, keep) as root, _terminate_like_interrupt():
        # Without rating windows: in its minutes they would only take turns with the training.
        params = {"window_every_epochs": 0}
        with LocalNetwork(root, nodes, niceness=NICENESS, params=params) as network:
            say(f"{nodes} nodes on this machine, each with its own home below {root}")
            network.start()
            _wait_for_chain(network)
            _share_data(network)
            _wait_for_workers(network)
            answer = _train(network, rounds)
            report = _wait_for_agreement(network)
            if as_json:
                emit_json({"job": answer, "books": asdict(report)})
            else:
                emit(describe_report(report))
            if stay:
                _stay(network)
        _say_goodbye(root, keep or folder is not None, answer)


def _need_tensorflow() -> None:
    from importlib.util import find_spec

    if find_spec("tensorflow") is None:
        raise UserError(
            "TensorFlow is not installed, and the demo trains a model",
            "install p2pml with its extra: `uv sync --extra train` or `pip install p2pml[train]`",
        )


@contextmanager
def _workplace(folder: Path | None, keep: bool) -> Iterator[Path]:
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            occupied = any(folder.iterdir())
        except OSError as error:
            raise UserError(f"{folder} cannot be used: {error.strerror}", "choose another --dir") from error
        if occupied:
            raise UserError(f"the folder {folder} is not empty", "choose another --dir", ExitCode.USAGE)
        yield folder.absolute()
        return
    root = Path(tempfile.mkdtemp(prefix="p2pml-demo-"))
    try:
        yield root
    finally:
        if not keep:
            shutil.rmtree(root, ignore_errors=True)


@contextmanager
def _terminate_like_interrupt() -> Iterator[None]:
    """SIGTERM and a closed terminal end the demo as Ctrl-C does, through every clean-up; the latter not under
    nohup(1)."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = [signal.SIGTERM, signal.SIGHUP]
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _wait_for_chain(network: LocalNetwork) -> None:
    """Until every node answers, knows the others and follows a chain with blocks."""

    def ready() -> list[dict[str, Any]] | None:
        found = [node.get("/status") for node in network.nodes]
        others = len(network.nodes) - 1
        complete = all(item["peers"] >= min(others, 2) and item["head"]["height"] >= 1 for item in found)
        return found if complete else None

    with _progress("starting the nodes and their chain"):
        found = network.wait("the nodes did not find each other", ready, START_TIMEOUT_S)
    rows = [
        (node.name, node.port, f"http://127.0.0.1:{node.api_port}", item["peers"], item["head"]["height"])
        for node, item in zip(network.nodes, found, strict=True)
    ]
    say(columns(("NODE", "PORT", "API", "PEERS", "HEIGHT"), rows, right=(1, 3, 4)))


def _share_data(network: LocalNetwork) -> None:
    """The last node offers the data; the one before it fetches a copy, so that there are two sources."""
    seeder, copier = network.nodes[-1], network.nodes[-2]
    path = write_digits(network.root / "data")
    with NodeClient(seeder.home) as client:
        request = {"action": "seed", "path": str(path), "name": DIGITS_NAME}
        dataset = client.post("/datasets", request, timeout_s=None)
    say(f"{seeder.name} offers {DIGITS_NAME}: {size(dataset['size'])}, infohash {dataset['infohash']}")
    if copier is network.nodes[0]:
        return  # the requester fetches it itself

    def announced() -> dict[str, Any] | None:
        try:
            with NodeClient(copier.home) as client:
                return dict(client.post("/datasets", {"action": "get", "dataset": DIGITS_NAME}, timeout_s=60))
        except UserError as error:
            if error.code in (ExitCode.FAILURE, ExitCode.NETWORK):
                return None  # the announcement has not reached it yet
            raise

    def complete() -> dict[str, Any] | None:
        found: dict[str, Any] = copier.get(f"/datasets/{dataset['infohash']}")
        return found if found["complete"] else None

    with _progress(f"{copier.name} fetches a copy"):
        network.wait("the data set was not announced", announced, 60.0)
        network.wait("the data set did not arrive", complete, 60.0)
    say(f"{copier.name} has a verified copy and offers it too")


def _wait_for_workers(network: LocalNetwork) -> None:
    """TensorFlow takes a while to load; meanwhile show how high the chain is."""
    count, begin = len(network.nodes), time.monotonic()
    told, told_at = -1, begin

    def ready() -> bool | None:
        nonlocal told, told_at
        found = [node.get("/status") for node in network.nodes]
        off = next((item for item in found if item["worker"] == "off"), None)
        if off is not None:
            raise UserError(f"{off['name']} has no worker: {off['worker_reason']}", "see its logs/worker.log")
        warm = sum(item["worker"] != "starting" for item in found)
        heights = ", ".join(str(item["head"]["height"]) for item in found)
        text = f"{warm} of {count} workers ready; chain heights {heights}"
        if not is_live() and (warm != told or time.monotonic() - told_at >= 5):
            told, told_at = warm, time.monotonic()
            say(text)
        update(f"{text} ({time.monotonic() - begin:.0f} s)")
        return True if warm == count else None

    with _progress("loading TensorFlow in every worker") as update:
        network.wait("the workers did not get ready", ready, WORKER_TIMEOUT_S)


def _train(network: LocalNetwork, rounds: int) -> dict[str, Any]:
    """Node 1 asks for the job; its progress and the chain's head are shown side by side."""
    requester = network.nodes[0]
    spec = make_spec(rounds, len(network.nodes) - 1, network.root / "runs")
    path = network.root / "digits.yaml"
    path.write_text(spec, encoding="utf-8")
    with NodeClient(requester.home) as client:
        body = {"spec": spec, "base_dir": str(network.root), "origin": path.name}
        started = client.post("/jobs", body, timeout_s=None)
        say(f"{requester.name} asks for a model and puts {TOKENS} tokens in escrow: job {started['id'][:16]}")

        def with_heads(event: ApiEvent) -> None:
            if event.kind == "job.round":
                say(f"chain heads: {_heads(network)}")

        view = TrainView(started["id"])
        follow_job(client, view, started["events_after"], also=with_heads)
        answer: dict[str, Any] = client.get(f"/jobs/{started['id']}")
    if view.state != "done":
        raise UserError(
            f"the job ended as {view.state}: {view.reason}",
            "see --keep and the logs",
            exit_code(answer["end"]),
        )
    return answer


def _heads(network: LocalNetwork) -> str:
    found = [node.get("/status")["head"] for node in network.nodes]
    return "  ".join(
        f"{node.name} {head['height']}:{head['id'][:8]}"
        for node, head in zip(network.nodes, found, strict=True)
    )


def _wait_for_agreement(network: LocalNetwork) -> Report:
    """Until all nodes name the same head; then add the books up, at each of them."""
    names = {node.address: node.name for node in network.nodes}

    def same() -> str | None:
        heads = {node.get("/status")["head"]["id"] for node in network.nodes}
        return heads.pop() if len(heads) == 1 else None

    with _progress("comparing the nodes' chains"):
        head = network.wait("the nodes do not agree on one head", same, AGREE_TIMEOUT_S)
    say(f"all {len(network.nodes)} nodes agree on the head {head[:16]}")
    home = network.nodes[0].home
    with NodeClient(home) as client:
        return make_report(client, home, names, 1000 * TOKEN)


def describe_report(report: Report) -> str:
    """Accuracy, who earned what, and whether the books add up."""
    columns_of: dict[str, Callable[[Account], object]] = {
        "NODE": lambda item: item.name,
        "BLOCKS": lambda item: item.blocks,
        "FROM BLOCKS": lambda item: tokens(item.from_blocks),
        "FROM VOTES": lambda item: tokens(item.from_votes),
        "FROM AUDITS": lambda item: tokens(item.from_audits),
        "SAMPLES": lambda item: item.samples,
        "FROM TRAINING": lambda item: tokens(item.training),
        "SPENT": lambda item: tokens(item.spent),
        "BALANCE": lambda item: tokens(item.balance),
        "VESTING": lambda item: tokens(item.vesting),
    }
    if not any(item.from_audits for item in report.accounts):
        del columns_of["FROM AUDITS"]  # no rating window has ended
    ordered = sorted(report.accounts, key=lambda item: item.name)
    rows = [[cell(item) for cell in columns_of.values()] for item in ordered]
    accuracy = "unknown" if report.last_accuracy is None else f"{report.last_accuracy:.1%}"
    escrow = (
        f"; {tokens(report.escrow)} in escrow go back to node1 after the challenge window"
        if report.escrow
        else ""
    )
    lines = [
        "",
        f"accuracy {accuracy} on held-out digits after {report.rounds} rounds, as recorded on the chain",
        "",
        columns(tuple(columns_of), rows, right=range(1, len(columns_of))),
        "",
        f"every balance follows from the blocks: {'yes' if report.explained else 'NO'}",
        "balances + escrow + bonds + vesting = genesis + issued - burned: "
        f"{'yes' if report.adds_up else 'NO'} "
        f"({tokens(report.issued)} tokens issued in {report.height} blocks{escrow})",
    ]
    return "\n".join(lines)


def _stay(network: LocalNetwork) -> None:
    say("\nthe nodes go on until Ctrl-C; from another terminal, for example:")
    _suggest(network.nodes[0])
    try:
        while True:
            network.check_alive()
            time.sleep(1)
    except KeyboardInterrupt:
        say("stopping the nodes")


def _suggest(node: LocalNode) -> None:
    home = f"--home {node.home.root}"
    for command in ("status", "chain show", "wallet history", "data ls", "job ls"):
        say(f"  p2pml {command} {home}")


def _say_goodbye(root: Path, kept: bool, answer: dict[str, Any]) -> None:
    if kept:
        say(f"\nkept: the nodes' homes in {root}, the model in {answer.get('output') or root / 'runs'}")
        say(f"start a node again: p2pml daemon --home {root / 'node1'}")
    say("\nnext: a node of your own, and a network with friends")
    say("  p2pml init --name me                                 makes your node's home")
    say("  p2pml genesis create --out genesis.json HOME...      founds a network")
    say("  p2pml daemon --genesis genesis.json                  runs your node")
    say("  p2pml demo --stay                                    keeps the demo's nodes up to look at")


@contextmanager
def _progress(what: str) -> Iterator[Any]:
    """A spinner with a text that can be changed; off a terminal one plain line."""
    if not is_live():
        say(f"{what} …")
        yield lambda text: None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status(f"{what} …") as status:
        yield lambda text: status.update(escape(text))
