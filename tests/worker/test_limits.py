"""What a worker may take, each limit in a real process that wants more."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trio

from p2pml.formats import shards, tensors
from p2pml.formats.initial import initial_weights
from p2pml.training import models
from p2pml.worker.give_way import AUTOGROUP
from p2pml.worker.limits import WorkerLimits
from p2pml.worker.process import WorkerDied, WorkerError
from p2pml.worker.protocol import Build, Train
from tests.worker.test_process import SPEC, eventually, long_training, supervised

pytestmark = pytest.mark.slow

MEMORY = "more memory than this worker may use|more than the 800 MiB that it may use|800 MiB are allowed"


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used so far."""
    values = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


async def cores_at_work(folder: Path, limits: WorkerLimits, request: Train, seconds: float) -> float:
    """How many cores a worker takes for so long, once it trains."""
    async with supervised(folder, limits) as supervisor, trio.open_nursery() as nursery:
        pid = (await supervisor.wait_ready()).pid
        reports: list[int] = []
        nursery.start_soon(supervisor.call, request, lambda progress: reports.append(progress.done))
        assert await eventually(lambda: len(reports) > 2, 120)
        begin, used = trio.current_time(), cpu_seconds(pid)
        await trio.sleep(seconds)
        cores = (cpu_seconds(pid) - used) / (trio.current_time() - begin)
        nursery.cancel_scope.cancel()
    return cores


async def test_a_share_of_the_processor(tmp_path: Path) -> None:
    """A busy machine makes it less, never more."""
    cores = await cores_at_work(tmp_path, WorkerLimits(cpu=20), long_training(tmp_path), 15)
    assert 0 < cores < 0.35


async def test_one_thread_takes_one_core(tmp_path: Path) -> None:
    wide = models.build("mlp", {"hidden": [1500, 1500]}, (8, 8), 10)
    weights = tensors.encode(initial_weights(wide, 1))
    request = replace(long_training(tmp_path), model=wide.to_json(), weights=weights, batch=500)
    assert 0 < await cores_at_work(tmp_path, WorkerLimits(threads=1), request, 5) < 1.2


def session_of(pid: int) -> str:
    return Path(f"/proc/{pid}/autogroup").read_text(encoding="ascii")


async def test_it_gives_way_by_as_much_as_its_owner_says(tmp_path: Path) -> None:
    async with supervised(tmp_path, WorkerLimits(nice=15)) as supervisor:
        pid = (await supervisor.wait_ready()).pid
        level = min(19, os.getpriority(os.PRIO_PROCESS, 0) + 15)
        assert os.getpriority(os.PRIO_PROCESS, pid) == level
        assert os.getsid(pid) == pid  # niceness counts only within a session, where Linux shares among those
        if AUTOGROUP.exists():
            assert session_of(pid).endswith(f"nice {level}\n")


async def test_a_request_over_the_memory_fails_alone_and_says_why(tmp_path: Path) -> None:
    """Refused where TensorFlow tells of the allocation that failed; some of its code only crashes."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 17, (30_000, 8, 8), dtype=np.uint8)
    shards.write(tmp_path / "many", shards.Shard(x, rng.integers(0, 10, 30_000)))
    wide = models.build("mlp", {"hidden": [1000, 1000]}, (8, 8), 10)
    weights = tensors.encode(initial_weights(wide, 1))
    request = replace(  # 120 MB for each layer's values, and for each of their gradients
        long_training(tmp_path), model=wide.to_json(), weights=weights, shard=str(tmp_path / "many"),
        batch=30_000, epochs=1,
    )  # fmt: skip
    async with supervised(tmp_path, WorkerLimits(memory=800 << 20)) as supervisor:
        with pytest.raises((WorkerError, WorkerDied), match=MEMORY):
            await supervisor.call(request)
        built = await supervisor.call(Build(SPEC.to_json(), 1))
        assert built.params == SPEC.params
        assert supervisor.starts <= 2
