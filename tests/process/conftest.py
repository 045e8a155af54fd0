"""Networks of real daemons on loopback, and what must hold of them whatever was done to them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from chain import address
from chain.genesis import Genesis
from chain.types import Block
from chain.votes import Vote, conflict
from p2pml.cli.local_network import TOKEN, LocalNetwork, LocalNode, free_ports
from p2pml.client import NodeClient
from p2pml.errors import UserError
from p2pml.home import Home
from p2pml.node.chain_income import Income, incomes
from p2pml.node.setup import set_up
from p2pml.storage.chain_db import ChainDb

REPO = Path(__file__).parents[2]
ALLOCATION = 1000 * TOKEN
LONG_S = 400.0
"""The machine may be busy with other things: what takes seconds is given minutes."""


@dataclass(frozen=True)
class Outcome:
    """What a command printed and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def command(*arguments: str, home: Path | None = None) -> list[str]:
    return [sys.executable, "-m", "p2pml", *arguments, *(["--home", str(home)] if home else [])]


def run_command(*arguments: str, home: Path | None = None, **environment: str) -> Outcome:
    """Run `p2pml` as its user does; no command ever shows a traceback."""
    variables = {**os.environ, "P2PML_PASSPHRASE": "secret", "NO_COLOR": "1", **environment}
    variables.pop("P2PML_HOME", None)
    done = subprocess.run(
        command(*arguments, home=home), capture_output=True, text=True, timeout=LONG_S, env=variables
    )
    assert "Traceback" not in done.stdout + done.stderr
    return Outcome(done.returncode, done.stdout, done.stderr)


@dataclass
class Ledger:
    """Adds blocks up by account, by the chain's rules, from the blocks and what they issued.

    Tokens in escrow still count as the requester's.

    Attributes:
        balances: what each account gained or lost.
        paid: for each job, by round and client, the trainer that was paid.
        issued: base units that the blocks issued.
    """

    requester: str
    issued: int = 0
    balances: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    paid: dict[str, dict[tuple[int, int], str]] = field(default_factory=lambda: defaultdict(dict))
    _price: dict[str, int] = field(default_factory=dict)
    _left: dict[str, int] = field(default_factory=dict)

    def add(self, block: dict[str, Any], income: Income) -> None:
        for part in (income.proposer, income.votes, income.audits):
            for public, amount in part.items():
                self.balances[address.encode(public)] += amount
        self.issued += income.issued
        for tx in block["transactions"]:
            payload = tx["payload"]
            self._move(tx["sender"], block["proposer"], tx["fee"])
            if tx["type"] == "transfer":
                self._move(tx["sender"], payload["to"], payload["amount"])
            elif tx["type"] == "job_open":
                assert tx["sender"] == self.requester
                self._price[tx["id"]], self._left[tx["id"]] = payload["price"], payload["budget"]
            elif tx["type"] in ("job_settle", "job_claim"):
                self._pay(payload["job"], payload["receipts"])

    def _pay(self, job: str, receipts: list[dict[str, Any]]) -> None:
        for receipt in receipts:
            key = receipt["round"], receipt["client"]
            assert key not in self.paid[job], "a client of a round was paid twice"
            self.paid[job][key] = receipt["trainer"]
            pay = min(receipt["samples"] * self._price[job], self._left[job])
            self._left[job] -= pay
            self._move(self.requester, receipt["trainer"], pay)

    def _move(self, source: str, to: str, amount: int) -> None:
        self.balances[source] -= amount
        self.balances[to] += amount


