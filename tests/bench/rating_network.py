"""Ratings on a network of six daemons, over at least seven windows; prints JSON.

    python -m tests.bench.rating_network --mnist mnist.npz                  # about 27 minutes on two cores
    python -m tests.bench.rating_network --mnist mnist.npz --report FILE    # and writes it as a page

Five founders begin with the genesis's equal ratings. A sixth node joins by a sponsor's invite, without a
token of its own, and earns its first rating in window 1. After window 2 one node may use half of the
processor time that it could use before; the voters replace the digits by MNIST, which one node seeds as a
torrent and all others fetch. After window 3 one node is stopped and its rating ends. Every block's proposer
is checked against its draw by executing the chain again, and all draws against the weight table of their
epoch.

The preset is `demo` but for what `PARAMS` says, so that six nodes on two cores have the time: 56 s windows in
which each node may use `CAP` per cent of one core, which are 20 to 80 segments by machine, and half of that
for the node that is throttled: an episode of 8 has to fit. Evaluations get 40 s and audits 72, because all
segments are audited when they are so few.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from chain.genesis import Genesis
from p2pml.cli.local_network import LocalNetwork, LocalNode, free_ports
from p2pml.client import NodeClient
from p2pml.config import Config
from p2pml.errors import UserError
from p2pml.home import Home
from p2pml.storage.chain_db import ChainDb
from tests.bench.rating_draws import drawn_first, epochs_of, fairness
from tests.bench.rating_page import page

PARAMS = {
    "window_slots": 20, "window_every_epochs": 7, "reveal_slots": 20, "audit_commit_slots": 36,
    "rating_epochs": 13,
}  # fmt: skip
CAP = 16
WATTS = 10
"""What node 3 declares, alone: its energy is weighed."""
FOUNDERS = 5
NEWCOMER, THROTTLED, FRUGAL, STOPPED = "node6", "node2", "node3", "node5"
LIKELY = 1e-4
"""Draws that are less likely than this under the tables are not by them."""
PATIENCE = 3.0
"""Times of a window's way that its end may take."""


@dataclass
class Run:
    """What was seen, window by window."""

    network: LocalNetwork
    windows: list[dict[str, Any]] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def first(self) -> LocalNode:
        """The node that is asked."""
        return self.network.nodes[0]

    def node(self, name: str) -> LocalNode:
        """By name."""
        return next(node for node in self.network.nodes if node.name == name)

    def say(self, text: str) -> None:
        """Progress, for people."""
        print(f"{time.monotonic() - self.began:7.1f} s  {text}", file=sys.stderr, flush=True)

    def closed(self, number: int) -> None:
        """Wait until a window is closed, and note what it gave."""
        every = self.first.get("/rating/windows")["every_slots"]

        def over() -> dict[str, Any] | None:
            latest = self.first.get("/rating/windows")["latest"]
            passed = latest is not None and (latest["start"], latest["over"]) >= (number * every, True)
            return latest if passed else None

        slot_s = self.first.get("/status")["slot_ms"] / 1000
        latest = self.network.wait(f"window {number} is not closed", over, PATIENCE * every * slot_s)
        self.windows.append({"number": number, "window": latest, "nodes": self._outcomes(latest["start"])})
        told = {name: (item["rating"], item["outcome"]) for name, item in self.windows[-1]["nodes"].items()}
        self.say(f"window {number} {'VOID' if latest['void'] else 'closed'}: {told}")

    def _outcomes(self, start: int) -> dict[str, dict[str, Any]]:
        """Of each validator: rating, chance, and what the window of that slot gave it."""
        found = {}
        for rank in self.first.get("/ratings"):
            detail = self.first.get(f"/ratings/{rank['address']}")
            mine = [outcome for outcome in detail["outcomes"] if outcome["window"] == start]
            found[rank["name"]] = {
                "rating": detail["rating"],
                "chance": round(detail["odds"][0]["share"], 4),
                "outcome": mine[0]["rating"] if mine else None,
                "segments": mine[0]["segments"] if mine else None,
                "quality": mine[0]["quality"] if mine else None,
                "energy_factor": mine[0]["energy_factor"] if mine else None,
                "reason": mine[0]["reason"] if mine else "not registered",
                "duties": mine[0]["duties"] if mine else 0,
                "missed": mine[0]["missed"] if mine else 0,
            }
        return found


