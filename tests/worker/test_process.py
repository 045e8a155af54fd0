"""The life of the worker process: ready, killed, cancelled, over its limits, and gone with its node."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import trio

from p2pml.formats import tensors
from p2pml.formats.initial import initial_weights
from p2pml.formats.optimizers import Optimizer
from p2pml.formats.shards import Shard, write
from p2pml.training import models
from p2pml.worker import process
from p2pml.worker.limits import WorkerLimits
from p2pml.worker.process import WorkerDied, WorkerSupervisor, WorkerUnavailable
from p2pml.worker.protocol import Build, Progress, Train
from p2pml.worker.session import Session
from tests.worker.namespaces import listening, namespace

pytestmark = pytest.mark.slow

SPEC = models.build("mlp", {"hidden": [400, 400]}, (8, 8), 10)


def long_training(folder: Path) -> Train:
    """Minutes of work."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 17, (5000, 8, 8), dtype=np.uint8)
    write(folder / "shard", Shard(x, rng.integers(0, 10, 5000), 1 / 16))
    weights = tensors.encode(initial_weights(SPEC, 1))
    return Train(SPEC.to_json(), weights, str(folder / "shard"), Optimizer("sgd", 0.01), 10, 1000, 1, 0, 0)


@asynccontextmanager
async def supervised(
    folder: Path, limits: WorkerLimits | None = None, backoff: float = 0.05
) -> AsyncIterator[WorkerSupervisor]:
    supervisor = WorkerSupervisor(folder / "logs" / "worker.log", limits, backoff=backoff)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        yield supervisor
        nursery.cancel_scope.cancel()


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def eventually(condition: Callable[[], bool], seconds: float) -> bool:
    for _ in range(int(seconds / 0.05)):
        if condition():
            return True
        await trio.sleep(0.05)
    return False


async def test_a_killed_worker_is_an_error_of_its_call_and_is_replaced(tmp_path: Path) -> None:
    request = long_training(tmp_path)
    async with supervised(tmp_path) as supervisor:
        first = await supervisor.wait_ready()
        assert os.getpriority(os.PRIO_PROCESS, first.pid) >= 10
        killed = False

        def kill(progress: Progress) -> None:
            nonlocal killed
            if not killed:
                assert supervisor.status == "busy"
                os.kill(first.pid, signal.SIGKILL)
                killed = True

        with pytest.raises(WorkerDied, match="killed by SIGKILL"):
            await supervisor.call(request, kill)
        assert supervisor.status == "starting: the one before died: killed by SIGKILL"
        built = await supervisor.call(Build(SPEC.to_json(), 1))
        assert built.weights == request.weights
        second = await supervisor.wait_ready()
        assert second.pid != first.pid
        assert supervisor.starts == 2
    assert not alive(second.pid)
    with pytest.raises(WorkerUnavailable, match="stopping"):
        await supervisor.call(Build(SPEC.to_json(), 1))


async def test_cancelling_the_caller_stops_the_work_and_keeps_the_worker(tmp_path: Path) -> None:
    request = long_training(tmp_path)
    async with supervised(tmp_path) as supervisor:
        pid = (await supervisor.wait_ready()).pid
        with trio.CancelScope() as scope:
            await supervisor.call(request, lambda progress: scope.cancel())
        assert scope.cancelled_caught
        assert supervisor.status == "ready"
        with pytest.raises(trio.TooSlowError), trio.fail_after(2):  # a broken callback is its owner's problem
            await supervisor.call(request, lambda progress: progress.no_such_field)  # type: ignore[attr-defined]
        with trio.fail_after(10):
            await supervisor.call(Build(SPEC.to_json(), 1))
        assert (await supervisor.wait_ready()).pid == pid


async def test_calls_take_turns(tmp_path: Path) -> None:
    async with supervised(tmp_path) as supervisor, trio.open_nursery() as nursery:
        done: list[int] = []

        async def one(seed: int) -> None:
            built = await supervisor.call(Build(SPEC.to_json(), seed))
            assert built.weights == tensors.encode(initial_weights(SPEC, seed))
            done.append(seed)

        for seed in range(6):
            nursery.start_soon(one, seed)
    assert sorted(done) == list(range(6))


async def test_a_worker_over_its_memory_is_killed_with_that_reason(tmp_path: Path) -> None:
    supervisor = WorkerSupervisor(tmp_path / "worker.log", WorkerLimits(memory=50 << 20), backoff=30)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        assert await eventually(lambda: (tmp_path / "worker.log").exists() and supervisor.starts == 1, 10)
        session = supervisor._session
        assert session is not None
        assert await eventually(lambda: supervisor._session is None, 20)
        assert "MiB of memory, 50 MiB are allowed" in session.last_words
        nursery.cancel_scope.cancel()


async def test_nobody_reaches_the_worker_and_it_reaches_nobody(tmp_path: Path) -> None:
    async with supervised(tmp_path) as supervisor:
        hello = await supervisor.wait_ready()
        if not hello.isolated:
            pytest.skip("NOT TESTED: this system does not let the worker leave the network")
        assert namespace(hello.pid, "net") != namespace(os.getpid(), "net")
        assert listening(hello.pid) == set()


