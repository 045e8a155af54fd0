"""How near a job on shaped links comes to the time that its parts take: T1/n + broadcast + upload.

Real daemons and workers in network namespaces, every node behind a link of its own, every trainer held to
the same share of a processor (emulated: a machine has fewer cores than the jobs have participants). The same
job, eight logical clients of equal size, is trained by 1, 2, 4 and 8 participants. T1 is the time of a round
of the one, less what its model and updates take on the wire. The bound of a round of n:

    T1 / n  +  model / rate  +  updates of all clients / rate of the requester's link

Rounds are counted from the second one on, since the first warms up. Prints JSON: for each n the median
seconds of a round, the bound, and bound over achieved.

    python -m tests.bench.speedup        # Linux, as root: about ten minutes
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from p2pml.job_output import FINAL_STATES
from p2pml.lab.hosts.session import open_lab
from p2pml.lab.run.fleet import Fleet, Node
from p2pml.scenario.spec import Scenario
from p2pml.training.bundled import write_digits
from tests.bench.throttle import Throttle, worker_of

BOUND = 0.85
CLIENTS = 8
HIDDEN = 256
FEATURES, CLASSES = 64, 10
MODEL_BYTES = 4 * (FEATURES * HIDDEN + HIDDEN + HIDDEN * CLASSES + CLASSES)
WAIT_S = 900.0
JOB = """\
name: speedup-{peers}
model: {{builder: mlp, args: {{hidden: [{hidden}]}}}}
data: {{train: {data}, clients: {clients}}}
train: {{lr: 0.02, batch: 8, epochs: {epochs}}}
rounds: {{max: {rounds}}}
peers: {{min: {peers}, max: {peers}, stall: 300s}}
reward: none
"""


def scenario(trainers: int, rate_mbit: int, delay_ms: float) -> Scenario:
    """One node that asks, and the trainers; the one step only says who needs a worker."""
    return Scenario.model_validate({
        "version": 1, "name": "speedup", "nodes": trainers + 1, "preset": "demo",
        "params": {"window_every_epochs": 0, "slot_ms": 6000},
        "trainers": [f"n{number}" for number in range(2, trainers + 2)],
        "link": {"rate": f"{rate_mbit} Mbit", "delay_ms": delay_ms},
        "steps": [{"train": {"node": "n1", "job": "speedup.yaml"}}],
    })  # fmt: skip


def until(what: str, check: Any, within: float = WAIT_S) -> Any:
    deadline = time.monotonic() + within
    while (found := check()) is None:
        if time.monotonic() >= deadline:
            raise RuntimeError(f"{what}: not within {within:.0f} s")
        time.sleep(0.2)
    return found


def is_ready(node: Node) -> bool | None:
    try:
        return True if node.api.get("/status")["worker"] == "ready" else None
    except Exception:  # it starts
        return None


def processor_s(workers: dict[str, psutil.Process]) -> float:
    """What the trainers have used; as much for any number of them, where none waited for a core."""
    return sum(sum(worker.cpu_times()[:2]) for worker in workers.values())


def run_job(requester: Node, folder: Path, spec: str) -> list[float]:
    """Seconds of each round."""
    job = requester.api.post("/jobs", {"spec": spec, "base_dir": str(folder), "origin": "speedup"}, None)[
        "id"
    ]

    def over() -> dict[str, Any] | None:
        found: dict[str, Any] = requester.api.get(f"/jobs/{job}")
        return found if found["state"] in FINAL_STATES else None

    found = until(f"job {job} is not over", over)
    if found["state"] != "done":
        raise RuntimeError(f"job {job} {found['state']}: {found['reason']}")
    return [record["seconds"] for record in found["history"]]


def measure(given: argparse.Namespace, fleet: Fleet, folder: Path) -> list[dict[str, Any]]:
    """Each number of participants, the one first."""
    data = write_digits(folder / "data")
    fleet.found()
    requester, *trainers = fleet.nodes.values()
    for node in fleet.nodes.values():
        until(f"{node.name} has no worker", lambda node=node: is_ready(node))  # type: ignore[misc]

    def known() -> bool | None:
        peers = requester.api.get("/peers")
        return True if sum(peer["trainer"] for peer in peers) >= len(trainers) else None

    until("the requester does not know every trainer", known)
    wire = MODEL_BYTES * 8 / (given.rate * 1e6)
    broadcast, upload = wire, CLIENTS * wire
    shares = dict.fromkeys((node.name for node in trainers), given.share)
    workers = {node.name: worker_of(node.handle.pid) for node in trainers if node.handle is not None}
    found: list[dict[str, Any]] = []
    alone = 0.0
    with Throttle(shares, workers).running():
        for peers in given.participants:
            spec = JOB.format(
                peers=peers,
                hidden=HIDDEN,
                data=data,
                clients=CLIENTS,
                epochs=given.epochs,
                rounds=given.rounds,
            )
            load, used = os.getloadavg()[0], processor_s(workers)
            seconds = run_job(requester, folder, spec)[1:]
            achieved = statistics.median(seconds)
            alone = alone or achieved - broadcast - upload
            bound = alone / peers + broadcast + upload
            found.append({
                "participants": peers, "round s": round(achieved, 2), "rounds s": seconds,
                "bound s": round(bound, 2), "bound over achieved": round(bound / achieved, 3),
                "trainers' processor s": round(processor_s(workers) - used, 1), "load before": round(load, 1),
            })  # fmt: skip
            print(found[-1], file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--participants", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--share", type=float, default=0.12, help="of a processor, each trainer")
    parser.add_argument("--rate", type=int, default=20, help="Mbit/s of each node's link")
    parser.add_argument("--delay", type=float, default=10.0, help="ms of each node's link")
    given = parser.parse_args()
    plan = scenario(max(given.participants), given.rate, given.delay)
    with TemporaryDirectory() as folder, open_lab("namespaces") as hosts:
        fleet = Fleet(hosts, plan, "fast")
        try:
            found = measure(given, fleet, Path(folder))
        finally:
            fleet.close()
        shaping = hosts.describe()
    print(json.dumps({
        "cpus": os.cpu_count(), "clients": CLIENTS, "model bytes": MODEL_BYTES, "rate Mbit/s": given.rate,
        "delay ms": given.delay, "share of a processor (emulated)": given.share, "links": shaping,
        "wanted": BOUND, "runs": found,
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
