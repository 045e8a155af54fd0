"""Looks at every node once a second, each from a thread of its own: a node that hangs delays no other."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from p2pml.errors import UserError
from p2pml.job_output import FINAL_STATES
from p2pml.lab.run.fleet import Api, Node
from p2pml.lab.run.timeline import Sample, Timeline
from p2pml.lab.run.usage import Usage

PERIOD_S = 1.0


@dataclass(slots=True)
class JobRun:
    """A job that the scenario started; `record` is what its requester says of it."""

    name: str
    node: str
    id: str
    record: dict[str, Any] = field(default_factory=dict)
    rounds_told: int = 0

    @property
    def state(self) -> str:
        """As `p2pml job show` has it; empty before the first look."""
        return str(self.record.get("state", ""))

    @property
    def rounds(self) -> int:
        """How many rounds are finished."""
        return len(self.record.get("history", ()))

    @property
    def over(self) -> bool:
        """Whether it has ended, one way or another."""
        return self.state in FINAL_STATES


@dataclass(slots=True)
class Watcher:
    """One node under watch.

    Args:
        node: its state tells whether it can answer.
        usage: of its host.
        timeline: takes the samples.
        jobs: of the whole scenario; those of this node are kept up to date.

    Attributes:
        status: its newest answer; None when it has not answered since it was last started.
        transport: the stack that it last said it runs; empty before.
        datasets: by infohash, the newest record of everything it ever had.
    """

    node: Node
    usage: Usage
    timeline: Timeline
    jobs: dict[str, JobRun]
    status: dict[str, Any] | None = None
    transport: str = ""
    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)
    _end: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _worker: str = ""

    def start(self) -> None:
        """Begin to look."""
        self._thread = threading.Thread(target=self._run, name=f"watch-{self.node.name}", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Ask it to end; `join` waits."""
        self._end.set()

    def join(self) -> None:
        """Wait until it has ended."""
        if self._thread is not None:
            self._thread.join(20)

    def _run(self) -> None:
        api = Api(self.node.home)
        try:
            while not self._end.is_set():
                self._look(api)
                self._end.wait(PERIOD_S)
        finally:
            api.close()

    def _look(self, api: Api) -> None:
        state = self.node.state
        at = self.timeline.now()
        if state != "up":
            self.status = None if state == "down" else self.status
            api.close()
            self.timeline.sample(self.node.name, Sample(round(at, 2), state, **self._usage()))
            return
        self.usage.look()
        try:
            status = api.get("/status")
            self._look_at_data(api)
            self._look_at_jobs(api)
        except (UserError, ValueError):  # it starts, it was killed just now, or it is slow
            self.timeline.sample(self.node.name, Sample(round(at, 2), "silent", **self._usage()))
            return
        self._tell_changes(status)
        self.status, self.transport = status, status["transport"]
        head = status["head"]
        known = {
            "height": head["height"], "head": head["id"], "final": head["final_height"],
            "balance": status["balance"], "settled": status["heartbeat_slot"] is not None,
            "rating": status["rating"], "epoch": status["epoch"],
        }  # fmt: skip
        self.timeline.sample(self.node.name, Sample(round(at, 2), state, **known, **self._usage()))

    def _look_at_data(self, api: Api) -> None:
        for dataset in api.get("/datasets"):
            self.datasets[dataset["infohash"]] = dataset

    def _look_at_jobs(self, api: Api) -> None:
        for job in list(self.jobs.values()):
            if job.node != self.node.name or (job.over and job.rounds_told == job.rounds):
                continue
            before = job.state
            job.record = api.get(f"/jobs/{job.id}")
            for item in job.record["history"][job.rounds_told :]:
                text = f"{job.name}: round {job.rounds_told + 1} of {job.record['rounds']}"
                self.timeline.add("round", job.node, f"{text}, accuracy {item['accuracy']:.1%}")
                job.rounds_told += 1
            if job.state != before:
                reason = job.record.get("reason", "")
                self.timeline.add(
                    "job", job.node, f"{job.name} is {job.state}" + (f": {reason}" if reason else "")
                )

    def _tell_changes(self, status: dict[str, Any]) -> None:
        if self.status is None:
            self._worker = ""
            self.timeline.add("node", self.node.name, f"answers, at height {status['head']['height']}")
        if status["worker"] != self._worker and status["worker"] == "ready" and self._worker != "busy":
            self.timeline.add("node", self.node.name, "its worker is ready")
        self._worker = status["worker"]

    def _usage(self) -> dict[str, Any]:
        received, sent = self.usage.wire if self.usage.own_interface else self.swarm_bytes()
        return {
            "cpu_s": round(self.usage.cpu_s, 2), "rss": self.usage.rss, "received": received, "sent": sent,
        }  # fmt: skip

    def swarm_bytes(self) -> tuple[int, int]:
        """Verified bytes of datasets received and sent."""
        with suppress(RuntimeError):  # another thread may read while a dataset comes
            values = list(self.datasets.values())
            return (
                sum(sum(item["sources"].values()) for item in values),
                sum(sum(item["sent"].values()) for item in values),
            )
        return (0, 0)
