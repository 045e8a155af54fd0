"""Resting while others use the machine: the decision, what it is told, and what comes of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio
import trio.testing

from p2pml.worker import load
from p2pml.worker.idle import Idleness
from p2pml.worker.load import Load, rest_while_busy


def test_it_computes_after_a_minute_of_calm_and_rests_at_once() -> None:
    idleness = Idleness(cores=4)
    assert idleness.rest(0, 0.1)  # nobody knows yet how calm it is
    assert idleness.rest(59, 0.6)  # 15 % of four cores is calm still
    assert not idleness.rest(60, 0.0)
    assert not idleness.rest(65, 0.6)
    assert idleness.rest(70, 0.61)
    assert idleness.rest(75, 0.0)
    assert idleness.rest(134, 0.0)
    assert not idleness.rest(135, 0.0)


def test_a_short_use_begins_the_calm_anew() -> None:
    idleness = Idleness(cores=1, calm_s=10)
    assert idleness.rest(0, 0.25)
    assert idleness.rest(9, 0.26)
    assert idleness.rest(10, 0.0)
    assert idleness.rest(19, 0.0)
    assert not idleness.rest(20, 0.0)


def write_proc(proc: Path, busy: int, processes: dict[int, tuple[int, int]]) -> None:
    """A `/proc` with ticks in all, and for each process its parent and ticks."""
    proc.mkdir(exist_ok=True)
    (proc / "stat").write_text(f"cpu  {busy} 0 0 999 999 0 0 0 0 0\ncpu0 1 1 1 1\n")
    (proc / "self").mkdir(exist_ok=True)  # no number: no process
    for pid, (parent, ticks) in processes.items():
        (proc / str(pid)).mkdir(exist_ok=True)
        fields = f"S {parent} 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 1"
        (proc / str(pid) / "stat").write_text(f"{pid} (a) b) {fields}\n")


def test_what_the_node_and_its_descendants_take_is_not_the_others(tmp_path: Path) -> None:
    hertz = os.sysconf("SC_CLK_TCK")
    found = Load(10, tmp_path / "proc")
    write_proc(tmp_path / "proc", 0, {1: (0, 0), 10: (1, 0), 11: (10, 0), 12: (11, 0), 13: (1, 0)})
    assert found.look(0.0) is None
    write_proc(
        tmp_path / "proc",
        5 * hertz,
        {1: (0, 0), 10: (1, hertz), 11: (10, hertz), 12: (11, hertz), 13: (1, 2 * hertz)},
    )
    assert found.look(4.0) == pytest.approx(0.5)  # two of five seconds, in four


def test_a_real_process_is_ours_or_somebody_elses() -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ours, stranger = Load(os.getpid()), Load(2**22)  # no such process: all are others
        begin = time.monotonic()
        assert ours.look(0.0) is None
        assert stranger.look(0.0) is None
        process.stdout.readline()
        spent = max(0.1, time.monotonic() - begin)
        mine, all_ = ours.look(spent), stranger.look(spent)
        process.stdin.close()
    assert mine is not None
    assert all_ is not None
    assert (all_ - mine) * spent >= 0.4


async def test_the_worker_rests_until_it_is_calm(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    autojump_clock.autojump_threshold = 0.05  # it is looked in a thread
    loads = iter([None, 0.0, 0.0, 0.0, 2.0])
    monkeypatch.setattr(load.Load, "look", lambda self, now: next(loads))
    told: list[tuple[float, str, bool]] = []

    async def rest(reason: str, resting: bool) -> None:
        await trio.lowlevel.checkpoint()
        told.append((trio.current_time(), reason, resting))

    with trio.move_on_after(4.5 * load.LOOK_S):
        await rest_while_busy(rest, Idleness(2, calm_s=2 * load.LOOK_S))
    begin = told[0][0]
    assert [(round(at - begin), resting) for at, _, resting in told] == [
        (0, True), (5, True), (10, True), (15, False), (20, True),
    ]  # fmt: skip
    assert {reason for _, reason, _ in told} == {"load"}