@dataclass
class Cluster:
    """A running local network.

    Attributes:
        network: its nodes; the first is where the others find each other.
        root: everything of it is below.
        genesis: that all share.
    """

    network: LocalNetwork
    root: Path
    genesis: Genesis = field(init=False)

    def __post_init__(self) -> None:
        self.genesis = Genesis.from_json(self.nodes[0].home.genesis_file.read_text())
        self.scratch.mkdir()
        for node in self.nodes:
            node.extra_env["TMPDIR"] = str(self.scratch)

    @property
    def nodes(self) -> list[LocalNode]:
        return self.network.nodes

    @property
    def scratch(self) -> Path:
        """The temporary folder of all its processes, which is also how they are known."""
        return self.root / "scratch"

    def wait(self, what: str, check: Callable[[], Any], timeout_s: float = LONG_S) -> Any:
        """Poll until `check` gives something other than None; fails, with the daemons' last words."""
        try:
            return self.network.wait(what, check, timeout_s)
        except UserError as error:
            ends = "\n".join(f"--- {node.name}\n{node.last_words(15)}" for node in self.nodes)
            raise AssertionError(f"{error.cause}\n{ends}") from error

    # -- nodes -----------------------------------------------------------------------------------------

    def start(self, node: LocalNode) -> None:
        """Start a daemon and wait until it answers."""
        node.start()
        self.wait(f"{node.name} does not answer", lambda: node.get("/status"))

    def add(self, name: str, *, workers: bool = False) -> LocalNode:
        """A node that is no founder, in a home of its own; not started."""
        port, api_port = free_ports(2)
        home = Home(self.root / name)
        settings = {
            "name": name,
            "listen": "127.0.0.1",
            "port": port,
            "api_port": api_port,
            "bootstrap": [self.nodes[0].multiaddr],
            "trainer": workers,
            "worker_threads": 1 if workers else 0,
        }
        identity = set_up(home, settings, self.nodes[0].home.genesis_file)
        node = LocalNode(name, home, port, api_port, identity["peer_id"], identity["account"])
        node.extra_env["TMPDIR"] = str(self.scratch)
        self.nodes.append(node)
        return node

    def kill9(self, node: LocalNode) -> None:
        """SIGKILL the daemon alone; its worker must find out by itself and end too."""
        assert node.process is not None
        assert node.process.poll() is None, f"{node.name} had ended by itself: {node.last_words(15)}"
        workers = children(node.process.pid)
        node.process.send_signal(signal.SIGKILL)
        assert node.process.wait(30) == -signal.SIGKILL
        deadline = time.monotonic() + 30
        while any(is_running(pid) for pid in workers) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(is_running(pid) for pid in workers), f"the worker of {node.name} outlived its daemon"
        node.wait_stopped(1)

    def wait_for_workers(self, *nodes: LocalNode) -> None:
        """Until these nodes can train and the first node of the network knows it."""

        def warm() -> bool | None:
            found = [node.get("/status") for node in nodes]
            known = {peer["peer_id"] for peer in self.nodes[0].get("/peers") if peer["trainer"]}
            trainers = {item["peer_id"] for item in found if item["trainer"]} - {self.nodes[0].peer_id}
            ready = all(item["worker"] == "ready" for item in found)
            return True if ready and known >= trainers else None

        self.wait("the workers did not get ready", warm)

    # -- the chain -------------------------------------------------------------------------------------

    @property
    def running(self) -> list[LocalNode]:
        return [node for node in self.nodes if node.is_running()]

    def head(self, node: LocalNode) -> dict[str, Any]:
        return same_as(node.get("/status")["head"])

    def heights(self) -> list[int]:
        """Of all nodes that run."""
        return [self.head(node)["height"] for node in self.running]

    def final_heights(self) -> list[int]:
        """Of all nodes that run: up to where their blocks are final."""
        return [node.get("/status")["head"]["final_height"] for node in self.running]

    def wait_same_head(self, above: int = 0) -> dict[str, Any]:
        """Until every running node has the same head, higher than `above`."""

        def same() -> dict[str, Any] | None:
            heads = [self.head(node) for node in self.running]
            equal = all(head["id"] == heads[0]["id"] for head in heads)
            return heads[0] if equal and heads[0]["height"] > above else None

        head: dict[str, Any] = self.wait("the nodes do not agree on one head", same)
        return head

    def blocks(self, node: LocalNode, height: int) -> list[dict[str, Any]]:
        """The node's chain from block 1 to `height`."""
        found: list[dict[str, Any]] = []
        while len(found) < height:
            page = node.get("/blocks", first=len(found) + 1, count=100)
            assert page, f"{node.name} has no block {len(found) + 1}"
            found += page
        return found[:height]

    def check_books(self) -> Ledger:
        """On every node the supply adds up to the unit, and every balance is what the blocks say.

        Returns:
            the first node's books.
        """
        self.wait_same_head()
        ledgers = [self._check_books(node) for node in self.running]
        return ledgers[0]

    def _check_books(self, node: LocalNode) -> Ledger:
        addresses = [other.address for other in self.nodes]

        def snapshot() -> tuple[Any, ...] | None:
            head = self.head(node)
            with NodeClient(node.home) as client:
                accounts = [client.get(f"/accounts/{one}") for one in addresses]
                supply = client.get("/supply")
            chain = self.blocks(node, head["height"])
            with closing(ChainDb(node.home.chain_db, self.genesis.chain_id)) as db:
                stored = list(db.best_branch())
            same = [block.block_id.hex() for block in stored] == [block["id"] for block in chain]
            return (accounts, supply, chain, stored) if same and self.head(node) == head else None

        accounts, supply, chain, stored = self.wait(f"the chain of {node.name} does not rest", snapshot)
        founders = len(self.genesis.validators)
        assert supply["genesis"] == founders * ALLOCATION
        ledger = Ledger(self.nodes[0].address)
        for block, income in zip(chain, incomes(self.genesis, stored), strict=True):
            ledger.add(block, income)
        balances = {item["address"]: item["balance"] + item["vesting"] for item in accounts}
        held = supply["balances"] + supply["vesting"]
        assert (supply["issued"], supply["burned"]) == (ledger.issued, 0)
        assert sum(balances.values()) == held, "somebody else has tokens"
        assert held + supply["escrow"] == supply["genesis"] + ledger.issued
        expected = {one: ledger.balances[one] for one in addresses}
        for founder in self.nodes[:founders]:
            expected[founder.address] += ALLOCATION
        expected[ledger.requester] -= supply["escrow"]
        assert balances == expected, f"balances on {node.name} are not what its blocks say"
        return ledger

    def stored(self, node: LocalNode) -> list[Block]:
        """All blocks on the node's disk, side branches too."""
        with closing(sqlite3.connect(f"file:{node.home.chain_db}?mode=ro", uri=True)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            return [Block.decode(data) for (data,) in db.execute("SELECT data FROM blocks")]

    def seals(self, node: LocalNode) -> dict[tuple[bytes, int], set[bytes]]:
        """The ids of the stored blocks by proposer and slot."""
        found: dict[tuple[bytes, int], set[bytes]] = defaultdict(set)
        for block in self.stored(node):
            slot = self.genesis.slot_at(block.sealed.timestamp_ms)
            found[block.sealed.proposer, slot].add(block.block_id)
        return found

    def votes(self) -> dict[bytes, set[Vote]]:
        """By voter, the votes in all blocks that any node has on its disk."""
        found: dict[bytes, set[Vote]] = defaultdict(set)
        for node in self.nodes:
            for block in self.stored(node):
                for vote in block.body.votes:
                    found[vote.voter].add(vote)
        return found

    def check_signatures(self) -> None:
        """Nobody sealed one slot twice or voted against itself, as far as any disk shows."""
        height = max(self.heights())
        seals: dict[tuple[bytes, int], set[bytes]] = defaultdict(set)
        for node in self.nodes:
            for key, ids in self.seals(node).items():
                seals[key] |= ids
        assert len(seals) >= height
        assert [key for key, ids in seals.items() if len(ids) > 1] == [], "two seals for one slot"
        votes = self.votes()
        assert len(votes) == len(self.genesis.validators), "everybody voted"
        said = [conflict(one, other) for mine in votes.values() for one, other in combinations(mine, 2)]
        assert [why for why in said if why] == [], "a validator contradicted itself"

    # -- jobs ------------------------------------------------------------------------------------------

    def start_job(self, spec: str) -> str:
        """Give the first node a job; its id."""
        path = self.root / "job.yaml"
        path.write_text(spec)
        started = run_command("train", "--detach", "--json", "--job", str(path), home=self.nodes[0].home.root)
        assert started.code == 0, started.err
        job_id: str = started.json["id"]
        return job_id

    def job(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.nodes[0].get(f"/jobs/{job_id}")
        return found

    def wait_job(
        self, job_id: str, what: str, check: Callable[[dict[str, Any]], Any], timeout_s: float = LONG_S
    ) -> Any:
        """Until `check` of the job's record gives something; a job that ended otherwise fails at once."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            job = self.job(job_id)
            found = check(job)
            if found is not None:
                return found
            assert job["state"] not in ("failed", "stopped", "done"), f"{what}: {job}"
            time.sleep(0.03)
        raise AssertionError(f"{what}: not within {timeout_s:.0f} s: {job}")

    def finish_job(self, job_id: str) -> dict[str, Any]:
        """Until the job is done."""
        found: dict[str, Any] = self.wait_job(
            job_id, "the job did not finish", lambda job: job if job["state"] == "done" else None
        )
        return found


def same_as(block: dict[str, Any]) -> dict[str, Any]:
    return {key: block[key] for key in ("id", "height", "slot")}


def children(pid: int) -> list[int]:
    """The processes that this one started."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            stat = (path / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(stat[1]) == pid:
            found.append(int(path.name))
    return found


def is_running(pid: int) -> bool:
    """Whether a process is there and not merely unreaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def processes_in(folder: Path) -> list[str]:
    """Command lines of the processes whose temporary folder this is."""
    mark, found = f"TMPDIR={folder}".encode(), []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (path / "environ").read_bytes().split(b"\0"):
                found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


@contextmanager
def _cluster(
    root: Path, count: int, prepare: Callable[[LocalNetwork], None] = lambda network: None, **options: Any
) -> Iterator[Cluster]:
    """A started network; afterwards none of its processes is left, and none left a temporary file.

    `prepare` is called before its nodes start. It has no rating windows unless asked: in tests of minutes
    they would only take turns with the rest.
    """
    options = {"params": {"window_every_epochs": 0}, **options}
    try:
        with LocalNetwork(root / "net", count, **options) as network:
            cluster = Cluster(network, root)
            prepare(network)
            network.start()
            cluster.wait("no common block", lambda: cluster.wait_same_head() or None)
            yield cluster
        deadline = time.monotonic() + 15
        while processes_in(cluster.scratch) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert processes_in(cluster.scratch) == []
        assert [path.name for path in cluster.scratch.iterdir()] == []
    finally:
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def p2pml() -> Callable[..., Outcome]:
    """Runs the command line in a process of its own."""
    return run_command


@pytest.fixture(scope="session")
def p2pml_command() -> Callable[..., list[str]]:
    """The command line to start `p2pml` with."""
    return command


@pytest.fixture(scope="module")
def start_cluster(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Starts a network: `with start_cluster(count, …) as cluster`."""
    return lambda count, **options: _cluster(tmp_path_factory.mktemp("net"), count, **options)


@pytest.fixture(scope="module")
def mnist_tar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """MNIST in a tar, as the README says; skips loudly when it is not here."""
    source = Path(os.environ.get("P2PML_MNIST", REPO.parent / "shared" / "data" / "mnist.npz"))
    if not source.exists():
        pytest.skip(f"NOT TESTED: MNIST IS NOT AT {source}; set P2PML_MNIST to an mnist.npz")
    folder = tmp_path_factory.mktemp("mnist")
    with tarfile.open(folder / "mnist.tar", "w") as archive:
        archive.add(source, arcname="mnist.npz")
    yield folder / "mnist.tar"
    shutil.rmtree(folder)
