"""The standing scenario with real nodes on each place to run; eight nodes behind bad links in containers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from p2pml.errors import ExitCode
from p2pml.lab import engine, procs
from p2pml.lab.registry import default_registry
from p2pml.lab.run.report import Report
from p2pml.lab.run.runner import run_scenario
from p2pml.lab.run.timeline import Event

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

_ROOT = Path(__file__).parents[2]
_LAB = _ROOT / "examples/lab/lab.yaml"
_EIGHT = Path(__file__).with_name("containers.yaml")


@dataclass
class _Lab:
    """Runs scenarios and sees to it that nothing of them stays."""

    runs: Path
    out: Path

    def run(self, scenario: Path, kind: str) -> Report:
        def tell(event: Event) -> None:
            print(f"{event.at:7.1f} {event.kind:8} {event.node:4} {event.text}")

        standing = scenario.name in (_LAB.name, _EIGHT.name)
        kept = os.environ.get("P2PML_LAB_REPORTS", self.out) if standing else self.out
        out = Path(kept) / f"{scenario.stem}-{kind}"
        report = run_scenario(scenario, kind, tell=tell, logs=out / "logs", runs=self.runs)
        report.write(out)
        assert _left(self.runs) == []
        return report


def _left(runs: Path) -> list[str]:
    """What of this registry's runs is still there."""
    left = [f"folder {runs}"] if runs.exists() else []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and entry.name != str(os.getpid()):
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if f"{procs.HOST_LABEL}=".encode() in environment and str(runs).encode() in environment:
                left.append(f"process {entry.name}")
    if engine.is_there():
        with engine.connect() as client:
            found = [run for run, where in engine.runs(client).items() if where == runs]
        left += [f"container engine: run {run}" for run in found]
    return left


@pytest.fixture
def lab(runs: Path, tmp_path: Path) -> _Lab:
    return _Lab(runs, tmp_path / "reports")


def _hit_in_mid_job(report: Report, *what: str) -> None:
    """The shards were looked at and all of this happened while the job trained."""
    told = [event.text for event in report.events]
    begun = next(place for place, text in enumerate(told) if "round 1 of" in text)
    over = next(place for place, text in enumerate(told) if text.endswith(" is settling"))
    for words in (r"shards ok: \d shards: ", "killed", *what):
        assert begun < next(n for n, text in enumerate(told) if re.match(words, text)) < over, words


def _without_window(folder: Path) -> Path:
    """The standing scenario without its rating window, which takes two minutes wherever it runs."""
    shutil.copytree(_LAB.parent, folder)
    text = (folder / _LAB.name).read_text()
    for line in (r"params: .*", r"rating: .*", r"  - wait_window: .*"):
        text, found = re.subn(rf"^{line}\n", "", text, flags=re.MULTILINE)
        assert found == 1, line
    (folder / _LAB.name).write_text(text.replace(", ratings]", "]"))
    return folder / _LAB.name


@pytest.mark.parametrize(
    "kind", ["processes", pytest.param("namespaces", marks=pytest.mark.long), "containers"]
)
def test_the_standing_scenario(usable: str, lab: _Lab, tmp_path: Path) -> None:
    windows = usable == "processes"
    report = lab.run(_LAB if windows else _without_window(tmp_path / "lab"), usable)
    assert report.failures == []
    assert [item.name for item in report.checks if item.ok] == [
        "sources", "shards", "accuracy", "accuracy", "private", "heads", "books", "finality", "shards",
        *["ratings"] * windows,
    ]  # fmt: skip
    verbs = {text.split(":")[1].strip() for text in report.skipped}
    assert verbs == ({"link", "partition"} if usable == "processes" else set())
    assert report.shaping in (("none",) if usable == "processes" else ("netem", "nfqueue"))
    newcomer = next(node for node in report.nodes if not node.founder)
    assert newcomer.first_balance == 0
    assert newcomer.last_balance is not None
    assert newcomer.last_balance > 0, "the newcomer trained and was paid"
    job, wards = report.jobs
    assert (job.state, len(job.rounds)) == ("done", 20)
    assert (wards.state, len(wards.rounds)) == ("done", 5)
    _hit_in_mid_job(report, "started again", *(() if usable == "processes" else ("partition for",)))
    founders = [item for item in report.ratings if item.windows]
    assert len(founders) >= 3 * windows
    assert all(item.segments and item.rating for item in founders), "a window has rated them"
    assert report.finality is not None
    assert report.finality.blocks > 20
    assert all(
        node.cpu_s > 1 and node.rss_peak > 10**7 and node.received + node.sent > 0 for node in report.nodes
    )