def join(run: Run) -> None:
    """A newcomer by a sponsor's invite: its account has nothing."""
    text = _command("invite", "--sponsor", "--home", str(run.first.home.root), "--json")["invite"]
    home = Home(run.network.root / NEWCOMER)
    port, api_port = free_ports(2)
    given = ["--listen", "127.0.0.1", "--port", str(port), "--api-port", str(api_port), "--no-trainer"]
    made = _command("join", text, "--home", str(home.root), "--name", NEWCOMER, *given, "--json")
    configure(home, worker_threads=0, idle=False, mdns=False, rating_lanes=1, rating_cap=CAP)
    node = LocalNode(NEWCOMER, home, port, api_port, made["peer_id"], made["account"])
    run.network.nodes.append(node)
    node.start()
    balance = run.network.wait("the newcomer does not answer", lambda: node.get("/status")["balance"], 60)
    run.told["newcomer"] = {"balance_when_it_joined": balance, "registered_in_block": made["block"]}
    run.say(f"{NEWCOMER} registered in block {made['block']} with a balance of {balance}")


def throttle(run: Run) -> None:
    """Half of the processor time, from the next window on."""
    node = run.node(THROTTLED)
    node.request_stop()
    node.wait_stopped(30)
    configure(node.home, rating_cap=CAP // 2)
    node.start()
    run.network.wait(f"{THROTTLED} does not answer", lambda: node.get("/status"), 60)
    run.say(f"{THROTTLED} may use {CAP // 2} % of a core from now on, before {CAP} %")


def replace_baseline(run: Run, mnist: Path) -> None:
    """Seed MNIST at one node, propose it, and approve until it is adopted."""
    with NodeClient(run.first.home) as node:
        seeded = node.post(
            "/datasets", {"action": "seed", "path": str(mnist.resolve()), "name": "mnist.npz"}, timeout_s=None
        )
        node.post("/parameters/proposals", {"dataset": seeded["infohash"]})
    found = run.network.wait("no proposal", lambda: run.first.get("/parameters")["proposals"] or None, 60)
    for node in run.network.nodes[1:]:
        if not run.first.get("/parameters")["proposals"]:
            break
        with NodeClient(node.home) as client:
            try:
                client.post("/parameters/approvals", {"proposal": found[0]["id"]})
            except UserError as error:
                run.say(f"{node.name} does not approve: {error.cause}")
    adopted = run.network.wait("not adopted", lambda: run.first.get("/parameters")["coming"] or None, 120)
    run.told["baseline"] = {"infohash": seeded["infohash"], "from_epoch": adopted[-1]["epoch"]}
    run.say(f"MNIST ({seeded['infohash'][:8]}) holds from epoch {adopted[-1]['epoch']} on")


def stop(run: Run) -> None:
    """One node for good."""
    node = run.node(STOPPED)
    node.request_stop()
    node.wait_stopped(30)
    run.say(f"{STOPPED} is stopped")


def configure(home: Home, **changes: Any) -> None:
    """Other values in a home's config.toml."""
    home.config_file.write_text(Config.load(home).override(**changes).to_toml(), encoding="utf-8")


def judge(run: Run) -> dict[str, Any]:
    """What had to come true, each with what was seen."""
    windows, board = run.windows, {rank["name"]: rank for rank in run.first.get("/ratings")}
    status, supply = run.first.get("/status"), run.first.get("/supply")
    others = [name for name in board if name not in (THROTTLED, STOPPED)]
    last = windows[-1]["nodes"]
    usual = median(last[name]["segments"] or 0 for name in others)
    ratings = [window["nodes"].get(NEWCOMER, {"rating": None})["rating"] for window in windows]
    rated_on_mnist = [
        window["number"]
        for window in windows
        if window["window"]["start"] // run.told["slots_per_epoch"] >= run.told["baseline"]["from_epoch"]
        and sum(item["reason"] == "rated" for item in window["nodes"].values()) >= len(board) - 1
    ]
    open_blocks = status["head"]["height"] - status["head"]["final_height"]
    share = (last[THROTTLED]["segments"] or 0) / max(usual, 1)
    weighed = board[THROTTLED]["rating"] / max(median(board[name]["rating"] for name in others), 1)
    return {
        "windows rated": _verdict(
            not any(item["window"]["void"] for item in windows), [item["number"] for item in windows]
        ),
        "newcomer earns a rating": _verdict(bool(ratings[0]) and board[NEWCOMER]["share"] > 0, ratings),
        "throttled node's work follows": _verdict(0.3 < share < 0.75, round(share, 3)),
        "throttled node's rating follows": _verdict(0.3 < weighed < 0.8, round(weighed, 3)),
        "stopped node's rating ends": _verdict(
            board[STOPPED]["rating"] == 0, [window["nodes"][STOPPED]["rating"] for window in windows]
        ),
        "all rated on MNIST": _verdict(bool(rated_on_mnist), rated_on_mnist),
        "final but for the last blocks": _verdict(open_blocks <= 6, open_blocks),
        "books add up": _verdict(supply["adds_up"], supply["issued"]),
    }


def draws(run: Run) -> dict[str, Any]:
    """The chain of the first node executed again, and its draws against its tables."""
    home = run.first.home
    genesis = Genesis.from_json(home.genesis_file.read_text(encoding="utf-8"))
    with closing(ChainDb(home.chain_db, genesis.chain_id)) as db:
        epochs = epochs_of(genesis, db.best_branch(0))
    found = fairness(genesis, [table for _, table in epochs.values()], drawn_first(genesis, epochs))
    names = {node.address: node.name for node in run.network.nodes}
    found["accounts"] = [names[account] for account in found["accounts"]]
    return found


def study(run: Run, mnist: Path, windows: int) -> dict[str, Any]:
    """The whole run."""
    network = run.network
    network.start()
    network.wait("no block", lambda: run.first.get("/status")["head"]["height"] >= 3 or None, 120)
    parameters = run.first.get("/parameters")["params"]
    run.told["slots_per_epoch"] = parameters["slots_per_epoch"]
    join(run)
    after: Mapping[int, tuple[Callable[[], None], ...]] = {
        2: (lambda: throttle(run), lambda: replace_baseline(run, mnist)),
        3: (lambda: stop(run),),
    }
    for number in range(1, windows + 1):
        run.closed(number)
        for act in after.get(number, ()):
            act()
    verdicts = judge(run)
    cpu = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)}
    network.close()
    found = draws(run)
    verdicts["draws follow the tables"] = _verdict(found["p"] > LIKELY, round(found["p"], 5))
    return {
        "machine": cpu,
        "seconds": round(time.monotonic() - run.began),
        "parameters": {"preset": "demo", **PARAMS, "cap": CAP, "slot_ms": parameters["slot_ms"]},
        "checks": verdicts,
        "windows": run.windows,
        "draws": found,
        **run.told,
    }


