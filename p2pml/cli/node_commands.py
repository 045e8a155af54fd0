"""`p2pml init | daemon | stop | status`: one node's life."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from p2pml.cli.options import HomeOption, JsonOption
from p2pml.cli.output import columns, emit, emit_json, fields, is_live, say, short, tokens
from p2pml.cli.rating_commands import window_line
from p2pml.cli.worker_commands import describe_state
from p2pml.client import NodeClient
from p2pml.config import Config
from p2pml.errors import ExitCode, UserError
from p2pml.home import Home
from p2pml.node.setup import set_up

STOP_TIMEOUT_S = 30.0

NameOption = Annotated[str | None, typer.Option("--name", help="how this node is called")]
ListenOption = Annotated[str | None, typer.Option("--listen", help="IP address of the peer-to-peer port")]
PortOption = Annotated[int | None, typer.Option("--port", help="peer-to-peer port")]
BitTorrentOption = Annotated[
    int | None, typer.Option("--bittorrent-port", help="port for ordinary BitTorrent clients; 0: none")
]
ApiPortOption = Annotated[int | None, typer.Option("--api-port", help="port of the read-only HTTP API")]
BootstrapOption = Annotated[
    list[str] | None, typer.Option("--bootstrap", help="address of a node to connect to; may be repeated")
]
TrainerOption = Annotated[
    bool | None, typer.Option("--trainer/--no-trainer", help="offer to train for others", show_default=False)
]
IdleOption = Annotated[
    bool | None,
    typer.Option(
        "--idle/--no-idle",
        help="publish blocks and votes only while something waits, or in every slot",
        show_default=False,
    ),
]
PruneOption = Annotated[
    bool | None,
    typer.Option("--prune/--no-prune", help="drop old blocks, keep snapshots", show_default=False),
]
CheckpointOption = Annotated[
    str | None,
    typer.Option(
        "--checkpoint",
        metavar="HEIGHT:ID:ROOT",
        help="let a fresh home begin at this final block, as a node you trust prints it by `p2pml chain"
        " checkpoint`",
    ),
]
GenesisOption = Annotated[Path | None, typer.Option("--genesis", help="genesis file of the network to join")]


def register(app: typer.Typer) -> None:
    app.command("init")(init)
    app.command("daemon")(daemon)
    app.command("stop")(stop)
    app.command("status")(status)


def init(
    home: HomeOption = None,
    name: NameOption = None,
    listen: ListenOption = None,
    port: PortOption = None,
    api_port: ApiPortOption = None,
    bittorrent_port: BitTorrentOption = None,
    bootstrap: BootstrapOption = None,
    trainer: TrainerOption = None,
    genesis: GenesisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a node's home: its keys, its config.toml, and the network's genesis when it is given."""
    place = Home.locate(home)
    given = {
        "name": name,
        "listen": listen,
        "port": port,
        "api_port": api_port,
        "bittorrent_port": bittorrent_port,
        "bootstrap": bootstrap or None,
        "trainer": trainer,
    }
    identity = set_up(place, given, genesis)
    if as_json:
        emit_json(identity)
        return
    emit(fields(identity.items()))
    if not place.genesis_file.exists():
        say("next: found a network with `p2pml genesis create`, or join one with `p2pml init --genesis FILE`")


def daemon(
    home: HomeOption = None,
    name: NameOption = None,
    listen: ListenOption = None,
    port: PortOption = None,
    api_port: ApiPortOption = None,
    bittorrent_port: BitTorrentOption = None,
    bootstrap: BootstrapOption = None,
    trainer: TrainerOption = None,
    idle: IdleOption = None,
    genesis: GenesisOption = None,
    prune: PruneOption = None,
    checkpoint: CheckpointOption = None,
    stop_with_stdin: Annotated[bool, typer.Option("--stop-with-stdin", hidden=True)] = False,
) -> None:
    """Run the node in the foreground until Ctrl-C or `p2pml stop`. Options overrule config.toml for this
    run.

    A trusted --checkpoint is needed where the votes in the blocks cannot tell the right chain any more: by a
    node that was away for longer than evidence is good for, and by everybody after more than a third of the
    rated power was lost for good. It also spares a new node from executing all blocks.
    """
    place = Home.locate(home)
    config = Config.load(place).override(
        name=name,
        listen=listen,
        port=port,
        api_port=api_port,
        bittorrent_port=bittorrent_port,
        bootstrap=bootstrap or None,
        trainer=trainer,
        idle=idle,
        prune=prune,
        checkpoint=checkpoint,
    )
    place.create()
    if genesis is not None:
        from p2pml.node.genesis_file import install_genesis

        install_genesis(place, genesis)
    # Read once, when NumPy is imported: what a node replays for others must take one core, not all.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from p2pml.api.daemon import run_daemon  # everything heavy, only here

    run_daemon(place, config, stop_with_stdin=stop_with_stdin)


