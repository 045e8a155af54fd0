"""A lab scenario in virtual time, as far as it goes.

The chain runs for as long as the scenario does; a dataset travels in a swarm of its own whose virtual time is
added to the chain's. What needs a worker or a real disk is not imitated: such a step is reported as one that
this place cannot run.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from p2pml.scenario.spec import (
    OPEN_BLOCKS,
    Checks,
    Get,
    Join,
    Kill,
    Partition,
    Pause,
    Relink,
    Restart,
    Scenario,
    Seed,
    Step,
    Wait,
    verb_of,
)
from p2pml.sim.chain_world import ChainWorld
from p2pml.sim.swarm_world import SwarmWorld

DEFAULT_BYTES = 1024 * 1024
"""Size of a dataset whose file is not beside the scenario."""
MAX_BYTES = 64 * 1024 * 1024
_NOISE = re.compile(r"noise:([1-9][0-9]{0,3})MiB")
_STEP_S = 0.25
_AGREE_S = 60.0

DONE, FAILED, CANNOT = "done", "failed", "cannot"


@dataclass(frozen=True, slots=True)
class StepReport:
    """What became of one step: `outcome` is done, failed or cannot; `at` is its end in virtual seconds."""

    number: int
    verb: str
    outcome: str
    at: float
    detail: str


@dataclass(frozen=True, slots=True)
class LabReport:
    """A scenario's run; `trace` is a hash over the traces of the chain and of every swarm."""

    name: str
    seed: int
    seconds: float
    events: int
    height: int
    trace: str
    steps: tuple[StepReport, ...]

    @property
    def ok(self) -> bool:
        """Whether no step failed."""
        return all(step.outcome != FAILED for step in self.steps)


class _Failed(Exception):
    """A step did not come out as the scenario demands."""


