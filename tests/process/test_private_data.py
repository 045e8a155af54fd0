"""Real daemons: private data stays with its owners, byte by byte; who plays which client changes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2pml.cli.local_network import LocalNetwork, LocalNode
from p2pml.formats import shards
from p2pml.lab.run.private import holding
from p2pml.private_config import PrivateDataset, to_toml
from p2pml.training import dataset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

OWNERS = slice(2, 5)
"""Of the nodes; the first is the requester, the second trains too, owns nothing and introduces the others."""
ROWS, SIDE, CLASSES, ROUNDS = 20_000, 20, 10, 3
SHARD_BYTES = ROWS * SIDE * SIDE
UPDATE_BYTES = 4 * (SIDE * SIDE * CLASSES + CLASSES)
PRIVATE = f"""\
version: 1
name: wards
model: {{builder: softmax}}
data: {{train: wards, partition: {{kind: by_owner}}, validation: {{path: validation.npz}}}}
train: {{lr: 0.1, batch: 100}}
rounds: {{max: {ROUNDS}}}
peers: {{min: 3, max: 4, stall: 60s}}
reward: {{budget: 10}}
"""
EIGHT = """\
version: 1
name: eight-on-{peers}
model: {{builder: mlp, args: {{hidden: [16]}}}}
data: {{train: digits.npz, clients: 8, partition: {{kind: dirichlet, alpha: 1}}}}
train: {{optimizer: adam, lr: 0.01, batch: 32}}
rounds: {{max: 3}}
peers: {{min: {peers}, max: {peers}, stall: 60s}}
"""


def secret(number: int) -> np.ndarray:
    """An owner's samples, which cannot be mistaken for anything else: random bytes."""
    return np.random.default_rng(number).integers(0, 256, (ROWS, SIDE, SIDE), dtype=np.uint8)


def quoted(text: Any) -> str:
    return "[" + ", ".join(map(quoted, text)) + "]" if isinstance(text, tuple) else f'"{text}"'


def own_and_count(network: LocalNetwork) -> None:
    """Before they start: give each owner its data, and have everybody count what it sends."""
    requester, ports = network.nodes[0], ",".join(str(node.port) for node in network.nodes)
    for number, node in enumerate(network.nodes):
        node.extra_env |= {
            "PYTHONPATH": str(Path(__file__).parent / "counting"),
            "P2PML_COUNT_PORTS": ports,
            "P2PML_COUNT_FILE": str(count_file(node)),
        }
        if node in network.nodes[OWNERS]:
            path = node.home.root.parent / f"data-{node.name}" / "wards.npz"
            path.parent.mkdir()
            np.savez(path, x=secret(number), y=np.arange(ROWS) % CLASSES)
            configured = PrivateDataset("wards", str(path), (requester.address,))
            with node.home.config_file.open("a", encoding="utf-8") as file:
                file.write("\n" + to_toml((configured,), quoted))


def count_file(node: LocalNode) -> Path:
    return node.home.root.parent / f"{node.name}.sent"


def sent(node: LocalNode) -> int:
    """Bytes that a node has sent to others on all connections so far."""
    return int.from_bytes(count_file(node).read_bytes(), "big")


@pytest.fixture(scope="module")
def cluster(start_cluster: Callable[..., Any]) -> Iterator[Any]:
    trainers = [False, True, True, True, True]
    with start_cluster(5, trainers=trainers, prepare=own_and_count) as cluster:
        cluster.wait_for_workers(*cluster.nodes)
        yield cluster


def test_private_data_never_leaves_its_owner(cluster: Any) -> None:
    owners, bystander = cluster.nodes[OWNERS], cluster.nodes[1]
    np.savez(cluster.root / "validation.npz", x=secret(99)[:200], y=np.arange(200) % CLASSES)
    before = {node.name: sent(node) for node in cluster.nodes}
    assert all(before.values()), "nothing was counted"
    job = cluster.finish_job(cluster.start_job(PRIVATE))
    spent = {node.name: sent(node) - before[node.name] for node in cluster.nodes}

    assert [item["clients"] for item in job["history"]] == [len(owners)] * ROUNDS
    assert {peer["peer"] for peer in job["peers"]} == {node.peer_id for node in owners}
    assert {peer["samples"] for peer in job["peers"]} == {ROWS * ROUNDS}
    # What an owner sends is its updates, and what a node says anyway that takes no part: blocks and votes.
    chatter = 2 * spent[bystander.name] + 2**16
    assert chatter + 2 * ROUNDS * UPDATE_BYTES < SHARD_BYTES / 2, "the chatter would hide a shard"
    for node in owners:
        assert ROUNDS * UPDATE_BYTES < spent[node.name] < 2 * ROUNDS * UPDATE_BYTES + chatter
    # No torrent of it was ever made anywhere, so no piece of one was sent.
    assert [node.get("/datasets") for node in cluster.nodes] == [[]] * len(cluster.nodes)
    for number, owner in list(enumerate(cluster.nodes))[OWNERS]:
        rows = secret(number).reshape(ROWS, -1)
        marks = [rows[at, 100:140].tobytes() for at in (0, 17, ROWS // 2, ROWS - 1)]
        assert holding(owner.home.root, marks) == [owner.home.private / "wards.safetensors"]
        for other in cluster.nodes:
            if other is not owner:
                assert holding(other.home.root, marks) == []
        assert len(shards.read(owner.home.root / "private" / "wards.safetensors")) == ROWS


def test_a_result_does_not_depend_on_who_plays_which_client(cluster: Any) -> None:
    """Eight clients on two peers and on four give the same model, bit for bit."""
    shutil.copyfile(dataset.digits_path(), cluster.root / "digits.npz")
    models = {}
    for peers in (2, 4):
        job = cluster.finish_job(cluster.start_job(EIGHT.format(peers=peers)))
        played = [peer["clients"] for peer in job["peers"] if peer["samples"]]
        assert len(played) == peers
        models[peers] = (Path(job["output"]) / "model.safetensors").read_bytes()
    assert models[2] == models[4]
