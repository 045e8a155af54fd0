"""The scenario language: what it reads, what it refuses, and the files that come with p2pml."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pml.errors import ExitCode, UserError
from p2pml.lab.run import datasets
from p2pml.lab.run.runner import describe
from p2pml.scenario import spec
from p2pml.training.spec import parse_spec

_ROOT = Path(__file__).parents[2]
_HEAD = "version: 1\nname: t\nnodes: 3\n"


def _load(tmp_path: Path, text: str) -> spec.Scenario:
    path = tmp_path / "t.yaml"
    path.write_text(text)
    return spec.load(path)


@pytest.mark.parametrize("path", ["examples/lab/lab.yaml", "tests/emulation/containers.yaml"])
def test_the_files_that_come_with_it(path: str) -> None:
    scenario = spec.load(_ROOT / path)
    jobs = [step.job for step in scenario.steps if isinstance(step, spec.Train)]
    assert jobs
    for job in jobs:
        parse_spec((_ROOT / path).parent.joinpath(job).read_text(), job)
    verbs = {spec.verb_of(step) for step in scenario.steps}
    assert {"seed", "join", "train", "kill", "restart", "partition", "get", "check", "wait_job"} <= verbs


@pytest.mark.parametrize(
    ("rest", "says"),
    [
        ("steps: []", "steps"),
        ("steps: [{wait: {height: 0}}]", "height"),
        ("steps: [{explode: {node: n1}}]", "unknown verb 'explode'"),
        ("steps: [{kill: {node: n9}}]", "n9"),
        ("steps: [{join: {node: n2}}]", "n2 is there already"),
        ("steps: [{check: [luck]}]", "checks.0"),
        ("trainers: [n9]\nsteps: [{check: [heads]}]", "n9"),
        ("link: {speed: 3}\nsteps: [{check: [heads]}]", "speed"),
        ("steps: [{kill: {node: n1}, restart: {node: n1}}]", "one key"),
        ("private: {name: w, requester: n1, owners: [n9]}\nsteps: [{check: [heads]}]", "private names n9"),
        ("private: {name: w, requester: n4, owners: [n1]}\nsteps: [{join: {node: n4}}]", "n4 is no founder"),
        ("steps: [{check: [private]}]", "says nothing of any"),
        ("rating: {cap: 0}\nsteps: [{check: [heads]}]", "cap"),
        ("params: {window_slots: many}\nsteps: [{check: [heads]}]", "window_slots"),
        ("steps: [{wait_window: {number: 0}}]", "number"),
        ("wheels: 3\nsteps: [{check: [heads]}]", "wheels"),
        ("steps: {", "YAML"),
    ],
)
def test_what_is_refused(tmp_path: Path, rest: str, says: str) -> None:
    with pytest.raises(UserError) as refused:
        _load(tmp_path, _HEAD + rest)
    assert refused.value.code is ExitCode.BAD_CONFIG
    assert says in refused.value.cause


def test_who_trains_and_who_needs_a_worker(tmp_path: Path) -> None:
    steps = "steps: [{join: {node: n4}}, {train: {node: n1, job: j.yaml}}]"
    some = _load(tmp_path, f"{_HEAD}trainers: [n2, n4]\n{steps}")
    assert [some.is_trainer(name) for name in some.names] == [False, True, False, True]
    assert [some.needs_worker(name) for name in some.names] == [True, True, False, True]
    everybody = _load(tmp_path, _HEAD + steps)
    assert all(everybody.is_trainer(name) for name in everybody.names)


def test_steps_in_words(tmp_path: Path) -> None:
    scenario = _load(
        tmp_path,
        _HEAD + "steps: [{partition: {groups: [[n1, n2], [n3]], for: 5}}, {check: [heads, books]}, "
        "{get: {nodes: [n3], data: digits}}]",
    )
    assert [describe(step) for step in scenario.steps] == [
        "partition: groups [[n1, n2], [n3]], for 5.0",
        "check: heads, books",
        "get: nodes [n3], data digits",
    ]


def test_datasets_are_the_same_every_time(tmp_path: Path) -> None:
    (tmp_path / "mine.bin").write_bytes(b"mine")
    for data, name in [("digits", "digits.tar"), ("noise:1MiB", "noise-1MiB.bin"), ("mine.bin", "mine.bin")]:
        assert datasets.name_of(data) == name
        first = datasets.write(data, tmp_path, tmp_path / "a")
        again = datasets.write(data, tmp_path, tmp_path / "b")
        assert first.name == name
        assert first.read_bytes() == again.read_bytes()
    assert (tmp_path / "a" / "noise-1MiB.bin").stat().st_size == 1 << 20
    with pytest.raises(UserError, match="cannot be read"):
        datasets.write("nothing.bin", tmp_path, tmp_path / "a")
