"""`p2pml bench run`: what it prints, what it says when it cannot, and how Ctrl-C ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from chain.baseline.score import Quality, Score
from p2pml.cli import bench_commands
from p2pml.cli.app import run
from p2pml.node.baseline_run import Outcome

OUTCOME = Outcome(
    score=Score(1140, 1200, 60_000, Quality(952_000, 951_000, 950_000), 990_000, 950_000, None),
    root=b"r" * 32, challenge=b"c" * 32, lanes=2, completed=149, evaluated=(3, 8, 70),
    confusion=((9, 1), (2, 8)), cpu_ms=119_000, joules=0, energy_source="none",
)  # fmt: skip


def test_every_term_of_the_rating_is_shown() -> None:
    shown = dict(bench_commands.rows(OUTCOME))
    assert shown["rating"] == 1140
    assert shown[""] == "= 1200 segments x 60 / 60 s x quality x energy"
    assert shown["quality"] == "x 0.990, from 95.08%"
    assert shown["accuracy"] == "95.20%"
    assert shown["energy"] == "x 0.950, from no report"
    assert shown["processor"] == "119.0 s, 99 ms per segment"
    assert "--watts" in " ".join(bench_commands.advice(OUTCOME.score, "none"))
    assert not any("--watts" in line for line in bench_commands.advice(OUTCOME.score, "counters"))
    json.dumps(bench_commands.document(OUTCOME))


def test_a_file_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "run", "--dataset", "absent.npz"]) == 1
    assert "error: cannot read absent.npz" in capsys.readouterr().err


def test_samples_that_are_not_bytes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "floats.npz"
    np.savez(path, x=np.ones((9, 4), np.float32) / 3, y=np.arange(9) % 2)
    assert run(["bench", "run", "--dataset", str(path)]) == 7
    assert "the samples are not bytes" in capsys.readouterr().err


@pytest.mark.slow
def test_a_short_window(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "run", "--seconds", "20", "--lanes", "1", "--nice", "0", "--json"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found["segments"] >= 8 * found["episodes"] > 0
    assert found["f1_ppm"] > 850_000
    assert found["rating"] == (
        found["segments"] * 60_000 * found["quality_factor_ppm"] * found["energy_factor_ppm"]
        // (found["window_ms"] * 10**12)
    )  # fmt: skip
    assert "training: " in printed.err


@pytest.mark.slow
def test_a_window_too_short_for_an_episode_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "run", "--seconds", "1", "--lanes", "1", "--cap", "5"]) == 1
    assert "no lane finished an episode of 8 segments in 1 s" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_ends_it_and_its_lanes() -> None:
    # Who started the tests in the background of a shell has SIGINT ignored, and children inherit that.
    start = (
        "import signal as s; s.signal(s.SIGINT, s.default_int_handler); from p2pml.cli import main; main()"
    )
    command = [sys.executable, "-c", start, "bench", "run", "--seconds", "300", "--lanes", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if line.startswith("training"):
                    break
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
            began = time.monotonic()
            rest = process.stderr.read()
            assert process.wait(20) == 130
            assert time.monotonic() - began < 10
            assert "Traceback" not in rest
            with pytest.raises(ProcessLookupError):
                os.killpg(process.pid, 0)  # nobody of the group is left
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