async def test_what_the_worker_sends_besides_messages_ends_it_and_not_the_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "HANDSHAKE_S", 0.3)
    for junk in (b"", bytes(300), b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"\xff" * 70_000):
        ours, theirs = socket.socketpair()
        killed = trio.Event()
        session = Session(killed.set, lambda: None)
        with ours, theirs, trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(process._converse, session, ours)
                theirs.sendall(junk)
                theirs.shutdown(socket.SHUT_WR)
                await killed.wait()
        assert session.last_words == "it closed its connection"


async def test_no_sockets_left_is_no_end_of_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(process.socket, "socketpair", refuse)
    async with supervised(tmp_path) as supervisor:
        assert await eventually(lambda: "Too many open files" in supervisor.status, 10)
        assert supervisor.status.startswith("starting: its process cannot be started")


def test_the_worker_dies_with_its_node(tmp_path: Path) -> None:
    node = textwrap.dedent(
        """
        import pathlib, psutil, sys, trio
        from p2pml.worker.process import WorkerSupervisor

        async def main():
            supervisor = WorkerSupervisor(pathlib.Path(sys.argv[1]) / "worker.log")
            async with trio.open_nursery() as nursery:
                await nursery.start(supervisor.run)
                if sys.argv[2] == "ready":
                    await supervisor.wait_ready()
                while not supervisor.starts:
                    await trio.sleep(0.01)
                print(*(child.pid for child in psutil.Process().children()), flush=True)
                await trio.sleep_forever()

        trio.run(main)
        """
    )
    for moment in ("ready", "starting"):
        parent = subprocess.Popen(
            [sys.executable, "-c", node, str(tmp_path), moment], stdout=subprocess.PIPE, text=True
        )
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait(10)
        parent.stdout.close()
        deadline = time.monotonic() + 15
        while alive(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not alive(pid), f"a worker of a node killed when {moment} lives on"


async def test_without_tensorflow_it_says_so_and_is_not_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "site"
    blocked.mkdir()
    (blocked / "tensorflow.py").write_text(
        "raise ImportError('No module named tensorflow')", encoding="ascii"
    )
    monkeypatch.setenv("PYTHONPATH", str(blocked))
    async with supervised(tmp_path) as supervisor:
        with pytest.raises(WorkerUnavailable, match="TensorFlow cannot be imported"):
            await supervisor.call(Build(SPEC.to_json(), 1))
        await trio.sleep(0.2)
        assert supervisor.starts == 1
        assert supervisor.status.startswith("unavailable")


def test_it_is_not_started_by_hand() -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("P2PML_")}
    ran = subprocess.run(
        [sys.executable, "-m", "p2pml.worker"], capture_output=True, text=True, env=environment, timeout=30
    )
    assert ran.returncode == 2
    assert ran.stderr.strip() == "p2pml.worker is started by a node, not by hand"


async def test_a_worker_rests_between_two_steps_and_goes_on(tmp_path: Path) -> None:
    request = long_training(tmp_path)
    async with supervised(tmp_path) as supervisor, trio.open_nursery() as nursery:
        await supervisor.wait_ready()
        reports: list[int] = []
        nursery.start_soon(supervisor.call, request, lambda progress: reports.append(progress.done))
        assert await eventually(lambda: len(reports) > 2, 30)
        await supervisor.rest("rating", True)
        await trio.sleep(0.5)  # what was under way is told
        told = len(reports)
        await trio.sleep(1.5)
        assert len(reports) == told
        await supervisor.rest("rating", False)
        assert await eventually(lambda: len(reports) > told, 30)
        nursery.cancel_scope.cancel()


async def test_a_call_that_comes_while_the_worker_rests_waits(tmp_path: Path) -> None:
    request = long_training(tmp_path)
    async with supervised(tmp_path) as supervisor, trio.open_nursery() as nursery:
        await supervisor.rest("rating", True)  # before there is a process
        await supervisor.wait_ready()
        reports: list[int] = []
        nursery.start_soon(supervisor.call, request, lambda progress: reports.append(progress.done))
        await trio.sleep(2)
        assert reports == []
        await supervisor.rest("rating", False)
        assert await eventually(lambda: len(reports) > 0, 30)
        nursery.cancel_scope.cancel()


async def test_a_worker_rests_while_any_reason_is_left(tmp_path: Path) -> None:
    request = long_training(tmp_path)
    async with supervised(tmp_path) as supervisor, trio.open_nursery() as nursery:
        await supervisor.wait_ready()
        for reason in ("rating", "paused", "paused"):  # said twice is one reason
            await supervisor.rest(reason, True)
        reports: list[int] = []
        nursery.start_soon(supervisor.call, request, lambda progress: reports.append(progress.done))
        await supervisor.rest("rating", False)
        await supervisor.rest("load", False)  # never was one
        assert supervisor.rests == ("paused",)
        await trio.sleep(1.5)
        assert reports == []
        await supervisor.rest("paused", False)
        assert supervisor.rests == ()
        assert await eventually(lambda: len(reports) > 0, 30)
        nursery.cancel_scope.cancel()
