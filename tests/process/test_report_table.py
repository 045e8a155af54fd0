"""The report's table by its one command, at its smallest: real nodes, every arm, and only once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]
REPO = Path(__file__).parents[2]


def run(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "examples/report_table.py", "--out", str(out), *options]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=800)


def test_one_command_makes_the_table_and_does_nothing_twice(tmp_path: Path) -> None:
    out = tmp_path / "table"
    done = run(out, "--quick")
    assert done.returncode == 0, done.stderr
    found = json.loads((out / "table.json").read_text())
    fair, unfair = found["fair"], found["as in the report"]
    assert {"network", "epochs", "steps"} <= set(fair)
    assert fair["network"]["samples"] == fair["epochs"]["samples"] == 2 * unfair["federated"]["samples"]
    assert fair["network"]["steps"] == fair["steps"]["steps"] < fair["epochs"]["steps"]
    assert fair["epochs"]["accuracy"] > unfair["federated"]["accuracy"] > 0.15
    assert found["reported"] == {"federated": 0.5592, "conventional": 0.8820}
    if "simulation" in fair:
        assert fair["simulation"]["accuracies"] == pytest.approx(fair["network"]["accuracies"], abs=0.01)
        assert found["largest difference of network and simulation"] <= 1e-5
    assert (out / "table.md").read_text() == done.stdout
    assert "55.92%" in done.stdout
    for plot in ("passes.svg", "seconds.svg"):
        assert (out / plot).read_text().startswith("<svg")
    assert not (out / "network").exists()
    kept = (out / "seed-1" / "compare.json").stat().st_mtime_ns
    again = run(out, "--quick")
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert (out / "seed-1" / "compare.json").stat().st_mtime_ns == kept


def test_what_it_needs_is_told(tmp_path: Path) -> None:
    refused = run(tmp_path)
    assert refused.returncode == 2
    assert "--mnist" in refused.stderr