class VirtualLab:
    """Runs a scenario's steps one after the other.

    Args:
        scenario: the file, read.
        folder: where datasets beside it are looked for; only their sizes matter.
        seed: of everything.
    """

    def __init__(self, scenario: Scenario, folder: Path, seed: int) -> None:
        self._scenario, self._folder, self._seed = scenario, folder, seed
        joiners = [name for name in scenario.names if name not in scenario.founders]
        self.chain = ChainWorld(
            seed,
            scenario.nodes,
            scenario.preset,
            scenario.default_link,
            transfers_per_second=0.5,
            followers=joiners,
            idle=True,
        )
        self._holders: dict[str, list[str]] = {}
        self._events = 0
        self._traces = hashlib.sha256()
        self._do: dict[type, Callable[..., str]] = {
            Wait: self._wait,
            Seed: self._seed_data,
            Join: self._join,
            Get: self._get,
            Kill: self._kill,
            Restart: self._restart,
            Pause: self._pause,
            Relink: self._relink,
            Partition: self._partition,
        }

    def run(self) -> LabReport:
        """All steps; a failed one ends the run. Raises InvariantViolated."""
        self.chain.run(0.0)
        steps: list[StepReport] = []
        for number, step in enumerate(self._scenario.steps, start=1):
            steps += self._step(number, step)
            if steps[-1].outcome == FAILED:
                break
        report = self.chain.run(0.0)
        self._traces.update(report.summary.trace.encode())
        return LabReport(
            self._scenario.name, self._seed, report.summary.seconds, self._events + report.summary.events,
            report.height, self._traces.hexdigest(), tuple(steps),
        )  # fmt: skip

    def _step(self, number: int, step: Step) -> list[StepReport]:
        if isinstance(step, Checks):
            return [self._report(number, f"check {check}", *self._check(check)) for check in step.checks]
        act = self._do.get(type(step))
        if act is None:
            return [self._report(number, verb_of(step), CANNOT, "training needs real workers")]
        try:
            outcome, detail = DONE, act(step)
        except _Failed as error:
            outcome, detail = FAILED, str(error)
        return [self._report(number, verb_of(step), outcome, detail)]

    def _report(self, number: int, verb: str, outcome: str, detail: str) -> StepReport:
        return StepReport(number, verb, outcome, self.chain.world.heap.now, detail)

    # -- the chain ---------------------------------------------------------------------------------------

    def _until(self, condition: Callable[[], bool], within: float, what: str) -> float:
        world = self.chain.world
        began = world.heap.now
        while not condition():
            if world.heap.now - began >= within:
                raise _Failed(f"{what} took longer than {within:g} s")
            world.run(_STEP_S)
        return world.heap.now - began

    def _wait(self, step: Wait) -> str:
        def high() -> bool:
            return min(node.chain.head.height for node in self.chain.live) >= step.height

        return f"after {self._until(high, step.within, f'height {step.height}'):.1f} s"

    def _join(self, step: Join) -> str:
        self.chain.world.restart(step.node)
        goal = max(node.chain.head.height for node in self.chain.live)
        newcomer = self.chain.node(step.node)
        took = self._until(lambda: newcomer.chain.head.height >= goal, _AGREE_S, f"{step.node}'s sync")
        return f"a follower, at height {goal} after {took:.1f} s"

    def _kill(self, step: Kill) -> str:
        self.chain.world.crash(step.node)
        return step.node

    def _restart(self, step: Restart) -> str:
        self.chain.world.restart(step.node)
        return f"{step.node}, from its disk"

    def _pause(self, step: Pause) -> str:
        world = self.chain.world
        world.pause(step.node)
        world.run(step.seconds)
        world.resume(step.node)
        return f"{step.node} for {step.seconds:g} s"

    def _relink(self, step: Relink) -> str:
        self.chain.world.network.links[step.node] = link = step.link()
        return f"{step.node}: {link}"

    def _partition(self, step: Partition) -> str:
        self.chain.world.network.partition(step.groups)
        report = self.chain.run(step.seconds)
        self.chain.heal()
        return f"{step.seconds:g} s; {report.distinct_heads} heads at its end"

    # -- datasets ----------------------------------------------------------------------------------------

    def _seed_data(self, step: Seed) -> str:
        self._holders.setdefault(step.data, []).append(step.node)
        return f"{step.data} at {step.node}, {self._size_of(step.data)} bytes"

    def _get(self, step: Get) -> str:
        down = self.chain.world.down
        have = [name for name in self._holders.get(step.data, []) if name not in down]
        want = [name for name in step.nodes if name not in down and name not in have]
        if not have:
            raise _Failed(f"nobody who is up has {step.data}")
        swarm = SwarmWorld(self._seed, want, have, self._size_of(step.data), self._scenario.default_link)
        swarm.world.network.links.update({name: self.chain.world.network.links[name] for name in swarm.names})
        report = swarm.run_until_done(step.within)
        self._traces.update(report.summary.trace.encode())
        self._events += report.summary.events
        self.chain.world.run(report.summary.seconds)
        if problems := swarm.problems(report):
            raise _Failed(problems[0])
        self._holders[step.data] += want
        return f"{step.data} to {len(want)} nodes in {report.slowest_time or 0.0:.1f} s"

    def _size_of(self, data: str) -> int:
        path = self._folder / data
        if noise := _NOISE.fullmatch(data):
            return min(int(noise[1]) * 1024 * 1024, MAX_BYTES)
        size = path.stat().st_size if path.is_file() else DEFAULT_BYTES
        return max(1, min(size, MAX_BYTES))

    # -- checks ------------------------------------------------------------------------------------------

    def _check(self, check: str) -> tuple[str, str]:
        if check == "books":
            exact = all(node.chain.state().supply_ok() for node in self.chain.live)
            return (DONE, "exact on every node, after every block") if exact else (FAILED, "not exact")
        if check == "finality":
            return self._finality()
        if check != "heads":
            return CANNOT, "only real nodes tell"
        try:
            took = self._until(self._agreed, _AGREE_S, "agreement of all heads")
        except _Failed as error:
            return FAILED, str(error)
        return DONE, f"{len(self.chain.live)} nodes agree after {took:.1f} s"

    def _finality(self) -> tuple[str, str]:
        def all_but_the_last() -> bool:
            heads = [(node.chain.head.height, node.chain.final_height) for node in self.chain.live]
            return all(height - final <= OPEN_BLOCKS for height, final in heads)

        try:
            took = self._until(all_but_the_last, _AGREE_S, "finality on all nodes")
        except _Failed as error:
            return FAILED, str(error)
        return DONE, f"all but the last blocks are final after {took:.1f} s"

    def _agreed(self) -> bool:
        report = self.chain.run(0.0)
        return not self.chain.agreement(report, depth=1)
