"""Jobs and data among real daemons that are killed: MNIST, five founders with workers, one late node."""

from __future__ import annotations

import filecmp
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process.jobs import CLIENTS, busy_in_round, check_paid, journal, spec, trainer_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def cluster(start_cluster: Callable[..., Any], mnist_tar: Path, p2pml: Callable[..., Any]) -> Iterator[Any]:
    """One requester with MNIST, four trainers."""
    with start_cluster(5, trainers=[False, True, True, True, True]) as cluster:
        cluster.wait_for_workers(*cluster.nodes)
        seeded = p2pml("seed", str(mnist_tar), home=cluster.nodes[0].home.root)
        assert seeded.code == 0, seeded.err
        yield cluster


def stored_shards(node: Any) -> dict[str, str]:
    """The files in a node's piece store that take space on disk, each with its hash."""
    files = [path for path in node.home.pieces.rglob("*") if path.is_file() and path.stat().st_blocks]
    payload = [path for path in files if {"content", "parts"} & set(path.relative_to(node.home.pieces).parts)]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in payload}


def test_each_participant_stores_only_the_shards_assigned_to_it(cluster: Any) -> None:
    # All four from the start: a peer that joins later takes shards over that others have fetched already.
    job_id = cluster.start_job(spec(rounds=1).replace("{min: 3,", "{min: 4,"))
    job = cluster.wait_job(job_id, "nobody trains", lambda job: job if busy_in_round(0)(job) else None)
    folder = cluster.nodes[0].home.jobs / job_id / "shards"
    offered = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("client-*")}
    assert len(offered) == CLIENTS
    assigned = {trainer_of(cluster, peer["peer"]).name: peer["clients"] for peer in job["peers"]}
    stored = {node.name: stored_shards(node) for node in cluster.nodes[1:5]}
    for name, clients in assigned.items():
        expected = {f"client-{client:04}.safetensors" for client in clients}
        assert set(stored[name]) == expected, f"{name} stores something else than its shards"
        assert all(offered[shard] == digest for shard, digest in stored[name].items())
    holders = Counter(name for shards in stored.values() for name in shards)
    assert holders == dict.fromkeys(offered, 2), "each shard lies at its trainer and at one replica"
    job = cluster.finish_job(job_id)
    names = {node.address: node.name for node in cluster.nodes}
    for (_, client), trainer in check_paid(cluster, job, 1).items():
        assert client in assigned[names[trainer]]

    def forgotten() -> bool | None:
        return True if not any(stored_shards(node) for node in cluster.nodes[1:5]) else None

    cluster.wait("the shards stay after the job", forgotten)


def test_a_trainer_killed_in_mid_round_does_not_stop_the_job(cluster: Any) -> None:
    job_id = cluster.start_job(spec(rounds=3, epochs=8))
    peer = cluster.wait_job(job_id, "nobody trains in the second round", busy_in_round(1))
    victim = trainer_of(cluster, peer)
    cluster.kill9(victim)
    delivered = [(entry["round"], entry["peer"]) for entry in journal(cluster, job_id, "receipt")]
    assert (1, peer) not in delivered, "it was to be killed before its update"
    job = cluster.finish_job(job_id)
    assert [item["round"] for item in job["history"]] == [1, 2, 3]
    assert job["accuracy"] > 0.85
    paid = check_paid(cluster, job, 3)
    assert victim.address not in {trainer for (number, _), trainer in paid.items() if number > 0}
    survivors = {node.address for node in cluster.nodes[1:5] if node is not victim}
    assert survivors == set(paid.values()) - {victim.address}
    cluster.start(victim)
    cluster.wait_same_head()
    check_paid(cluster, job, 3)
    cluster.wait_for_workers(victim)


def test_a_killed_requester_goes_on_at_its_last_round_and_settles_once(cluster: Any) -> None:
    requester = cluster.nodes[0]
    job_id = cluster.start_job(spec(rounds=3, epochs=6))
    cluster.wait_job(job_id, "nobody trains in the second round", busy_in_round(1))
    first = cluster.job(job_id)["history"][0]
    cluster.kill9(requester)
    cluster.start(requester)
    cluster.wait_job(
        job_id, "the job does not settle", lambda job: True if job["state"] == "settling" else None
    )
    assert cluster.job(job_id)["history"][0] == first, "a finished round is not done again"
    cluster.kill9(requester)
    cluster.start(requester)
    job = cluster.finish_job(job_id)
    assert [item["round"] for item in job["history"]] == [1, 2, 3]
    assert job["accuracy"] > 0.85
    assert (Path(job["output"]) / "model.safetensors").is_file()
    check_paid(cluster, job, 3)
    cluster.wait_for_workers(*cluster.nodes[:5])


def test_a_late_node_syncs_and_fetches_from_several_peers(
    cluster: Any, p2pml: Callable[..., Any], mnist_tar: Path
) -> None:
    for node in cluster.nodes[1:3]:
        got = p2pml("data", "get", "mnist.tar", home=node.home.root)
        assert got.code == 0, got.err
    late = cluster.add("late")
    before = cluster.head(cluster.nodes[0])
    cluster.start(late)
    assert cluster.wait_same_head()["height"] >= before["height"]
    cluster.check_books()
    target = cluster.root / "fetched"
    got = p2pml("data", "get", "mnist.tar", "--to", str(target), home=late.home.root)
    assert got.code == 0, got.err
    assert filecmp.cmp(target / "mnist.tar", mnist_tar, shallow=False)
    sources = p2pml("data", "info", "mnist.tar", "--json", home=late.home.root).json["sources"]
    holders = {node.peer_id for node in cluster.nodes[:3]}
    assert len([peer for peer, count in sources.items() if count > 0]) >= 2, sources
    assert set(sources) <= holders
    assert sum(sources.values()) >= mnist_tar.stat().st_size
