"""Rounds of real daemons: trainers that freeze, lose their worker or come late; a requester that dies at
every step of a round."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process.conftest import children
from tests.process.jobs import busy_in_round, check_paid, journal, spec, trainer_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

FAULTS = Path(__file__).with_name("faults")
DEATHS = ("chosen:1", "chosen+:1", "model:1", "receipt:3")
"""With the updates chosen; while they are aggregated; with the model saved, yet no round in the journal; and
before the third receipt is on the disk. Each is the first or third since the daemon started."""


@pytest.fixture(scope="module")
def cluster(start_cluster: Callable[..., Any], mnist_tar: Path, p2pml: Callable[..., Any]) -> Iterator[Any]:
    """One requester with MNIST, three trainers."""
    with start_cluster(4, trainers=[False, True, True, True]) as cluster:
        cluster.wait_for_workers(*cluster.nodes)
        seeded = p2pml("seed", str(mnist_tar), home=cluster.nodes[0].home.root)
        assert seeded.code == 0, seeded.err
        yield cluster


def outcome(job: dict[str, Any]) -> tuple[list[str], bytes]:
    """The hash of the model after each round, and the last model."""
    folder = Path(job["output"])
    history = json.loads((folder / "report.json").read_text())["history"]
    return [record["model_out"] for record in history], (folder / "model.safetensors").read_bytes()


@pytest.mark.long
def test_a_requester_killed_at_every_step_of_a_round_has_the_undisturbed_result(cluster: Any) -> None:
    rounds, requester = len(DEATHS) + 1, cluster.nodes[0]
    straight = cluster.finish_job(cluster.start_job(spec(rounds)))
    cluster.kill9(requester)
    job_id = ""
    for place in DEATHS:
        requester.extra_env |= {"P2PML_KILL_AT": place, "PYTHONPATH": str(FAULTS)}
        cluster.start(requester)
        job_id = job_id or cluster.start_job(spec(rounds))
        assert requester.process.wait(300) == -signal.SIGKILL, f"{place}: {requester.last_words(15)}"
        requester.wait_stopped(1)
    for name in ("P2PML_KILL_AT", "PYTHONPATH"):
        del requester.extra_env[name]
    cluster.start(requester)
    job = cluster.finish_job(job_id)
    assert outcome(job) == outcome(straight)
    assert [entry["resumed"] for entry in journal(cluster, job_id, "round")].count(True) >= 2
    check_paid(cluster, straight, rounds)
    check_paid(cluster, job, rounds)
    cluster.wait_for_workers(requester)


def test_a_frozen_trainer_is_dropped_and_comes_back(cluster: Any) -> None:
    job_id = cluster.start_job(spec(rounds=2, epochs=8).replace("stall: 60s", "stall: 25s"))
    peer = cluster.wait_job(job_id, "nobody trains in the second round", busy_in_round(1))
    victim = trainer_of(cluster, peer)
    os.kill(victim.process.pid, signal.SIGSTOP)
    try:
        reason = cluster.wait_job(
            job_id, "the frozen trainer is not dropped", lambda job: reason_of(job, peer) or None
        )
        assert "no progress on client" in reason
        assert "for 25 s" in reason
        job = cluster.finish_job(job_id)
    finally:
        os.kill(victim.process.pid, signal.SIGCONT)
    assert [item["clients"] for item in job["history"]] == [4, 4]
    cluster.wait_same_head()
    paid = check_paid(cluster, job, 2)
    assert victim.address not in {trainer for (number, _), trainer in paid.items() if number == 1}
    again = cluster.finish_job(cluster.start_job(spec(rounds=1)))
    assert victim.address in check_paid(cluster, again, 1).values(), "it trains for the next job"


def reason_of(job: dict[str, Any], peer: str) -> str:
    return str(next(item["reason"] for item in job["peers"] if item["peer"] == peer))


def test_a_trainer_whose_worker_is_killed_says_so_and_stays_in_the_job(cluster: Any) -> None:
    job_id = cluster.start_job(spec(rounds=3, epochs=8))
    peer = cluster.wait_job(job_id, "nobody trains in the second round", busy_in_round(1, begun=True))
    victim = trainer_of(cluster, peer)
    before = set(children(victim.process.pid))
    for worker in before:
        os.kill(worker, signal.SIGKILL)
    reason = cluster.wait_job(job_id, "the requester hears nothing", lambda job: reason_of(job, peer) or None)
    assert "the worker failed" in reason
    job = cluster.finish_job(job_id)
    assert [item["clients"] for item in job["history"]] == [4, 4, 4]
    check_paid(cluster, job, 3)
    cluster.wait_for_workers(victim)
    now = set(children(victim.process.pid))
    assert now, "the daemon lives and has a worker"
    assert not now & before


@pytest.mark.long
def test_a_trainer_that_joins_at_the_fifth_round_takes_its_share(
    cluster: Any, p2pml: Callable[..., Any]
) -> None:
    """The job has more rounds than it takes a node to start; it is stopped once the late one was paid for."""
    job_id = cluster.start_job(spec(rounds=200, epochs=1))
    cluster.wait_job(job_id, "no fourth round", lambda job: True if job["round"] >= 4 else None)
    late = cluster.add("late", workers=True)
    cluster.start(late)

    def delivered(_: dict[str, Any]) -> list[int] | None:
        found = [
            entry["round"] for entry in journal(cluster, job_id, "receipt") if entry["peer"] == late.peer_id
        ]
        return found if len(found) >= 3 else None

    first, *_ = cluster.wait_job(job_id, "the late one delivers nothing", delivered)
    assert first >= 4
    done = p2pml("job", "stop", job_id, home=cluster.nodes[0].home.root)
    assert done.code == 0, done.err

    def ended() -> dict[str, Any] | None:
        job: dict[str, Any] = cluster.job(job_id)
        return job if job["state"] == "stopped" else None

    job = cluster.wait("the job does not stop", ended)
    paid = cluster.check_books().paid[job["chain_job"]]
    receipts = journal(cluster, job_id, "receipt")
    accounts = {peer["peer"]: trainer_of(cluster, peer["peer"]).address for peer in job["peers"]}
    assert paid == {(entry["round"], entry["client"]): accounts[entry["peer"]] for entry in receipts}
    assert sum(peer["earned"] for peer in job["peers"]) == job["spent"]
