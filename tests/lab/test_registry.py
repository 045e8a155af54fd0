"""Who owns a run, and what happens when the owner is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from p2pml.lab import registry, signals
from p2pml.lab.errors import LabError

_OWNER = """
import sys, time
from pathlib import Path
from p2pml.lab import registry
print(registry.open_run(Path(sys.argv[1])).id, flush=True)
time.sleep(60)
"""


def test_a_run_that_ends_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    one, two = registry.open_run(folder), registry.open_run(folder)
    assert one.id != two.id
    one.close()
    assert folder.exists()
    two.close()
    assert not folder.exists()


def test_an_owned_run_is_not_dead(tmp_path: Path) -> None:
    run = registry.open_run(tmp_path / "runs")
    assert registry.dead_runs(tmp_path / "runs") == []
    assert registry.is_alive(run.folder)
    run.close()
    assert not registry.is_alive(run.folder)


def test_a_killed_owners_run_is_dead(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    with subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(folder)], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        run_id = owner.stdout.readline().strip()
        assert registry.dead_runs(folder) == []
        owner.kill()
    (dead,) = registry.dead_runs(folder)
    assert dead.id == run_id
    dead.close()
    assert not folder.exists()


def test_an_abandoned_run_is_dead(tmp_path: Path) -> None:
    run = registry.open_run(tmp_path / "runs")
    run.abandon()
    (dead,) = registry.dead_runs(tmp_path / "runs")
    assert dead.id == run.id
    dead.close()


def test_what_is_no_run_is_left_alone(tmp_path: Path) -> None:
    stranger = tmp_path / "runs" / "somebody-elses"
    stranger.mkdir(parents=True)
    assert registry.dead_runs(tmp_path / "runs") == []
    run = registry.open_run(tmp_path / "runs")
    run.close()
    assert stranger.exists()


def test_no_registry_has_no_dead_runs(tmp_path: Path) -> None:
    assert registry.dead_runs(tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="LOUD: only root can make a folder that belongs to another")
def test_a_registry_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    os.chown(tmp_path / "runs", 12345, 12345)
    with pytest.raises(LabError, match="somebody else"):
        registry.open_run(tmp_path / "runs")


def test_deferred_signals_come_at_the_end() -> None:
    done = []

    def work() -> None:
        with signals.deferred():
            signal.raise_signal(signal.SIGINT)
            done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["all of it"]


def test_termination_unwinds() -> None:
    with pytest.raises(SystemExit) as ended, signals.ending_unwinds():
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_handler_of_the_callers_stays() -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: came.append(number))
    try:
        with signals.ending_unwinds():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came == [signal.SIGTERM]
