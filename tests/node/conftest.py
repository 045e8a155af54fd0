"""A small network for tests of jobs: real hosts, a ledger without consensus, a worker in NumPy."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from chain import vrf
from chain.crypto import Keypair
from chain.draft import Draft
from chain.entries import Job
from chain.genesis import Founder, Genesis
from chain.jobs import advance
from chain.params import preset
from chain.state import genesis_state
from chain.training_records import RoundRecord
from chain.transactions import JobClaim, JobSettle, Tx
from chain.transition import apply_record, apply_tx
from p2pml.errors import UserError
from p2pml.formats import keras_json, shards, tensors
from p2pml.formats.initial import initial_weights
from p2pml.net.host import Host
from p2pml.node.claims import Claims
from p2pml.node.events import Events
from p2pml.node.job_service import JobService
from p2pml.node.participant import Participant
from p2pml.node.ports import NodeParts, Trainer
from p2pml.node.tx_sender import TxSender
from p2pml.worker import protocol
from p2pml.worker.session import WorkerDied, WorkerError

TOKEN = 10**8
SLOT_S = 0.1
OVER = ("done", "failed", "stopped", "suspended")


class InstantChain:
    """The chain's real ledger and rules, where every transaction is in a block at once."""

    def __init__(self, accounts: Sequence[bytes]) -> None:
        seed = bytes([99]) * 32
        founder = Founder(Keypair.from_seed(seed).public, vrf.public_key(seed), 10, "founder")
        params = preset("demo")
        allocations = tuple((account, 1000 * TOKEN) for account in accounts)
        self.genesis = Genesis("test", 0, params, (founder,), allocations)
        self.draft = Draft(genesis_state(self.genesis))
        self.included: list[Tx] = []
        self.records: list[RoundRecord] = []
        self.held: list[Tx] | None = None
        self._begun = trio.current_time()

    async def release(self) -> None:
        """Put the transactions that were held back into a block."""
        held, self.held = self.held or [], None
        for tx in held:
            await self.submit_tx(tx)

    def skip_to(self, slot: int) -> None:
        """Let time pass on the chain alone."""
        self._begun -= max(0.0, (slot - self.slot_now()) * SLOT_S)

    def slot_now(self) -> int:
        slot = 1 + int((trio.current_time() - self._begun) / SLOT_S)
        advance(self.draft, slot)
        return slot

    def head_slot(self) -> int:
        return self.slot_now()

    def nonce(self, public: bytes) -> int:
        return self.draft.account(public).nonce

    def next_nonce(self, public: bytes) -> int:
        return self.nonce(public)

    def balance(self, public: bytes) -> int:
        return self.draft.account(public).balance

    def job(self, job_id: bytes) -> Job | None:
        self.slot_now()
        return self.draft.job(job_id)

    def paid_clients(self, job_id: bytes, round_: int) -> frozenset[int]:
        entry = self.draft.round(job_id, round_)
        return frozenset(entry.clients) if entry else frozenset()

    async def payees(self, job_id: bytes, round_: int) -> dict[tuple[int, int], bytes]:
        await trio.lowlevel.checkpoint()
        paid = [tx.payload for tx in self.included if isinstance(tx.payload, JobSettle | JobClaim)]
        done = [
            item.receipt.commitment for payload in paid if payload.job == job_id for item in payload.receipts
        ]
        return {(item.round, item.client): item.trainer for item in done if item.round >= round_}

    async def submit_tx(self, tx: Tx) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.held is not None:
            self.held.append(tx)
            return tx.id
        if len(tx.encoded) > self.genesis.params.max_tx_bytes:
            raise AssertionError("the transaction is too large")
        apply_tx(self.draft, tx, self.slot_now(), len(self.included) + 1, bytes(32))
        self.included.append(tx)
        return tx.id

    async def submit_record(self, record: RoundRecord) -> None:
        await trio.lowlevel.checkpoint()
        apply_record(self.draft, record)
        self.records.append(record)

    async def wait_tx(self, tx_id: bytes, timeout: float) -> int:
        await trio.lowlevel.checkpoint()
        with trio.fail_after(timeout):
            while True:
                for height, tx in enumerate(self.included, start=1):
                    if tx.id == tx_id:
                        return height
                await trio.sleep(0.02)


