"""What `p2pml rating …` and `p2pml status` say about ratings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from p2pml.cli import rating_commands
from p2pml.cli.app import run
from p2pml.cli.node_commands import describe
from tests.cli.test_status_text import STATUS

OUTCOME: dict[str, Any] = {
    "window": 64, "start_ms": 130_000, "window_ms": 10_000, "rating": 30, "segments": 6, "quality": 940_000,
    "quality_factor": 990_000, "energy_factor": 1_010_000, "reason": "rated", "duties": 3, "missed": 1,
}  # fmt: skip
MISS = OUTCOME | {"window": 128, "rating": 0, "reason": "no claim", "segments": 0, "missed": 0}
ENERGY = {"window": 64, "segments": 6, "joules": 10, "samples_per_joule": 4915}
RATING: dict[str, Any] = {
    "address": "pml1", "name": "n1", "own": True, "rating": 28, "barred_epochs": 0, "expires_epochs": 11,
    "expires_ms": 500_000, "since": 5, "outcomes": [OUTCOME, MISS], "median": 30, "delivered": 933_334,
    "earned": 28,
    "odds": [{"epoch": 4, "weight": 28, "share": 0.25}, {"epoch": 7, "weight": 30, "share": 0.3}],
    "energy": ENERGY, "advice": ["another window like its best one would give 30"],
}  # fmt: skip
PHASE = {"name": "training", "first": 64, "end": 69, "start_ms": 130_000, "end_ms": 140_000}
LATEST: dict[str, Any] = {
    "start": 64, "start_ms": 130_000, "slots": 13, "surprise": False, "over": False, "void": False,
    "phase": PHASE, "phases": [PHASE], "claims": 4, "revealed": 3, "disproved": 1, "open_challenges": 2,
    "reports": 0,
}  # fmt: skip
WINDOWS: dict[str, Any] = {
    "slot": 66, "slot_ms": 2000, "every_slots": 64, "window_slots": 13, "next": 128, "begins": 120,
    "begins_ms": 242_000,
    "latest": LATEST,
}  # fmt: skip
RANK: dict[str, Any] = {
    "place": 1, "address": "pml1", "name": "n1\x1b[2J", "own": True, "rating": 28, "share": 0.25,
    "segments": 6, "quality": 940_000, "reason": "rated", "outcomes": 2, "rated": 1, "expires_epochs": 11,
    "energy": ENERGY,
}  # fmt: skip
NEW = RANK | {
    "place": 2, "name": "n2", "own": False, "rating": 0, "segments": None, "quality": None, "reason": None,
    "outcomes": 0, "rated": 0, "expires_epochs": None, "energy": None,
}  # fmt: skip


class _Node:
    """Answers as a daemon would; `asked` has the paths."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers, self.asked = answers, []

    def __call__(self, home: object) -> _Node:
        return self

    def __enter__(self) -> _Node:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def get(self, path: str) -> Any:
        self.asked.append(path)
        return self.answers[path]


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> _Node:
    found = _Node(
        {"/rating": RATING, "/ratings/n%2F1": RATING, "/ratings": [RANK, NEW], "/rating/windows": WINDOWS}
    )
    monkeypatch.setattr(rating_commands, "NodeClient", found)
    return found


def _said(command: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    assert run(["rating", *command]) == 0
    printed = capsys.readouterr()
    return printed.out, printed.err


def test_a_rating_is_taken_apart_term_by_term(node: _Node, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = _said(["explain", "n/1"], capsys)
    assert node.asked == ["/ratings/n%2F1"]
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[1].startswith("rating 28, for 11 more finalized epochs (until 1970-01-01 ")
    assert lines[2:] == [
        "earned 28 = 30 x 0.933 delivered work",
        "median 30, the lower one of 30, 0",
        "delivered x 0.933: 5 of 6 audits reported",
        "slot 64 30 = 6 segments x 60 / 10 s x quality x energy",
        "quality x 0.990, from 94.00%; energy x 1.010",
        "slot 128 0: it committed to nothing",
        "energy 10 J, 4915 samples/J, for 6 segments from slot 64",
        "chance now 25.00% of being drawn first for a slot, by weight 28, epoch 4",
        "from epoch 7: 30.00% of being drawn first for a slot, by weight 30, as far as it is decided",
    ]
    assert err.strip() == RATING["advice"][0]


def test_a_rating_of_the_genesis_has_no_terms(node: _Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.answers["/rating"] = RATING | {
        "outcomes": [], "median": None, "delivered": None, "earned": None, "expires_epochs": None,
        "expires_ms": None, "energy": None,
    }  # fmt: skip
    out, _ = _said(["explain"], capsys)
    assert "28, without an end of its own" in out
    assert "given by the genesis" in out
    assert "median" not in out


def test_show_has_the_outcomes_and_the_next_window(node: _Node, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = _said(["show"], capsys)
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert any(line.startswith("next window slot 128, training from 1970-01-01 ") for line in lines)
    assert "window of slot 64, 13 slots of training: training" in lines
    assert "1 disproved, 2 challenges open" in lines
    assert lines[-2].startswith("64 ")
    assert lines[-2].endswith(" 30 6 0.990 1.010 2/3 rated")
    node.answers["/rating/windows"] = None
    assert "this network has none" in _said(["show"], capsys)[0]


def test_the_leaderboard_shows_samples_per_joule(node: _Node, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = _said(["leaderboard"], capsys)
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines == [
        "NAME RATING CHANCE SEGMENTS QUALITY SAMPLES/J WINDOWS EXPIRES",
        "1 n1\ufffd[2J (this node) 28 25.0% 6 94.00% 4915 1 of 2 11",
        "2 n2 0 25.0% – – – – –",
    ]
    assert json.loads(_said(["leaderboard", "--json"], capsys)[0]) == [RANK, NEW]


def test_windows_say_when_and_which_phase(node: _Node, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = _said(["windows"], capsys)
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[1] == "regular ones every 64 slots (2 min 8 s)"
    assert lines[-1].startswith("→ training 64 69 1970-01-01 ")
    node.answers["/rating/windows"] = None
    assert "no rating windows" in _said(["windows"], capsys)[1]


@pytest.mark.parametrize("command", [["show"], ["explain", "x"], ["leaderboard"], ["windows"]])
def test_without_a_daemon_the_code_is_3(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["rating", *command, "--home", str(tmp_path / "home")]) == 3
    assert capsys.readouterr().err.startswith("error: no daemon is running")


def test_status_tells_how_far_a_window_is() -> None:
    progress = {"start": 64, "phase": "training", "ends_ms": 0, "segments": 12, "committed": False}
    text = describe({**STATUS, "rating_window": progress}, [])
    line = next(line for line in text.splitlines() if line.startswith("rating window"))
    assert line.endswith("of slot 64: training, 0 s left, 12 segments here")
    assert rating_commands.window_line(
        {**progress, "ends_ms": 5000, "segments": None, "committed": True}, 2000
    ) == ("of slot 64: training, 3 s left, committed")
    assert "rating window" not in describe({**STATUS, "rating_window": None}, [])