@pytest.mark.long
@pytest.mark.parametrize("kind", ["containers"])
def test_eight_containers_behind_bad_links(usable: str, lab: _Lab) -> None:
    report = lab.run(_EIGHT, usable)
    assert report.failures == []
    assert report.skipped == []
    assert len(report.nodes) == 8
    assert all(item.ok for item in report.checks)
    assert {item.name for item in report.checks} == {
        "sources",
        "shards",
        "accuracy",
        "heads",
        "books",
        "finality",
    }
    _hit_in_mid_job(report, "frozen for 10 s")
    told = [event.text for event in report.events]
    for what in ("killed", "started again", "frozen for 10 s", "healed"):
        assert what in told
    assert {swarm.node for swarm in report.swarms if swarm.dataset.startswith("noise")} == {
        f"n{number}" for number in range(2, 9)
    }


@pytest.mark.parametrize("kind", ["namespaces"])
def test_a_partition_is_felt_and_heals(usable: str, lab: _Lab, tmp_path: Path) -> None:
    """Without training: two halves part, each with its own chain, and come together again."""
    scenario = tmp_path / "cut.yaml"
    scenario.write_text(
        "version: 1\nname: cut\nnodes: 4\npreset: demo\ntrainers: []\nlink: {delay_ms: 5}\nsteps:\n"
        "  - wait: {height: 2}\n"
        "  - partition: {groups: [[n1, n2], [n3, n4]], for: 20}\n"
        "  - check: [heads, books]\n"
    )
    report = lab.run(scenario, usable)
    assert report.failures == []
    (told,) = [event.text for event in report.events if event.text.startswith("heads at the end")]
    halves = told.partition("partition: ")[2].split("|")
    left, right = ({part.split(":")[1] for part in half.split() if ":" in part} for half in halves)
    assert left
    assert right
    assert left.isdisjoint(right), told


def test_a_scenario_that_fails_says_so_and_leaves_nothing(lab: _Lab, tmp_path: Path) -> None:
    scenario = tmp_path / "bad.yaml"
    scenario.write_text(
        "version: 1\nname: bad\nnodes: 2\ntrainers: []\nsteps:\n"
        "  - get: {nodes: [n2], data: digits, within: 1}\n  - check: [heads]\n"
    )
    from p2pml.lab.run import steps

    with pytest.MonkeyPatch.context() as impatient:
        impatient.setattr(steps, "ANNOUNCE_S", 2.0)
        report = lab.run(scenario, "processes")
    assert not report.ok
    assert "n2 does not hear of digits.tar" in report.failures[0]
    assert report.checks == []


def test_the_command_writes_a_report_and_tells_failure(tmp_path: Path) -> None:
    scenario = tmp_path / "two.yaml"
    scenario.write_text(
        "version: 1\nname: two\nnodes: 2\ntrainers: []\nsteps:\n  - wait: {height: 1}\n  - check: [sources]\n"
    )
    command = [
        sys.executable,
        "-m",
        "p2pml",
        "lab",
        "run",
        str(scenario),
        "--out",
        str(tmp_path / "out"),
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert [item["name"] for item in told["checks"]] == ["sources"]
    assert told == json.loads((tmp_path / "out" / "report.json").read_text())
    assert "FAILED" in done.stderr
    assert (tmp_path / "out" / "logs" / "n1" / "daemon.out").exists()


@pytest.mark.parametrize("kind", ["processes", "namespaces"])
def test_ctrl_c_clears_everything_away(usable: str, tmp_path: Path) -> None:
    scenario = tmp_path / "long.yaml"
    scenario.write_text(
        "version: 1\nname: long\nnodes: 2\ntrainers: []\nsteps:\n  - wait: {height: 100000, within: 1000}\n"
    )
    before = _runs()
    command = [sys.executable, "-m", "p2pml", "lab", "run", str(scenario), "--on", usable]
    with subprocess.Popen(
        [*command, "--out", str(tmp_path / "out")], stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stderr is not None
        for line in program.stderr:
            if "1/1 wait" in line:
                break
        (run,) = _runs() - before
        assert len(procs.find(run)) >= 2
        program.send_signal(signal.SIGINT)
        said = program.stderr.read()
        assert program.wait(60) == ExitCode.INTERRUPTED, said
    assert procs.find(run) == []
    assert run not in _runs()


def _runs() -> set[str]:
    folder = default_registry()
    return {entry.name for entry in folder.iterdir()} if folder.exists() else set()
