"""The studies of `tests.bench.chain` on daemons of their own: a late node's sync, transactions per second."""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from chain.crypto import Keypair
from chain.genesis import Genesis
from chain.transactions import Transfer, sign_tx
from p2pml.cli.local_network import LocalNetwork, LocalNode
from p2pml.client import PREFIX
from p2pml.storage.chain_db import ChainDb
from tests.bench.chain_blocks import PARAMS, SMALL, make, world_of
from tests.chain.conftest import FAR, FEE, seed32

NODES = 4
WARM_S = 8.0
"""Before counting: the pools fill and the first blocks are full."""
WAITING = 3_000
"""Transactions submitted and not yet in a block: below what a pool holds (4,096)."""
SENDERS = 200
BATCH = 25
"""Transactions per request, each of another sender."""


def sync(given: argparse.Namespace) -> dict[str, Any]:
    """Blocks per second of a daemon with nothing that fetches a chain from one daemon that has it."""
    world = world_of()
    blocks = make(world, given.blocks, SMALL)
    with TemporaryDirectory() as folder, LocalNetwork(Path(folder), 2, workers=False) as network:
        full, late = network.nodes
        for node in network.nodes:
            node.home.genesis_file.write_text(world.genesis.to_json(), encoding="utf-8")
        db = ChainDb(full.home.chain_db, world.genesis.chain_id)
        db.commit(blocks, applied=blocks)
        db.close()
        start_s = _until_height(network, full, given.blocks)
        late_s = _until_height(network, late, given.blocks)
        spent = {node.name: round(_cpu_s(node), 2) for node in network.nodes}
        begun = late.get("/status")["uptime_s"]
    return {
        "blocks": given.blocks,
        "transactions_per_block": SMALL,
        "start_of_the_full_node_s": round(start_s, 2),
        "late_node_s": round(late_s, 2),
        "late_node_up_s": round(begun, 2),
        "blocks_per_s": round(given.blocks / begun, 1),
        "cpu_s": spent,
    }


def _until_height(network: LocalNetwork, node: LocalNode, height: int) -> float:
    """Start a node and wait until it has the chain; the seconds."""
    began = time.perf_counter()
    node.start()
    network.wait(
        f"{node.name} at height {height}",
        lambda: True if node.get("/status")["head"]["height"] >= height else None,
        600,
    )
    return time.perf_counter() - began


def throughput(given: argparse.Namespace) -> dict[str, Any]:
    """Transfers per second in the blocks of four validators whose pools are kept filled."""
    with TemporaryDirectory() as folder, LocalNetwork(Path(folder), NODES, workers=False) as network:
        genesis = _found(network)
        network.start()
        network.wait("all nodes connected", lambda: _connected(network), 60)
        load = Load(genesis, network.nodes)
        load.start()
        try:
            time.sleep(WARM_S)
            first, cpu, began = load.included(), [_cpu_s(node) for node in network.nodes], time.perf_counter()
            time.sleep(given.seconds)
            seconds, last = time.perf_counter() - began, load.included()
            spent = [_cpu_s(node) - before for node, before in zip(network.nodes, cpu, strict=True)]
        finally:
            load.stop()
        status = network.nodes[0].get("/status")
    done = last - first
    return {
        "nodes": NODES,
        "seconds": round(seconds, 1),
        "slot_ms": PARAMS.slot_ms,
        "included": done,
        "tx_per_s": round(done / seconds, 1),
        "submitted": load.submitted,
        "refused": load.refused,
        "final_behind_head": status["head"]["height"] - status["head"]["final_height"],
        "largest_block": load.largest,
        "cpu_s_of_nodes": [round(each, 1) for each in spent],
        "cpu_ms_per_tx_and_node": round(1000 * sum(spent) / NODES / max(done, 1), 2),
    }


