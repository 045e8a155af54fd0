"""`p2pml sim …` as a user types it, and the lab's scenario in virtual time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chain.forkchoice import Chain
from p2pml.cli.app import run
from p2pml.scenario.spec import load
from p2pml.sim.chain_node import ChainNode
from p2pml.sim.lab import CANNOT, DONE, FAILED, VirtualLab

SCENARIO = """
version: 1
name: small
nodes: 4
link: {rate: 20 Mbit, delay_ms: 25}
steps:
  - wait: {height: 3}
  - join: {node: n5}
  - seed: {node: n1, data: "noise:1MiB"}
  - get: {nodes: [n2, n5], data: "noise:1MiB"}
  - train: {node: n1, job: job.yaml}
  - kill: {node: n3}
  - pause: {node: n4, for: 3}
  - link: {node: n2, rate: 5 Mbit, delay_ms: 40, loss: 0.02}
  - restart: {node: n3}
  - partition: {groups: [[n1, n2, n5], [n3, n4]], for: 12}
  - check: [books, heads, shards]
"""


def scenario_file(folder: Path, text: str) -> Path:
    path = folder / "lab.yaml"
    path.write_text(text)
    return path


@pytest.mark.slow
def test_a_scenario_runs_as_far_as_virtual_time_can(tmp_path: Path) -> None:
    path = scenario_file(tmp_path, SCENARIO)
    report = VirtualLab(load(path), tmp_path, seed=3).run()
    outcomes = [(step.verb, step.outcome) for step in report.steps]
    cannot = [verb for verb, outcome in outcomes if outcome == CANNOT]
    assert report.ok
    assert cannot == ["train", "check shards"]
    assert outcomes.count(("check heads", DONE)) == outcomes.count(("check books", DONE)) == 1
    assert report.seconds > 15
    assert VirtualLab(load(path), tmp_path, seed=3).run() == report


@pytest.mark.slow
def test_the_standing_scenario_in_virtual_time() -> None:
    path = Path(__file__).parents[2] / "examples/lab/lab.yaml"
    report = VirtualLab(load(path), path.parent, seed=1).run()
    assert report.ok
    done = {step.verb for step in report.steps if step.outcome == DONE}
    assert {"get", "kill", "partition", "check heads", "check books", "check finality"} <= done


@pytest.mark.slow
def test_a_step_that_fails_ends_the_scenario(tmp_path: Path) -> None:
    text = SCENARIO.replace("wait: {height: 3}", "wait: {height: 30, within: 5}")
    report = VirtualLab(load(scenario_file(tmp_path, text)), tmp_path, seed=3).run()
    assert [(step.verb, step.outcome) for step in report.steps] == [("wait", FAILED)]


@pytest.mark.slow
def test_the_lab_command_prints_the_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = scenario_file(tmp_path, SCENARIO)
    assert run(["sim", "lab", str(path), "--seed", "3"]) == 0
    output = capsys.readouterr()
    assert "cannot" in output.out
    assert "trace" in output.err
    assert run(["sim", "lab", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


@pytest.mark.slow
def test_chain_prints_speed_and_trace_and_the_same_again(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sim", "chain", "--nodes", "4", "--seconds", "20", "--seed", "8"]
    assert run(command) == 0
    text = capsys.readouterr().out
    assert "per second" in text
    assert run([*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["summary"]["trace"] in text
    assert report["problems"] == []


@pytest.mark.slow
def test_several_seeds_of_a_swarm_with_a_liar(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sim", "swarm", "--nodes", "4", "--sources", "2", "--size", "1", "--liar", "s2=poisoner"]
    assert run([*command, "--seeds", "2", "--json"]) == 0
    reports = json.loads(capsys.readouterr().out)
    assert [report["summary"]["seed"] for report in reports] == [1, 2]
    assert all(report["finished"] == 4 for report in reports)


@pytest.mark.slow
def test_a_failing_seed_is_told_with_the_command_that_repeats_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["sim", "chain", "--nodes", "4", "--seconds", "30", "--partition", "10", "--seed", "6"]
    monkeypatch.setattr(Chain, "ready_at_ms", lambda self, sealed: 0)
    liar = ["--liar", "n1=future"]
    assert run([*command, *liar]) == 1
    error = capsys.readouterr().err
    assert "seed 6, t=" in error
    assert "before its time" in error
    assert "p2pml sim chain --nodes 4 --seconds 30" in error
    assert "--liar n1=future --votes --seed 6" in error


@pytest.mark.slow
def test_consensus_compares_the_rules_and_draws_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="the plots need the extra 'plots'")
    command = ["sim", "consensus", "--validators", "5", "--slots", "20", "--seeds", "2", "--jobs", "2"]
    assert run([*command, "--out", str(tmp_path)]) == 0
    assert "richest (2 runs)" in capsys.readouterr().out
    document = json.loads((tmp_path / "consensus-rules.json").read_text())
    assert {row["rule"] for row in document["runs"]} == {"rating", "richest", "uniform", "work"}
    assert document["parts"]["work"]["missed"]["mean"] > document["parts"]["rating"]["missed"]["mean"]
    assert document["costs"][0]["network"] > document["costs"][0]["propose"] > 0
    assert "<svg" in (tmp_path / "consensus-rules.svg").read_text()


@pytest.mark.slow
def test_a_study_that_was_ended_goes_on_where_it_was(tmp_path: Path) -> None:
    command = [
        "sim",
        "consensus",
        "--study",
        "faults",
        "--validators",
        "4",
        "--slots",
        "20",
        "--out",
        str(tmp_path),
    ]
    assert run(command) == 0
    document = json.loads((tmp_path / "consensus-faults.json").read_text())
    first, second = sorted((tmp_path / "runs").iterdir())
    [kept] = json.loads(first.read_text())
    first.write_text(json.dumps([{**kept, "final_share": 0.99}]))  # as nothing but the file says
    second.write_text("[")  # spoilt: run again
    assert run(command) == 0
    shares = {row["part"]: row["final_share"] for row in document["runs"]}
    again = json.loads((tmp_path / "consensus-faults.json").read_text())
    assert {row["part"]: row["final_share"] for row in again["runs"]} == {**shares, kept["part"]: 0.99}


@pytest.mark.slow
def test_a_broken_promise_is_told_with_its_seed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ChainNode, "_owed_vote", lambda self, slot: None)
    command = ["sim", "consensus", "--study", "faults", "--validators", "4", "--slots", "20", "--seed", "3"]
    assert run(command) == 1
    error = capsys.readouterr().err
    assert "calm, seed 3: of the slots 0.0% have a final block" in error
    assert "p2pml sim consensus --validators 4 --slots 20 --study faults" in error


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["chain", "--link", "loss=2"], "loss 2.0 is a fraction"),
        (["chain", "--link", "speed=2"], "unknown link setting 'speed'"),
        (["chain", "--link", "delay_ms=soon"], "must be a number"),
        (["chain", "--liar", "n1=nice"], "equivocator"),
        (["chain", "--liar", "n99=future"], "n1 to n20"),
        (["chain", "--preset", "none"], "there is no preset 'none'"),
        (["swarm", "--liar", "s9=mute"], "s1 to p20"),
        (["consensus", "--study", "weather"], "no study 'weather'"),
    ],
)
def test_mistakes_are_told(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sim", *arguments]) == 2
    assert says in capsys.readouterr().err