def _verdict(ok: bool, seen: object) -> dict[str, Any]:
    return {"ok": ok, "seen": seen}


def _command(*words: str) -> Any:
    """What a command prints as JSON; its prose goes where ours goes."""
    command = [sys.executable, "-m", "p2pml", *words]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=300).stdout)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mnist", type=Path, required=True, help="mnist.npz")
    parser.add_argument("--windows", type=int, default=7)
    parser.add_argument("--report", type=Path, help="a Markdown file to write the result to")
    parser.add_argument("--keep", type=Path, help="an empty folder for the homes, to look at afterwards")
    given = parser.parse_args()
    if given.windows < 6:
        parser.error("six windows at least: the throttled node's rating is the median of three")
    settings = {"rating_cap": CAP, "mdns": False}
    with TemporaryDirectory() as folder:
        root = given.keep or Path(folder)
        with LocalNetwork(
            root, FOUNDERS, workers=False, idle=False, settings=settings, params=PARAMS
        ) as network:
            run = Run(network)
            configure(run.node(FRUGAL).home, rating_watts=WATTS)
            found = study(run, given.mnist, given.windows)
    print(json.dumps(found, indent=1))
    if given.report:
        given.report.parent.mkdir(parents=True, exist_ok=True)
        given.report.write_text(page(found), encoding="utf-8")
    return 0 if all(item["ok"] for item in found["checks"].values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