def _found(network: LocalNetwork) -> Genesis:
    """The network's genesis with a raised cap and the senders' accounts, put into every home."""
    made = Genesis.from_json(network.nodes[0].home.genesis_file.read_text(encoding="utf-8"))
    senders = tuple((keys.public, 10**6 * 10**8) for keys in _senders())
    allocations = tuple(sorted((*made.allocations, *senders)))
    genesis = Genesis("bench", int(time.time() * 1000), PARAMS, made.validators, allocations)
    for node in network.nodes:
        node.home.genesis_file.write_text(genesis.to_json(), encoding="utf-8")
    return genesis


def _senders() -> list[Keypair]:
    return [Keypair.from_seed(seed32(5001 + number)) for number in range(SENDERS)]


def _connected(network: LocalNetwork) -> bool | None:
    return True if all(node.get("/status")["peers"] == NODES - 1 for node in network.nodes) else None


def _cpu_s(node: LocalNode) -> float:
    assert node.process is not None
    times = psutil.Process(node.process.pid).cpu_times()
    return times.user + times.system


@dataclass
class Load:
    """One thread per node that submits as fast as it may, and one that counts what blocks hold."""

    genesis: Genesis
    nodes: Sequence[LocalNode]
    submitted: int = 0
    refused: int = 0
    largest: int = 0
    _in_blocks: int = 0
    _height: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        senders = _senders()
        for place, node in enumerate(self.nodes):
            own = senders[place :: len(self.nodes)]
            self._threads.append(threading.Thread(target=self._submit, args=(node, own), daemon=True))
        self._threads.append(threading.Thread(target=self._count, daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(10)

    def included(self) -> int:
        with self._lock:
            return self._in_blocks

    def _submit(self, node: LocalNode, senders: Sequence[Keypair]) -> None:
        socket_ = UnixConnection(str(node.home.api_socket))
        nonces = dict.fromkeys(range(len(senders)), 0)
        turn = 0
        while not self._over.is_set():
            with self._lock:
                full = self.submitted - self._in_blocks >= WAITING
            if full:
                self._over.wait(0.05)
                continue
            places = [(turn + step) % len(senders) for step in range(BATCH)]
            turn += BATCH
            refused = socket_.submit([self._transfer(senders, place, nonces[place]) for place in places])
            for index, place in enumerate(places):
                nonces[place] += index not in refused
            with self._lock:
                self.submitted += BATCH - len(refused)
                self.refused += len(refused)
            if refused:
                self._over.wait(0.2)

    def _transfer(self, senders: Sequence[Keypair], place: int, nonce: int) -> bytes:
        payload = Transfer(senders[place - 1].public, 1)
        keys, chain_id = senders[place], self.genesis.chain_id
        return sign_tx(keys, chain_id, payload, nonce=nonce, valid_until_slot=FAR, fee=FEE).encoded

    def _count(self) -> None:
        """Read the database of one node, which costs it nothing, unlike asking it for whole blocks."""
        query = "SELECT height, count(*) FROM txs WHERE height > ? GROUP BY height ORDER BY height"
        with closing(sqlite3.connect(f"file:{self.nodes[0].home.chain_db}?mode=ro", uri=True)) as db:
            while not self._over.wait(0.2):
                for height, count in db.execute(query, (self._height,)):
                    with self._lock:
                        self._height = height
                        self._in_blocks += count
                        self.largest = max(self.largest, count)


class UnixConnection(http.client.HTTPConnection):
    """One connection to a daemon's socket, kept open."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self._path)

    def submit(self, transactions: Sequence[bytes]) -> set[int]:
        """The places of those that the daemon refused."""
        body = json.dumps({"transactions": [each.hex() for each in transactions]})
        self.request("POST", f"{PREFIX}/transactions/batch", body, {"Content-Type": "application/json"})
        answer = self.getresponse()
        found = json.loads(answer.read())
        if answer.status != 202:
            raise RuntimeError(f"the daemon says {answer.status}: {found}")
        return {entry["index"] for entry in found["refused"]}