def stop(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Stop the node of this home and wait until it is gone."""
    from p2pml.node.lock import holder

    place = Home.locate(home)
    found = holder(place.lock_file)
    if found is None:
        raise UserError(
            f"no daemon is running for the home {place.root}",
            "nothing to stop; if it runs elsewhere, name its --home",
            ExitCode.DAEMON_DOWN,
        )
    try:
        with NodeClient(place) as node:
            node.post("/shutdown")
    except UserError as error:
        say(f"it does not answer ({error.cause}); sending it SIGTERM")
        os.kill(found.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while time.monotonic() < deadline:
        if holder(place.lock_file) is None:
            say(f"stopped (PID {found.pid})")
            if as_json:
                emit_json({"home": str(place.root), "pid": found.pid})
            return
        time.sleep(0.05)
    raise UserError(
        f"PID {found.pid} still runs after {STOP_TIMEOUT_S:.0f} s", f"end it with `kill {found.pid}`"
    )


def status(
    home: HomeOption = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="go on, once a second")] = False,
    wait: Annotated[
        float, typer.Option("--wait", min=0, help="seconds to wait for the daemon and its worker to be up")
    ] = 0.0,
    as_json: JsonOption = False,
) -> None:
    """What the node is doing: chain, peers, worker, data, jobs."""
    place = Home.locate(home)
    _wait_until_up(place, time.monotonic() + wait)
    with NodeClient(place) as node:
        if not watch:
            answer, peers = node.get("/status"), node.get("/peers")
            if as_json:
                emit_json({**answer, "peer_list": peers})
            else:
                emit(describe(answer, peers))
            return
        _watch(node, as_json)


def _wait_until_up(home: Home, deadline: float) -> None:
    """Return when the daemon answers and its worker no longer starts, or at the deadline."""
    while time.monotonic() < deadline:
        try:
            with NodeClient(home) as node:
                if node.get("/status")["worker"] != "starting":
                    return
        except UserError as error:
            if error.code is not ExitCode.DAEMON_DOWN:
                raise
        time.sleep(0.2)


def _watch(node: NodeClient, as_json: bool) -> None:
    import sys

    if as_json or not is_live(sys.stdout):
        while True:
            answer = node.get("/status")
            if as_json:
                emit_json(answer)
            else:
                height, slot = answer["head"]["height"], answer["slot"]
                emit(f"height {height} slot {slot} peers {answer['peers']} worker {answer['worker']}")
            time.sleep(1)
    from rich.live import Live
    from rich.text import Text

    with Live(refresh_per_second=4) as live:
        while True:
            live.update(Text.from_ansi(describe(node.get("/status"), node.get("/peers"))))
            time.sleep(1)


def describe(answer: dict[str, Any], peers: list[dict[str, Any]]) -> str:
    """The status as text for people."""
    head, window = answer["head"], answer.get("rating_window")
    worker = describe_state(answer["worker"], answer["worker_reason"], answer.get("worker_rests", []))
    block = "no block yet"
    if head["height"] >= 1:
        final = f"final up to {head['final_height']}"
        block = f"height {head['height']} ({head['id'][:16]}), slot {head['slot']}, {final}{_idle(answer)}"
    lines = fields(
        [
            ("node", f"{answer['name'] or '(no name)'}  PID {answer['pid']}, up {answer['uptime_s']:.0f} s"),
            ("peer id", answer["peer_id"]),
            *(("address", item) for item in answer["addresses"]),
            (
                "account",
                f"{answer['account']}  {tokens(answer['balance'])} tokens, rating {answer['rating']}",
            ),
            ("network", f"{answer['network']} ({answer['chain_id'][:16]}), now slot {answer['slot']}"),
            ("head", block),
            *(
                [("pruned", f"blocks below height {answer['lowest_body']} are not here")]
                if answer.get("lowest_body", 1) > 1
                else []
            ),
            ("clock", _clock(answer)),
            *([("rating window", window_line(window, time.time() * 1000))] if window else []),
            ("worker", worker),
            ("work", f"{answer['datasets']} datasets, {answer['jobs_running']} jobs running"),
        ]
    )
    rows = [
        (
            peer["name"] or short(peer["peer_id"], 14),
            peer["rating"],
            peer["height"],
            "busy" if peer["busy"] else "trainer" if peer["trainer"] else "–",
            peer["connected"],
        )
        for peer in peers
    ]
    if not rows:
        return f"{lines}\nno peers yet"
    return f"{lines}\n\n" + columns(("PEER", "RATING", "HEIGHT", "TRAINS", "CONNECTED"), rows, right=(1, 2))


def _idle(answer: dict[str, Any]) -> str:
    """Why no block came for a while, if that is because nothing waits for one."""
    beat, seconds = answer.get("heartbeat_slot"), answer["slot_ms"] / 1000
    silent = answer["slot"] - answer["head"]["slot"]
    if beat is None or silent < 2:
        return ""
    due = max(beat - answer["slot"], 0)
    return f", {silent * seconds:.0f} s ago: idle, next heartbeat in {due * seconds:.0f} s"


def _clock(answer: dict[str, Any]) -> str:
    """How far this machine's clock is from those of its peers."""
    offset, peers = answer.get("clock_ms"), answer.get("clock_peers", 0)
    if offset is None:
        return "not compared yet"
    who = f"{peers} peer{'s' if peers != 1 else ''}"
    if abs(offset) <= answer["clock_limit_ms"]:
        return f"within {abs(offset)} ms of {who}"
    side = "behind" if offset > 0 else "ahead of"
    return f"WRONG: {abs(offset) / 1000:.1f} s {side} {who}: neither proposing nor voting; correct it (NTP)"
