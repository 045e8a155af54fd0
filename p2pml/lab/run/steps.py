"""How each verb of the scenario language is carried out on real nodes."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2pml.errors import ExitCode, UserError
from p2pml.lab.errors import LabError, UnsupportedError
from p2pml.lab.run import checks, datasets, private, ratings
from p2pml.lab.run.fleet import Fleet, Node
from p2pml.lab.run.timeline import Timeline
from p2pml.lab.run.usage import Usage
from p2pml.lab.run.watch import JobRun, Watcher
from p2pml.scenario import spec

POLL_S = 0.25
WORKER_S = 420.0
"""TensorFlow takes a minute to load where many nodes share few cores."""
ANNOUNCE_S = 180.0
PATIENCE_S = 90.0
"""How long a check may take to come true: blocks travel, forks heal."""


@dataclass(slots=True)
class Steps:
    """Carries out steps one after the other; use it from one thread.

    Args:
        scenario: who is who.
        folder: of the scenario file.
        fleet: its nodes.
        timeline: told everything.
    """

    scenario: spec.Scenario
    folder: Path
    fleet: Fleet
    timeline: Timeline
    jobs: dict[str, JobRun] = field(default_factory=dict)
    watchers: dict[str, Watcher] = field(default_factory=dict)
    results: list[checks.Result] = field(default_factory=list)
    fetches: list[checks.Fetch] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    leaderboard: list[dict[str, Any]] = field(default_factory=list)
    _killed: set[str] = field(default_factory=set)
    _holders: dict[str, set[str]] = field(default_factory=dict)

    def found(self) -> None:
        """Start the founders and wait until they answer."""
        self.fleet.found()
        for node in self.fleet.nodes.values():
            self._watch(node)
        if self.fleet.hosts.shaping == "none" and self.scenario.link:
            self._skip("link", f"no link is shaped ({self.scenario.default_link})")
        self._until("the nodes do not answer", lambda: all(map(self._answers, self.fleet.live())), 180.0)

    def carry_out(self, step: spec.Step) -> None:
        """One step.

        Raises:
            UserError: it did not come about, or a node died meanwhile.
        """
        match step:
            case spec.Wait():
                self._wait(step)
            case spec.Seed():
                self._seed(step)
            case spec.Join():
                self._watch(self.fleet.join(step.node))
                self._until(f"{step.node} does not answer", lambda: self._answers_now(step.node), 120.0)
            case spec.Train():
                self._train(step)
            case spec.WaitRound():
                self._wait_round(step)
            case spec.WaitJob():
                self._wait_job(step)
            case spec.WaitWindow():
                self._wait_window(step)
            case spec.Kill():
                self.fleet.kill(step.node)
                self._killed.add(step.node)
                self.timeline.add("node", step.node, "killed")
            case spec.Restart():
                self.fleet.restart(step.node)
                self.timeline.add("node", step.node, "started again")
            case spec.Pause():
                self._pause(step)
            case spec.Relink():
                self._try("link", lambda: self.fleet.hosts.shape(step.node, step.link()))
            case spec.Partition():
                self._partition(step)
            case spec.Get():
                self._get(step)
            case spec.Checks():
                for name in step.checks:
                    self._check(name)

    def close(self) -> None:
        """End the watching; what ratings have come to is asked for before."""
        with suppress(UserError, StopIteration):
            self.leaderboard = next(iter(self.fleet.live())).api.get("/ratings")
        for watcher in self.watchers.values():
            watcher.end()
        for watcher in self.watchers.values():
            watcher.join()
        self.fleet.close()

    # -- waiting ---------------------------------------------------------------------------------------

    def _until(self, otherwise: str, condition: Callable[[], bool], within: float) -> None:
        deadline = time.monotonic() + within
        while not condition():
            self.fleet.check_alive()
            if time.monotonic() >= deadline:
                raise UserError(f"{otherwise}: not within {within:.0f} s", "see the nodes' logs")
            time.sleep(POLL_S)

    def _sleep(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.fleet.check_alive()
            time.sleep(min(POLL_S, left))

    def _answers(self, node: Node) -> bool:
        return self.watchers[node.name].status is not None

    def _answers_now(self, name: str) -> bool:
        return self._answers(self.fleet.nodes[name])

    def _watch(self, node: Node) -> None:
        hosts = self.fleet.hosts
        usage = Usage(hosts.run_id, node.name, own_interface=not hosts.shared_loopback)
        self.watchers[node.name] = Watcher(node, usage, self.timeline, self.jobs)
        self.watchers[node.name].start()

    def _wait(self, step: spec.Wait) -> None:
        def reached() -> bool:
            found = [self.watchers[node.name].status for node in self.fleet.live()]
            return all(item is not None and item["head"]["height"] >= step.height for item in found)

        self._until(f"not every head is at height {step.height}", reached, step.within)

    def _wait_window(self, step: spec.WaitWindow) -> None:
        def closed() -> bool:
            found = [node.api.get("/rating/windows") for node in self.fleet.live()]
            return all(ratings.closed_windows(windows) >= step.number for windows in found)

        self._until(f"rating window {step.number} was not closed", closed, step.within)

    # -- faults ----------------------------------------------------------------------------------------

    def _skip(self, verb: str, why: str) -> None:
        text = f"not possible here: {verb}: {why}"
        self.skipped.append(text)
        self.timeline.add("skipped", "", text)

    def _try(self, verb: str, action: Callable[[], None]) -> bool:
        """Whether it was done; what this place cannot do is noted."""
        try:
            action()
        except UnsupportedError as error:
            self._skip(verb, error.cause)
            return False
        return True

    def _pause(self, step: spec.Pause) -> None:
        self.fleet.node(step.node)
        self.fleet.pause(step.node)
        self.timeline.add("node", step.node, f"frozen for {step.seconds:g} s")
        try:
            self._sleep(step.seconds)
        finally:
            self.fleet.resume(step.node)
        self.timeline.add("node", step.node, "goes on")

    def _partition(self, step: spec.Partition) -> None:
        hosts = self.fleet.hosts
        if not self._try("partition", lambda: hosts.partition(step.groups)):
            return
        groups = " | ".join(" ".join(group) for group in step.groups)
        self.timeline.add("node", "", f"partition for {step.seconds:g} s: {groups}")
        try:
            self._sleep(step.seconds)
            told = " | ".join(" ".join(map(self._head_of, group)) for group in step.groups)
            self.timeline.add("node", "", f"heads at the end of the partition: {told}")
        finally:
            hosts.heal()
        self.timeline.add("node", "", "healed")

    def _head_of(self, name: str) -> str:
        sample = self.timeline.last(name)
        return f"{name} {sample.height}:{sample.head[:6]}" if sample else f"{name} ?"

    # -- data ------------------------------------------------------------------------------------------

    def _seed(self, step: spec.Seed) -> None:
        node = self.fleet.node(step.node)
        path = datasets.write(step.data, self.folder, self.fleet.hosts.folder(step.node) / "data")
        name = datasets.name_of(step.data)
        body = {"action": "seed", "path": str(path), "name": name}
        found = node.api.post("/datasets", body, None)
        self._holders.setdefault(name, set()).add(step.node)
        self.timeline.add(
            "node", step.node, f"offers {name}: {found['size']} bytes, {found['pieces']} pieces"
        )

    def _get(self, step: spec.Get) -> None:
        name, begun = datasets.name_of(step.data), time.monotonic()
        holders = self._holders.setdefault(name, set())
        before = len(holders - set(step.nodes))
        for each in step.nodes:
            self._begin_fetch(self.fleet.node(each), name)
        waiting, found = list(step.nodes), {}

        def complete() -> bool:
            for each in list(waiting):
                found[each] = self.fleet.node(each).api.get(f"/datasets/{name}")
                if found[each]["complete"]:
                    waiting.remove(each)
                    took = time.monotonic() - begun
                    self.timeline.add("node", each, f"has all of {name} after {took:.1f} s")
            return not waiting

        self._until(f"{name} did not reach {', '.join(step.nodes)}", complete, step.within)
        names = self.names_by_peer()
        for each in step.nodes:
            by_name = {names.get(peer, peer): count for peer, count in found[each]["sources"].items()}
            self.fetches.append(checks.Fetch(each, name, before, by_name))
        holders.update(step.nodes)

    def _begin_fetch(self, node: Node, name: str) -> None:
        def begun() -> bool:
            try:
                node.api.post("/datasets", {"action": "get", "dataset": name}, 60.0)
            except UserError as error:
                if error.code in (ExitCode.FAILURE, ExitCode.NETWORK):
                    return False  # the announcement has not reached it yet
                raise
            return True

        self._until(f"{node.name} does not hear of {name}", begun, ANNOUNCE_S)

    def names_by_peer(self) -> dict[str, str]:
        """Node names by peer id."""
        return {node.peer_id: node.name for node in self.fleet.nodes.values()}

    # -- jobs ------------------------------------------------------------------------------------------

    def _train(self, step: spec.Train) -> None:
        node = self.fleet.node(step.node)
        if step.name in self.jobs:
            raise LabError(f"there is a job called {step.name} already", "give it another name with `as`")
        try:
            text = (self.folder / step.job).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise LabError(
                f"the job {self.folder / step.job} cannot be read: {error}", "put it beside the scenario"
            ) from error
        self._wait_for_workers(step.node)
        place = self.fleet.hosts.folder(step.node) / "job"
        place.mkdir(exist_ok=True)
        if self.scenario.private is not None:
            private.give_validation(place)
        body = {"spec": text, "base_dir": str(place), "origin": step.job}
        started = node.api.post("/jobs", body, None)
        self.jobs[step.name] = JobRun(step.name, step.node, started["id"])
        self.timeline.add("job", step.node, f"asks for {step.name}: job {started['id'][:12]}")

    def _wait_for_workers(self, requester: str) -> None:
        def warm() -> bool:
            for node in self.fleet.live():
                if not self.scenario.is_trainer(node.name) and node.name != requester:
                    continue
                status = self.watchers[node.name].status
                if status is not None and status["worker"] == "off":
                    raise LabError(
                        f"{node.name} has no worker: {status['worker_reason']}", "see its logs/worker.log"
                    )
                if status is None or status["worker"] == "starting":
                    return False
            return True

        self._until("the workers did not get ready", warm, WORKER_S)

    def _job(self, name: str) -> JobRun:
        if name not in self.jobs:
            raise LabError(f"no job is called {name!r} at this point", "start it with `train` first")
        return self.jobs[name]

    def _wait_round(self, step: spec.WaitRound) -> None:
        job = self._job(step.job)
        self._until(
            f"{job.name} has {job.rounds} rounds, not {step.round}",
            lambda: job.rounds >= step.round or job.over,
            step.within,
        )
        if job.rounds < step.round:
            raise UserError(f"{job.name} {_end_of(job)} after {job.rounds} rounds", "", ExitCode.JOB_FAILED)

    def _wait_job(self, step: spec.WaitJob) -> None:
        job = self._job(step.job)
        self._until(f"{job.name} is not over", lambda: job.over, step.within)
        if job.state != "done":
            raise UserError(f"{job.name} {_end_of(job)}", "see the requester's log", ExitCode.JOB_FAILED)
        accuracy = float(job.record["accuracy"] or 0.0)
        ok = accuracy >= step.accuracy
        self._note(checks.Result("accuracy", ok, f"{job.name}: {accuracy:.1%}, asked {step.accuracy:.1%}"))

    # -- checks ----------------------------------------------------------------------------------------

    def _check(self, name: str) -> None:
        def apis() -> dict[str, checks.Getter]:
            return {node.name: node.api for node in self.fleet.live()}

        match name:
            case "heads":
                self._note(checks.patiently(lambda: checks.heads(apis()), PATIENCE_S, self._not_yet))
            case "books":
                self._note(checks.patiently(lambda: checks.books(apis()), PATIENCE_S, self._not_yet))
            case "finality":
                self._note(checks.patiently(lambda: checks.finality(apis()), PATIENCE_S, self._not_yet))
            case "ratings":
                self._note(checks.patiently(lambda: ratings.earned(apis()), PATIENCE_S, self._not_yet))
            case "sources":
                self._note(checks.sources(self.fetches))
            case "private":
                self._note(self._private())
            case _:
                self._note(checks.patiently(self._shards, PATIENCE_S / 3, self._not_yet))

    def _not_yet(self, text: str) -> None:
        self.timeline.add("node", "", text)

    def _shards(self) -> checks.Result:
        if not self.jobs:
            return checks.Result("shards", False, "there is no job whose shards could be looked at")
        job = list(self.jobs.values())[-1]
        names = self.names_by_peer()
        peers = {names[peer["peer"]]: peer for peer in job.record.get("peers", []) if peer["peer"] in names}
        there = [node for node in self.fleet.live() if node.name in peers]
        try:
            if job.over:
                stayed = {node.name: node.api for node in there if node.name not in self._killed}
                return checks.shards_over(stayed, [name for name in peers if name in self._killed])
            present = [node for node in there if peers[node.name]["state"] not in ("left", "dropped")]
            holders = [node for node in present if peers[node.name]["clients"]]  # who came late may be spare
            return checks.shards_running(
                {node.name: (node.api, node.home.pieces) for node in holders},
                {node.name: set(peers[node.name]["clients"]) for node in holders},
                self._shard_count(job),
                len(peers) - len(present),
            )
        except UserError as error:
            return checks.Result("shards", False, error.cause)

    def _private(self) -> checks.Result:
        if not self.jobs or self.scenario.private is None:
            return checks.Result("private", False, "there is no job whose data could be looked for")
        job, names = list(self.jobs.values())[-1], self.names_by_peer()
        homes = {node.name: node.home.root for node in self.fleet.nodes.values()}
        peers = {names[peer["peer"]]: peer for peer in job.record.get("peers", []) if peer["peer"] in names}
        return private.stayed(self.scenario.private, homes, peers)

    def _shard_count(self, job: JobRun) -> int:
        """As the requester offers them."""
        offered: list[dict[str, Any]] = self.fleet.node(job.node).api.get("/datasets")
        counts = [len(item["files"]) for item in offered if item["name"].endswith(checks.SHARDS_SUFFIX)]
        return counts[-1] if counts else 0

    def _note(self, result: checks.Result) -> None:
        self.results.append(result)
        kind, verdict = ("check", "ok") if result.ok else ("failure", "FAILED")
        self.timeline.add(kind, "", f"{result.name} {verdict}: {result.text}")


def _end_of(job: JobRun) -> str:
    reason = job.record.get("reason", "")
    return f"ended as {job.state}" + (f" ({reason})" if reason else "")
