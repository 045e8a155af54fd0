"""TensorBoard's own reader finds what was written."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from p2pml.worker.event_files import points

HISTORY = [
    {"round": 1, "accuracy": 0.5, "loss": 1.0, "seconds": 2.0, "samples": 300, "clients": 3},
    {"round": 2, "accuracy": 0.75, "loss": 0.25, "seconds": 4.0, "samples": 200, "clients": 2},
]


def test_steps_are_rounds_and_samples_and_time_passes_with_the_rounds() -> None:
    found = list(points(HISTORY, 1000.0))
    assert [(moment, step) for moment, step, _ in found] == [(1002, 1), (1002, 300), (1006, 2), (1006, 500)]
    assert found[2][2] == {"accuracy": 0.75, "loss": 0.25, "round/seconds": 4.0, "round/updates": 2}
    assert found[3][2] == {"by samples/accuracy": 0.75, "by samples/loss": 0.25}


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None,
    reason="TENSORBOARD IS NOT INSTALLED: no event files (install the extra `train`)",
)
def test_tensorboard_reads_them(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "p2pml.worker.event_files", str(tmp_path / "new")],
        input=json.dumps({"history": HISTORY, "begun": 1000.0}), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    read = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1]); events.Reload()
found = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
print(json.dumps({tag: [[one.wall_time, one.step, one.value] for one in all] for tag, all in found.items()}))
"""
    reader = [sys.executable, "-c", read, str(tmp_path / "new")]
    shown = subprocess.run(reader, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)
    assert found["accuracy"] == [[1002.0, 1, 0.5], [1006.0, 2, 0.75]]
    assert found["by samples/loss"] == [[1002.0, 300, 1.0], [1006.0, 500, 0.25]]
    assert found["round/updates"] == [[1002.0, 1, 3.0], [1006.0, 2, 2.0]]
