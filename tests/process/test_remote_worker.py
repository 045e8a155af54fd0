"""A trainer whose worker is lent by another machine, with real processes: that machine's worker dies, then
the machine's part as a whole, and the job is completed each time."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from p2pml.cli.local_network import free_ports
from p2pml.training.bundled import write_digits

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SPEC = """\
version: 1
name: digits
model: {builder: mlp, args: {hidden: [256, 256]}}
data: {train: digits.tar, clients: 1}
train: {lr: 0.05, batch: 4, epochs: 12}
rounds: {max: 3}
peers: {min: 1, max: 1, stall: 60s}
reward: {budget: 10}
output: {dir: runs}
"""


class Lender:
    """`p2pml worker serve`, which can be killed and started again."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port, self.token = folder, port, folder / "token"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> dict[str, str]:
        """What it prints: the address and the fingerprint."""
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "p2pml", "worker", "serve", "--listen", f"127.0.0.1:{self.port}",
                "--token-file", str(self.token), "--folder", str(self.folder / "lent"), "--json",
            ],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        printed = ""
        while not printed.endswith("}\n"):
            line = self.process.stdout.readline()
            assert line, "it ended"
            printed += line
        found: dict[str, str] = json.loads(printed)
        return found

    def kill(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait(30)
        self.process.stdout.close()


@contextmanager
def lender(folder: Path) -> Iterator[Lender]:
    found = Lender(folder, free_ports(1)[0])
    try:
        yield found
    finally:
        if found.process is not None:
            found.kill()


def training_in(number: int) -> Callable[[dict[str, Any]], bool | None]:
    """For `wait_job`: the trainer is at work in that round (from 0)."""

    def check(job: dict[str, Any]) -> bool | None:
        states = [peer["state"] for peer in job["peers"]]
        at_work = any(re.fullmatch(r"training client 0 \d+ %", state) for state in states)
        return True if job["round"] == number and at_work else None

    return check


def test_a_job_outlives_the_machine_that_lends_its_worker(
    start_cluster: Callable[..., Any], tmp_path: Path
) -> None:
    with lender(tmp_path) as lent, start_cluster(2, trainers=[False, True]) as cluster:
        trainer = cluster.nodes[1]
        told = lent.start()
        trainer.request_stop()
        assert trainer.wait_stopped(30) == 0
        more = {"worker_token_file": str(lent.token), **told}
        config = trainer.home.config_file
        kept = [line for line in config.read_text().splitlines() if line.split(" ")[0] not in more]
        config.write_text("\n".join([*kept, *(f'{key} = "{value}"' for key, value in more.items())]))
        trainer.start()
        cluster.wait_for_workers(*cluster.nodes)
        before = trainer.get("/worker")
        write_digits(cluster.root)
        job = cluster.start_job(SPEC)

        cluster.wait_job(job, "round 1 does not begin", training_in(0))
        os.kill(before["pid"], signal.SIGKILL)  # the process that computes, over there
        cluster.wait_job(job, "round 2 does not begin", training_in(1))
        after = trainer.get("/worker")
        assert after["pid"] != before["pid"]
        assert after["starts"] == 1  # the connection held
        lent.kill()
        lent.start()
        done = cluster.finish_job(job)
        assert done["round"] == 3
        assert trainer.get("/worker")["starts"] >= 2
        samples = [path.name for path in (lent.folder / "lent" / "samples").iterdir()]
        assert len(samples) == 1  # asked for once, kept through all of it
