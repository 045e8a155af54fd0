"""Jobs of a cluster's first node, and what must hold of them whatever was done to its nodes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

CLIENTS = 4
SPEC = """\
version: 1
name: mnist
model: {{builder: mlp, args: {{hidden: [32]}}}}
data: {{train: mnist.tar, clients: {clients}}}
train: {{lr: 0.1, batch: 32, epochs: {epochs}}}
rounds: {{max: {rounds}}}
peers: {{min: 3, max: 4, stall: 60s}}
reward: {{budget: 60}}
output: {{dir: runs}}
"""


def spec(rounds: int, epochs: int = 2) -> str:
    return SPEC.format(rounds=rounds, epochs=epochs, clients=CLIENTS)


def trainer_of(cluster: Any, peer_id: str) -> Any:
    return next(node for node in cluster.nodes if node.peer_id == peer_id)


def busy_in_round(number: int, begun: bool = False) -> Callable[[dict[str, Any]], str | None]:
    """For `wait_job`: a peer that was given a task of round `number` (from 0) and is far from done;
    with `begun` its worker has it."""

    def check(job: dict[str, Any]) -> str | None:
        if job["round"] != number:
            return None
        for peer in job["peers"]:
            at_work = re.fullmatch(r"training client \d+(?: (\d+) %)?", peer["state"])
            if at_work and (at_work[1] or not begun) and int(at_work[1] or 0) < 50:
                return str(peer["peer"])
        return None

    return check


def journal(cluster: Any, job_id: str, kind: str) -> list[dict[str, Any]]:
    """Entries of the requester's journal, as they are on disk."""
    path = cluster.nodes[0].home.jobs / job_id / "journal.jsonl"
    entries = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return [entry for entry in entries if entry["kind"] == kind]


def check_paid(cluster: Any, job: dict[str, Any], rounds: int) -> dict[tuple[int, int], str]:
    """Books in order on every node, each client of each round paid once; returns to whom."""
    ledger = cluster.check_books()
    paid: dict[tuple[int, int], str] = ledger.paid[job["chain_job"]]
    assert set(paid) == {(number, client) for number in range(rounds) for client in range(CLIENTS)}
    earned = {trainer_of(cluster, peer["peer"]).address: peer["earned"] for peer in job["peers"]}
    counted = dict.fromkeys(earned, 0)
    for trainer in paid.values():
        counted[trainer] += 1
    assert {address for address, amount in earned.items() if amount} == set(paid.values())
    unit = job["spent"] // len(paid)  # the shards are of one size
    assert earned == {address: count * unit for address, count in counted.items()}
    return paid
