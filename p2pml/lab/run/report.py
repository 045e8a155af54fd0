"""What came of a run, as data."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from p2pml.lab.run.checks import Result
from p2pml.lab.run.finality import TimeToFinality, time_to_finality
from p2pml.lab.run.steps import Steps
from p2pml.lab.run.timeline import Event, Sample
from p2pml.lab.run.watch import Watcher

TOKEN = 10**8


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One node over the run; money in base units, bytes over its interface or of datasets (see `wire`).

    `transport` is the stack that it says it runs, empty when it never answered.
    """

    name: str
    account: str
    peer_id: str
    founder: bool
    trainer: bool
    state: str
    first_balance: int | None
    last_balance: int | None
    height: int
    cpu_s: float
    rss_peak: int
    received: int
    sent: int
    transport: str


@dataclass(frozen=True, slots=True)
class Swarm:
    """Verified bytes that a node got of a dataset, by source."""

    node: str
    dataset: str
    size: int
    private: bool
    sources: dict[str, int]


@dataclass(frozen=True, slots=True)
class Job:
    """A job and its rounds."""

    name: str
    requester: str
    state: str
    reason: str
    budget: int
    spent: int
    rounds: list[dict[str, Any]]
    trainers: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Rating:
    """A line of the leaderboard at the end: `windows` gave it something, of its last `outcomes`."""

    name: str
    rating: int
    share: float
    segments: int | None
    quality: int | None
    samples_per_joule: int | None
    windows: int
    outcomes: int


@dataclass(frozen=True, slots=True)
class Report:
    """All of a run. `wire` tells whether the bytes of nodes were counted at network interfaces."""

    scenario: str
    text: str
    backend: str
    described: str
    shaping: str
    link: str
    machine: str
    began: str
    seconds: float
    wire: bool
    failures: list[str]
    skipped: list[str]
    checks: list[Result]
    nodes: list[NodeFacts]
    jobs: list[Job]
    swarms: list[Swarm]
    finality: TimeToFinality | None
    ratings: list[Rating]
    events: list[Event]
    samples: dict[str, list[Sample]] = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    def to_json(self) -> str:
        """As text, with `ok`."""
        return json.dumps({"ok": self.ok, **asdict(self)}, indent=1)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write `report.json` and `report.html`; returns both paths."""
        from p2pml.lab.run.page import render

        folder.mkdir(parents=True, exist_ok=True)
        data, page = folder / "report.json", folder / "report.html"
        data.write_text(self.to_json(), encoding="utf-8")
        page.write_text(render(self), encoding="utf-8")
        return data, page


def collect(steps: Steps, text: str, failures: list[str], machine: str) -> Report:
    """Put together what a run noted."""
    timeline, hosts = steps.timeline, steps.fleet.hosts
    shaped = hosts.shaping != "none"
    return Report(
        scenario=steps.scenario.name,
        text=text,
        backend=hosts.kind,
        described=hosts.describe(),
        shaping=hosts.shaping,
        link=str(steps.scenario.default_link) if shaped else "not shaped",
        machine=machine,
        began=datetime.fromtimestamp(timeline.began_at, UTC).isoformat(timespec="seconds"),
        seconds=round(timeline.now(), 1),
        wire=not hosts.shared_loopback,
        failures=failures,
        skipped=list(steps.skipped),
        checks=list(steps.results),
        nodes=[_node(steps, name) for name in steps.watchers],
        jobs=[
            Job(
                job.name, job.node, job.state, job.record.get("reason", ""), job.record.get("budget", 0),
                job.record.get("spent", 0), job.record.get("history", []), job.record.get("peers", []),
            )
            for job in steps.jobs.values()
        ],
        swarms=[swarm for watcher in steps.watchers.values() for swarm in _swarms(watcher, steps)],
        finality=time_to_finality(timeline.samples),
        ratings=[_rating(item) for item in steps.leaderboard],
        events=list(timeline.events),
        samples={name: timeline.samples.get(name, []) for name in steps.watchers},
    )  # fmt: skip


def _node(steps: Steps, name: str) -> NodeFacts:
    node, samples = steps.fleet.nodes[name], steps.timeline.samples.get(name, [])
    known = [sample for sample in samples if sample.head]
    last = samples[-1] if samples else Sample(0.0, "silent")
    return NodeFacts(
        name=name,
        account=node.account,
        peer_id=node.peer_id,
        founder=node.founder,
        trainer=steps.scenario.is_trainer(name),
        state=node.state,
        first_balance=known[0].balance if known else None,
        last_balance=known[-1].balance if known else None,
        height=known[-1].height if known else -1,
        cpu_s=last.cpu_s,
        rss_peak=max((sample.rss for sample in samples), default=0),
        received=last.received,
        sent=last.sent,
        transport=steps.watchers[name].transport,
    )


def _rating(item: dict[str, Any]) -> Rating:
    energy = item["energy"] or {"samples_per_joule": None}
    return Rating(
        item["name"], item["rating"], item["share"], item["segments"], item["quality"],
        energy["samples_per_joule"], item["rated"], item["outcomes"],
    )  # fmt: skip


def _swarms(watcher: Watcher, steps: Steps) -> list[Swarm]:
    names = steps.names_by_peer()
    return [
        Swarm(
            watcher.node.name, item["name"], item["size"], item["private"],
            {names.get(peer, peer): count for peer, count in item["sources"].items()},
        )
        for item in watcher.datasets.values()
        if any(item["sources"].values())
    ]  # fmt: skip
