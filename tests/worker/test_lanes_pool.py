"""Real lanes: what they compute, how they pause, rest and end."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trio

from chain.baseline.dataset import Samples, net_for, prepare
from chain.baseline.episode import replay
from chain.baseline.kernel import NumpyTrainer
from chain.baseline.net import Net
from chain.baseline.trace import Trace
from p2pml.training import dataset
from p2pml.worker.lanes import store
from p2pml.worker.lanes.pool import LanesFailed, Look, Plan, WindowRun
from p2pml.worker.lanes.processes import LaneProcesses

pytestmark = pytest.mark.slow
GIVEN = b"c" * 32


@pytest.fixture(scope="module")
def digits() -> tuple[Net, Samples]:
    train = dataset.load(dataset.digits_path()).train
    # A quarter of the width: an episode takes a fraction of a second.
    net = replace(net_for(train.x, train.y), inputs=200, hidden=64, steps=8, segments=4)
    return net, prepare(net, train.x, train.y)


def plan(folder: Path, digits: tuple[Net, Samples], lanes: int, seconds: float, **more: object) -> Plan:
    store.write(folder, *digits)
    return replace(Plan(folder, digits[0], GIVEN, lanes, seconds), **more)  # type: ignore[arg-type]


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def lane_pids(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in command:
                found.append(int(entry.name))
    return found


def lanes_of(folder: Path) -> list[int]:
    """Without the process that they were forked from, which leads their session."""
    return [pid for pid in lane_pids(folder) if os.getsid(pid) != pid]


async def test_lanes_give_the_trace_that_this_process_computes(
    tmp_path: Path, digits: tuple[Net, Samples]
) -> None:
    net, samples = digits
    looks: list[Look] = []
    window = await WindowRun(plan(tmp_path, digits, 2, 1.5), looks.append).run()
    trace = Trace(net, window.leaves)
    assert len(trace.completed) >= 2
    trainer = NumpyTrainer(net, samples)
    for episode in trace.completed[:4]:
        assert replay(trainer, GIVEN, episode, 0, net.segments - 1) == trace.of_episode(episode)
    assert window.lanes_left == 2
    assert 0 < window.cpu_ms <= 2 * 1500 + 100
    assert looks[-1].segments <= len(trace)
    assert lane_pids(tmp_path) == []


async def test_a_pause_is_time_that_is_lost(tmp_path: Path, digits: tuple[Net, Samples]) -> None:
    begun, seen = trio.Event(), 0

    def look(now: Look) -> None:
        nonlocal seen
        seen = now.segments
        if seen >= 10:
            begun.set()

    run = WindowRun(plan(tmp_path, digits, 2, 4.0), look)
    during: list[tuple[int, int]] = []

    async def interfere() -> None:
        await begun.wait()
        await run.pause()
        await trio.sleep(0.3)  # what was on its way arrives
        before = seen
        await trio.sleep(1.0)
        during.append((before, seen))
        await run.resume()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(interfere)
        window = await run.run()
        nursery.cancel_scope.cancel()
    [(before, after)] = during
    assert before == after
    assert len(window.leaves) > after + 5
    assert len(Trace(digits[0], window.leaves)) == len(window.leaves)


async def test_the_window_survives_a_killed_lane(tmp_path: Path, digits: tuple[Net, Samples]) -> None:
    killed: list[int] = []

    def kill_one(look: Look) -> None:
        if look.segments >= 6 and not killed:
            killed.append(lanes_of(tmp_path)[0])
            os.kill(killed[0], signal.SIGKILL)

    window = await WindowRun(plan(tmp_path, digits, 2, 2.0), kill_one).run()
    assert killed
    assert window.lanes_left == 1
    assert len(Trace(digits[0], window.leaves)) > 6


async def test_no_lane_is_an_error_that_says_why(tmp_path: Path, digits: tuple[Net, Samples]) -> None:
    with pytest.raises(LanesFailed, match="there is no kernel 'abacus'"):
        await WindowRun(plan(tmp_path, digits, 2, 1.0, kernel="abacus")).run()


def test_a_lane_whose_log_cannot_be_read_has_no_last_words(tmp_path: Path) -> None:
    (tmp_path / "lane-0.log").mkdir()
    assert LaneProcesses(tmp_path, 1).last_words(0) == "its process ended"


async def test_a_node_needs_two_descriptors_for_a_lane_and_one_once_it_runs(tmp_path: Path) -> None:
    lanes, spare = 60, 30
    (tmp_path / "lane-1.log").write_text("of the window before")
    processes, before = LaneProcesses(tmp_path, lanes), resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 2 * lanes + spare, before[1]))
    try:
        await processes.start((tmp_path, "no challenge"), "")
        assert len(os.listdir("/proc/self/fd")) < used + lanes + spare
        assert await processes.receive(0) == b""  # it has ended
    finally:
        await processes.stop()
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert "not by hand" in processes.last_words(0)
    assert processes.last_words(1) == "its process ended"


async def test_cancelled_in_the_middle_it_leaves_no_process(
    tmp_path: Path, digits: tuple[Net, Samples]
) -> None:
    pids: list[int] = []
    with trio.CancelScope() as scope:

        def cancel(look: Look) -> None:
            if look.segments >= 2 and not pids:
                pids.extend(lane_pids(tmp_path))
                scope.cancel()

        await WindowRun(plan(tmp_path, digits, 2, 60.0), cancel).run()
    assert scope.cancelled_caught
    assert len(pids) == 3  # with the one that lanes are forked from
    assert alive(pids) == []


@pytest.mark.parametrize("first", [True, False])
async def test_a_window_of_which_too_much_was_killed(
    tmp_path: Path, digits: tuple[Net, Samples], first: bool
) -> None:
    """Without the process that they were forked from, lanes train on; none outlives the window."""
    killed: list[int] = []

    def kill(look: Look) -> None:
        if look.segments >= 4 and not killed:
            killed.extend(set(lane_pids(tmp_path)) - set(lanes_of(tmp_path)) if first else lanes_of(tmp_path))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    run = WindowRun(plan(tmp_path, digits, 2, 2.0), kill)
    if first:
        window = await run.run()
        assert window.lanes_left == 2
        assert len(window.leaves) > 6
    else:
        with pytest.raises(LanesFailed, match="its process ended"):
            await run.run()
    assert len(killed) == (1 if first else 2)
    assert lane_pids(tmp_path) == []


def test_lanes_end_with_their_parent(tmp_path: Path, digits: tuple[Net, Samples]) -> None:
    """Whoever held the other end of their sockets was killed: in the middle of an episode, and before one."""
    store.write(tmp_path, *digits)
    arguments = (str(tmp_path), GIVEN.hex(), "numpy", "100", "0", "60.0")
    pairs = [socket.socketpair() for _ in range(2)]
    given = [theirs.fileno() for _, theirs in pairs]
    command = [sys.executable, "-m", "p2pml.worker.lanes", *arguments, *map(str, given)]
    with subprocess.Popen(command, pass_fds=given) as lanes:
        for ours, theirs in pairs:
            theirs.close()
            assert ours.recv(100).startswith(b"ready ")
        for (ours, _), order in zip(pairs, (b"train 0\n", b"pause\n"), strict=True):
            ours.sendall(order)
            ours.close()
        assert lanes.wait(10) == 0
    assert lane_pids(tmp_path) == []


def test_samples_are_mapped_as_they_were_written(tmp_path: Path, digits: tuple[Net, Samples]) -> None:
    store.write(tmp_path, *digits)
    net, samples = store.read(tmp_path)
    assert net == digits[0]
    assert np.array_equal(samples.x, digits[1].x)
    assert np.array_equal(samples.y, digits[1].y)
