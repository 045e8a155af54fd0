"""What one straggler and one kill cost a job with `backup: 2`: its time over that of the undisturbed job.

Real daemons and workers on one machine, every trainer held to a share of a processor (its worker is stopped
and continued ten times a second), so that trainers of equal speed are emulated and do not wait for each
other's cores. In a disturbed run one of them gets a tenth of its share after the first round, and another
one's daemon is killed in the midst of the middle round and stays away. Both kinds of run take turns, on the
same network and the same spec. Time counts from the end of the first round, which warms up, to the end of the
last one. Prints JSON: each pair, and the median ratio.

    python -m tests.bench.faults                  # three pairs, six trainers: about ten minutes
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from p2pml.cli.local_network import LocalNetwork, LocalNode
from p2pml.client import NodeClient
from p2pml.training.bundled import DIGITS_NAME, write_digits
from tests.bench.throttle import Throttle, worker_of

BOUND = 1.15
BACKUP = 2
SLOWER = 10
WAIT_S = 300.0
SPEC = """\
name: faults
model: {{builder: mlp, args: {{hidden: [32]}}}}
data: {{train: {data}, clients: {trainers}}}
train: {{lr: 0.05, batch: 8, epochs: {epochs}}}
rounds: {{max: {rounds}}}
peers: {{min: 3, max: {trainers}, sample: {sample:.4f}, backup: {backup}, stall: 60s}}
"""


@dataclass(frozen=True)
class Bench:
    """Jobs on one network, whose first node asks for them.

    Args:
        share: of a processor that each trainer has.
    """

    network: LocalNetwork
    spec: str
    rounds: int
    share: float

    @property
    def trainers(self) -> list[LocalNode]:
        return self.network.nodes[1:]

    def ready(self) -> None:
        """Wait until every worker takes work and the requester knows of every trainer."""

        def look() -> bool | None:
            warm = all(node.get("/status")["worker"] == "ready" for node in self.network.nodes)
            known = sum(peer["trainer"] for peer in self.network.nodes[0].get("/peers"))
            return True if warm and known >= len(self.trainers) else None

        self.network.wait("the workers did not get ready", look, WAIT_S)

    def run(self, disturbed: bool) -> float:
        """Seconds of one job after its first round."""
        self.ready()
        straggler, victim = self.trainers[-1], self.trainers[-2]
        shares = {node.name: self.share for node in self.trainers}
        throttle = Throttle(shares, {node.name: worker_of(_pid(node)) for node in self.trainers})
        with throttle.running(), NodeClient(self.network.nodes[0].home) as client:
            body = {"spec": self.spec, "base_dir": str(self.network.root), "origin": "faults.yaml"}
            job = client.post("/jobs", body, timeout_s=None)["id"]
            self._until(client, job, lambda now: now["round"] >= 1)
            begun = time.monotonic()
            if disturbed:
                shares[straggler.name] = self.share / SLOWER
                self._until(client, job, lambda now: _trains(now, victim, self.rounds // 2))
                victim.kill()
            last = self._until(client, job, lambda now: now["round"] == self.rounds)
            seconds = time.monotonic() - begun
            assert {item["clients"] for item in last["history"]} == {len(self.trainers) - BACKUP}
            self._until(client, job, lambda now: now["state"] == "done")
        if disturbed:
            victim.start()
        return seconds

    def _until(self, client: NodeClient, job: str, check: Any) -> dict[str, Any]:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            found: dict[str, Any] = client.get(f"/jobs/{job}")
            if check(found):
                return found
            if found["state"] in ("failed", "stopped", "suspended"):
                raise RuntimeError(f"the job is {found['state']}: {found['reason']}")
            time.sleep(0.02)
        raise RuntimeError(f"the job does not go on: {found['note']}")


def _pid(node: LocalNode) -> int:
    assert node.process is not None
    return node.process.pid


def _trains(job: dict[str, Any], node: LocalNode, round_: int) -> bool:
    """Whether a node has a task of this round, or of a later one."""
    here = any(peer["peer"] == node.peer_id and peer["state"].startswith("training") for peer in job["peers"])
    return here and job["round"] >= round_


def measure(root: Path, pairs: int, trainers: int, rounds: int, epochs: int, share: float) -> dict[str, Any]:
    """All runs, and the median of their ratios."""
    data = write_digits(root / "data")
    sample = (trainers - BACKUP) / trainers - 1e-4
    spec = SPEC.format(
        data=data, trainers=trainers, epochs=epochs, rounds=rounds, sample=sample, backup=BACKUP
    )
    found: list[dict[str, Any]] = []
    willing = [False, *[True] * trainers]
    with LocalNetwork(
        root / "net", trainers + 1, trainers=willing, params={"window_every_epochs": 0}
    ) as network:
        network.start()
        bench = Bench(network, spec, rounds, share)
        for number in range(pairs):
            load = os.getloadavg()[0]
            order = (False, True) if number % 2 == 0 else (True, False)
            took = {disturbed: bench.run(disturbed) for disturbed in order}
            found.append({
                "undisturbed s": round(took[False], 1), "disturbed s": round(took[True], 1),
                "ratio": round(took[True] / took[False], 3), "load before": round(load, 1),
            })  # fmt: skip
            print(found[-1], file=sys.stderr)
    return {
        "cpus": os.cpu_count(), "data": DIGITS_NAME, "trainers": trainers, "backup": BACKUP, "rounds": rounds,
        "share of a processor (emulated)": share, "straggler": f"{SLOWER} times slower", "bound": BOUND,
        "ratio": statistics.median(pair["ratio"] for pair in found), "pairs": found,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--trainers", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    if given.smoke:
        given.pairs, given.trainers, given.rounds, given.epochs, given.share = 1, 4, 3, 5, 0.5
    with TemporaryDirectory() as folder:
        found = measure(Path(folder), given.pairs, given.trainers, given.rounds, given.epochs, given.share)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