def _logits(weights: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    return x @ weights[0] + weights[1]


def _softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _loss(weights: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> float:
    return float(-np.log(_softmax(_logits(weights, x))[np.arange(len(y)), y] + 1e-12).mean())


def _read(path: str) -> tuple[np.ndarray, np.ndarray]:
    shard = shards.read(Path(path))
    x = shard.x.reshape(len(shard), -1).astype(np.float32) * np.float32(shard.scale)
    return x, shard.y


@dataclass
class NumpyWorker:
    """Softmax regression by stochastic gradient descent, the same bits every time; with faults on request.

    With `instead`, every call goes to that worker.
    """

    status: str = "ready"
    rests: tuple[str, ...] = ()
    delay: float = 0.0
    fail: str = ""
    deaths: int = 0
    spoil: Callable[[bytes], bytes] | None = None
    before_training: Callable[[protocol.Train], Any] | None = None
    instead: Any = None
    trained: list[tuple[int, int]] = field(default_factory=list)

    async def call(self, request: Any, progress: Callable[[protocol.Progress], None] | None = None) -> Any:
        await trio.lowlevel.checkpoint()
        if self.instead is not None:
            return await self.instead.call(request, progress)
        if self.deaths:
            self.deaths -= 1
            raise WorkerDied("killed by signal 9")
        match request:
            case protocol.Build(model, seed):
                weights = initial_weights(keras_json.parse(model), seed)
                return protocol.Built(tensors.encode(weights), model, sum(w.size for w in weights))
            case protocol.Train():
                return await self._train(request, progress)
            case protocol.Evaluate(weights=weights, data=data):
                x, y = _read(data)
                decoded = tensors.decode(weights)
                accuracy = float((_logits(decoded, x).argmax(axis=1) == y).mean())
                return protocol.Evaluated(_loss(decoded, x, y), accuracy, len(y))
            case protocol.ServerStep(weights=weights, mean_delta=mean, state=state):
                pairs = zip(tensors.decode(weights), tensors.decode(mean), strict=True)
                return protocol.Stepped(tensors.encode([w + d for w, d in pairs]), state + b".")
        raise AssertionError(f"unexpected request {request!r}")

    async def _train(
        self, request: protocol.Train, progress: Callable[[protocol.Progress], None] | None
    ) -> protocol.Trained:
        if self.before_training is not None:
            await self.before_training(request)
        if self.fail:
            raise WorkerError(self.fail, "Traceback: …")
        x, y = _read(request.shard)
        start = [w.astype(np.float64) for w in tensors.decode(request.weights)]
        weights = [w.copy() for w in start]
        for epoch in range(request.epochs):
            rng = np.random.Generator(np.random.PCG64([request.seed, request.round, request.client, epoch]))
            order = rng.permutation(len(y))[: request.batch if request.one_batch else len(y)]
            for at in range(0, len(order), request.batch):
                rows = order[at : at + request.batch]
                error = _softmax(_logits(weights, x[rows]))
                error[np.arange(len(rows)), y[rows]] -= 1
                steps = x[rows].T @ error / len(rows), error.mean(axis=0)
                for i, step in enumerate(steps):
                    pull = request.prox * (weights[i] - start[i])
                    weights[i] -= request.optimizer.lr * (step + pull)
            if progress is not None:
                progress(protocol.Progress(epoch + 1, request.epochs, 0.0))
        await trio.sleep(self.delay)
        update = tensors.encode([a - b for a, b in zip(weights, start, strict=True)])
        self.trained.append((request.round, request.client))
        return protocol.Trained(
            self.spoil(update) if self.spoil else update,
            len(y),
            1,
            _loss(start, x, y),
            _loss(weights, x, y),
            len(y),
        )


@dataclass
class CopyData:
    """The data layer by copying files on this disk; keeps to the allow-lists."""

    peer: str
    folder: Path
    world: dict[bytes, set[str]]
    fetched: list[tuple[int, ...]] = field(default_factory=list)
    forgotten: list[bool] = field(default_factory=list)
    public_fetched: list[str] = field(default_factory=list)

    async def dataset(self, source: str, base_dir: Path) -> tuple[bytes, Path]:
        await trio.lowlevel.checkpoint()
        path = base_dir / source
        if not path.exists():
            raise UserError(f"nobody has {source}", "seed it")
        return bytes(20), path

    async def local(self, source: str, base_dir: Path) -> Path:
        return (await self.dataset(source, base_dir))[1]

    async def public(self, source: str) -> tuple[bytes, bytes]:
        """Datasets of that name lie in the world's folder `public`."""
        await trio.lowlevel.checkpoint()
        path = self.folder.parents[1] / "public" / source
        if not path.exists():
            raise UserError(f"nobody has {source}", "seed it")
        return bytes([7]) * 20, str(path).encode()

    async def fetch_public(
        self, metainfo: bytes, sources: Sequence[str], progress: Callable[[int, int], None]
    ) -> Path:
        await trio.lowlevel.checkpoint()
        progress(1, 1)
        self.public_fetched.append(Path(metainfo.decode()).name)
        return Path(metainfo.decode())

    async def offer(self, name: str, files: Sequence[tuple[str, Path]]) -> bytes:
        await trio.lowlevel.checkpoint()
        metainfo = json.dumps([name, [str(path) for _, path in files]]).encode()
        self.world.setdefault(metainfo, set())
        return metainfo

    def allow(self, metainfo: bytes, peers: Sequence[str]) -> None:
        self.world[metainfo].update(peers)

    async def fetch(
        self,
        metainfo: bytes,
        wanted: Sequence[int],
        sources: Sequence[str],
        progress: Callable[[int, int], None],
    ) -> list[Path]:
        await trio.lowlevel.checkpoint()
        if self.peer not in self.world[metainfo]:
            raise UserError("not allowed to have this torrent")
        _, files = json.loads(metainfo)
        paths = []
        for done, index in enumerate(wanted, start=1):
            path = self.folder / Path(files[index]).name
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(files[index], path)
            paths.append(path)
            progress(done, len(wanted))
        self.fetched.append(tuple(wanted))
        return paths

    def leftovers(self) -> list[bytes]:
        return []

    async def forget(self, metainfo: bytes, delete: bool) -> None:
        await trio.lowlevel.checkpoint()
        self.forgotten.append(delete)
        if delete:
            shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class Node:
    """One node of the world."""

    host: Host
    parts: NodeParts
    worker: NumpyWorker
    data: CopyData
    jobs: JobService
    participant: Participant
    claims: Claims
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    @property
    def account(self) -> bytes:
        return self.parts.keys.public

    def states(self) -> list[str]:
        """The states that this node's jobs went through."""
        return [event.data["state"] for event in self.parts.events.since(0) if event.kind == "job.state"]

    def notes(self) -> list[str]:
        return [event.data["text"] for event in self.parts.events.since(0) if event.kind == "job.note"]

    def peer_reasons(self) -> list[str]:
        return [event.data["reason"] for event in self.parts.events.since(0) if event.kind == "job.peer"]


@dataclass
class World:
    """Node 0 asks for jobs, the others train."""

    root: Path
    chain: InstantChain
    nodes: list[Node]
    torrents: dict[bytes, set[str]]
    nursery: trio.Nursery
    running: trio.CancelScope = field(default_factory=trio.CancelScope)

    @property
    def requester(self) -> Node:
        return self.nodes[0]

    @property
    def trainers(self) -> list[Node]:
        return self.nodes[1:]

    async def kill(self, node: Node) -> None:
        """Take a node off the network without a word."""
        node.scope.cancel()
        await trio.sleep(0.05)

    async def finish(self, job_id: str, within: float = 30.0) -> dict[str, Any]:
        """Wait until a job is over."""
        with trio.fail_after(within):
            while self.requester.jobs.show(job_id)["state"] not in OVER:  # noqa: ASYNC110
                await trio.sleep(0.02)
        return self.requester.jobs.show(job_id)

    async def until(self, condition: Callable[[], bool], within: float = 20.0) -> None:
        with trio.fail_after(within):
            while not condition():  # noqa: ASYNC110
                await trio.sleep(0.01)

    async def restart_jobs(self) -> None:
        """Break the requester's jobs off, and begin anew with what is on its disk."""
        self.running.cancel()
        await trio.sleep(0.1)
        node = self.requester
        node.jobs = JobService(node.parts, TxSender(self.chain, node.parts.keys))
        await self.nursery.start(self.run_jobs)

    async def run_jobs(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        with trio.CancelScope() as self.running:
            await self.requester.jobs.run(task_status=task_status)


def write_data(folder: Path, rows: int = 400) -> Path:
    """Four well separated classes in eight dimensions, with a test set."""
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(4, 8)) * 3
    y = rng.integers(0, 4, rows + 100)
    x = (centres[y] + rng.normal(size=(rows + 100, 8))).astype(np.float32)
    path = folder / "clouds.npz"
    np.savez(path, x_train=x[:rows], y_train=y[:rows], x_test=x[rows:], y_test=y[rows:])
    return path


SPEC = """\
name: clouds
model: {{builder: softmax}}
data: {{train: clouds.npz, clients: {clients}}}
train: {{lr: 0.1, batch: 20, epochs: 2}}
rounds: {{max: {rounds}}}
peers: {{min: {least}, max: 8, stall: {stall}, join: {join}, quorum: {quorum}}}
reward: {{budget: 10}}
"""


def make_spec(
    rounds: int = 3,
    clients: int | str = "auto",
    least: int = 3,
    stall: str = "2s",
    join: str = "10s",
    quorum: float = 1.0,
    extra: str = "",
) -> str:
    text = SPEC.format(rounds=rounds, clients=clients, least=least, stall=stall, join=join, quorum=quorum)
    return text + extra


def _node(index: int, host: Host, chain: InstantChain, world: list[Node], root: Path, torrents: Any) -> Node:
    folder = root / f"node{index}"
    keys = Keypair.from_seed(bytes([index + 1]) * 32)
    worker, data = NumpyWorker(), CopyData(host.peer_id, folder / "pieces", torrents)

    def trainers() -> list[Trainer]:
        others = [node for node in world[1:] if node.host is not host and not node.scope.cancel_called]
        return [
            Trainer(node.host.peer_id, f"node{world.index(node)}", 10, node.participant.busy)
            for node in others
        ]

    events = Events()
    parts = NodeParts(host, chain, data, worker, trainers, events, keys, folder / "jobs")
    sender = TxSender(chain, keys)
    claims = Claims(chain, sender, folder / "receipts", events)
    return Node(host, parts, worker, data, JobService(parts, sender), Participant(parts, claims), claims)


@asynccontextmanager
async def build_world(root: Path, trainers: int) -> AsyncIterator[World]:
    hosts = [Host(bytes([50 + index]) * 32) for index in range(trainers + 1)]
    accounts = [Keypair.from_seed(bytes([index + 1]) * 32).public for index in range(trainers + 1)]
    chain = InstantChain(accounts)
    nodes: list[Node] = []
    torrents: dict[bytes, set[str]] = {}
    async with trio.open_nursery() as nursery:
        for index, host in enumerate(hosts):
            node = _node(index, host, chain, nodes, root, torrents)
            nodes.append(node)
            await nursery.start(_run, node, index)
        for host in hosts[1:]:
            hosts[0].learn(host.peer_id, host.addrs())
        write_data(root)
        world = World(root, chain, nodes, torrents, nursery)
        await nursery.start(world.run_jobs)
        yield world
        nursery.cancel_scope.cancel()


async def _run(node: Node, index: int, *, task_status: Any) -> None:
    with node.scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(node.host.run)
            if index:
                await nursery.start(node.participant.run)
            task_status.started()


@pytest.fixture
def job_world(tmp_path: Path) -> Callable[[int], Any]:
    """`async with job_world(3) as world:` gives a network with three trainers."""
    return lambda trainers: build_world(tmp_path, trainers)


@pytest.fixture
def job_spec() -> Callable[..., str]:
    """Makes the text of a job spec for the world's data."""
    return make_spec
