"""TensorFlow Federated's rules in their guarded process: what they compute, who reaches it, how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from p2pml.formats import tensors
from p2pml.formats.aggregation import Aggregation
from p2pml.worker.session import WorkerDied, WorkerError
from p2pml.worker.tff import process
from p2pml.worker.tff.process import TffProcess
from p2pml.worker.tff.request import TffRequest, TffResult
from tests.worker.namespaces import emptied, first_process, listening, members, namespace
from tests.worker.tff_owner import SHAPES, spool, updates

pytestmark = pytest.mark.slow
REPO = Path(__file__).parents[2]


def guarded() -> bool:
    done = subprocess.run([*process.GUARD, "true"], capture_output=True)
    return done.returncode == 0


needs_namespaces = pytest.mark.skipif(
    not guarded(), reason="TFF'S PROCESS NOT TESTED: this system lets no user make namespaces (unshare)"
)


@dataclass
class Shared:
    """One process for the tests of what is computed, in a trio run of its own."""

    folder: Path
    process: TffProcess
    _token: list[trio.lowlevel.TrioToken] = field(default_factory=list)
    _scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    def live(self, started: threading.Event) -> None:
        async def main() -> None:
            self._token.append(trio.lowlevel.current_trio_token())
            started.set()
            with self._scope:
                await trio.sleep_forever()
            await self.process.close()

        trio.run(main)

    def stop(self) -> None:
        self._token[0].run_sync_soon(self._scope.cancel)

    def ask(self, aggregation: Aggregation, given: Any, kind: str = "float32", rounds: int = 1) -> TffResult:
        request = TffRequest(aggregation, given, kind, SHAPES, rounds, self.folder / "result")
        result: TffResult = trio.from_thread.run(self.process.aggregate, request, trio_token=self._token[0])
        return result

    def mean(self, aggregation: Aggregation, given: Any, kind: str = "float32") -> list[np.ndarray]:
        self.ask(aggregation, given, kind)
        return list(tensors.decode((self.folder / "result").read_bytes(), SHAPES))


@pytest.fixture(scope="module")
def tff(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    folder = tmp_path_factory.mktemp("tff")
    shared = Shared(folder, TffProcess(folder / "tff.log"))
    started = threading.Event()
    thread = threading.Thread(target=shared.live, args=(started,))
    thread.start()
    assert started.wait(10)
    yield shared
    shared.stop()
    thread.join(30)
    assert not thread.is_alive()


def average(arrays: list[list[np.ndarray]], weights: list[float]) -> list[np.ndarray]:
    return [
        np.average([update[i].astype(np.float64) for update in arrays], axis=0, weights=weights)
        for i in range(len(SHAPES))
    ]


def cut(update: list[np.ndarray], clip: float) -> list[np.ndarray]:
    """An update with an L2 norm of `clip` at most."""
    return [array * min(1.0, clip / max(tensors.norm(update), 1e-9)) for array in update]


def apart(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    return max(float(np.abs(x - y).max()) for x, y in zip(a, b, strict=True))


WEIGHTS = [10.0, 20.0, 30.0, 40.0]


@needs_namespaces
def test_robust_zeroes_the_wild_and_clips_the_long(tff: Shared) -> None:
    given = updates()
    given[1] = [array * 100 for array in given[1]]
    kept = [given[0], [array * 0 for array in given[1]], *given[2:]]
    zeroed = tff.mean(Aggregation("robust", zero=10.0), spool(tff.folder, given))
    assert apart(zeroed, average(kept, WEIGHTS)) < 1e-6
    clip = 5.0
    short = [cut(update, clip) for update in kept]
    clipped = tff.mean(Aggregation("robust", zero=10.0, clip=clip), spool(tff.folder, given))
    assert apart(clipped, average(short, WEIGHTS)) < 1e-6
    assert apart(clipped, zeroed) > 0.1


@needs_namespaces
def test_differential_privacy_clips_adds_noise_and_tells_epsilon(tff: Shared) -> None:
    given = spool(tff.folder, updates())
    clip, noise = 20.0, 0.5
    exact = average([cut(update, clip) for update in updates()], [1.0] * 4)
    dp = Aggregation("dp", clip=clip, noise=noise)
    difference = np.concatenate([(a - b).ravel() for a, b in zip(tff.mean(dp, given), exact, strict=True)])
    assert 0.9 < difference.std() / (clip * noise / 4) < 1.1  # 1210 values
    # The Gaussian mechanism's Rényi divergence is α / 2σ²; ε by the bound of Canonne et al. 2020 over α.
    orders = np.linspace(1.01, 200, 200_000)
    for rounds in (1, 10):
        divergence = rounds * orders / (2 * noise**2)
        bound = divergence + np.log1p(-1 / orders) - np.log(dp.delta * orders) / (orders - 1)
        assert tff.ask(dp, given, rounds=rounds).epsilon == pytest.approx(bound.min(), rel=0.02)
    assert tff.ask(Aggregation("robust", clip=1.0), given).epsilon is None


@needs_namespaces
def test_compression_and_small_uploads_give_nearly_the_mean(tff: Shared) -> None:
    exact = average(updates(), WEIGHTS)
    compressed = tff.mean(Aggregation("compressed"), spool(tff.folder, updates()))
    assert 0 < apart(compressed, exact) < 0.1
    assert np.abs(compressed[1] - exact[1]).max() < 1e-6  # ten values are not worth it
    small = spool(tff.folder, updates(), "int8")
    assert 1e-6 < apart(tff.mean(Aggregation("robust", zero=100.0), small, "int8"), exact) < 0.05


@needs_namespaces
def test_a_request_that_is_to_blame_does_not_cost_the_process(tff: Shared) -> None:
    given = spool(tff.folder, updates())
    before = tff.mean(Aggregation("robust", clip=1.0), given)
    pid = tff.process.pid
    with pytest.raises(WorkerError, match="No such file"):
        tff.ask(Aggregation("robust", clip=1.0), [(tff.folder / "none", 1)])
    (tff.folder / "nan").write_bytes(tensors.encode([np.full(shape, np.nan) for shape in SHAPES]))
    with pytest.raises(WorkerError, match="not finite"):
        tff.ask(Aggregation("robust", clip=1.0), [*given[:3], (tff.folder / "nan", 1)])
    assert apart(tff.mean(Aggregation("robust", clip=1.0), given), before) == 0
    assert tff.process.pid == pid


@needs_namespaces
def test_nobody_outside_reaches_the_executor_and_it_ends_with_the_guard(tff: Shared) -> None:
    """The last test of the shared process: it is killed in here."""
    given = spool(tff.folder, updates())
    tff.mean(Aggregation("robust", clip=1.0), given)
    guard = tff.process.pid
    assert guard is not None
    first = first_process(guard)
    assert first is not None
    inside = namespace(first, "pid")
    assert "worker_binary" in members(inside).values()
    assert namespace(first, "net") != namespace(os.getpid(), "net")
    ports = listening(first)
    assert ports  # the executor listens, in there
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0 or port in listening(os.getpid())
    interfaces = Path(f"/proc/{first}/net/dev").read_text().splitlines()[2:]
    assert [line.partition(":")[0].strip() for line in interfaces] == ["lo"]
    os.kill(guard, signal.SIGKILL)
    with pytest.raises(WorkerDied, match="process ended"):
        tff.mean(Aggregation("robust", clip=1.0), given)
    assert emptied(inside)


@needs_namespaces
def test_it_ends_with_its_owner(tmp_path: Path) -> None:
    """While it starts; `tests.bench.tff_kills` kills it at other times as well."""
    command = [sys.executable, "-m", "tests.worker.tff_owner", str(tmp_path)]
    with subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        guard = int(owner.stdout.readline())
        while (first := first_process(guard)) is None:
            time.sleep(0.01)
        inside = namespace(first, "pid")
        assert members(inside)
        owner.kill()
    assert emptied(inside)


def test_it_is_not_started_without_a_guard() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "p2pml.worker.tff"], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 2
    assert "started by a node, not by hand" in done.stderr


async def test_a_system_without_namespaces_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GUARD", ("sh", "-c", "echo unshare failed: not permitted >&2; exit 1"))
    assert await TffProcess().refusal() == "unshare failed: not permitted"
    monkeypatch.setattr(process, "GUARD", ("/nowhere/unshare",))
    assert "cannot be run: No such file" in await TffProcess().refusal()


@pytest.mark.parametrize("says", ["exit 3", "echo nonsense; cat", "printf '[null, \"boom\", true]\\n'; cat"])
async def test_whatever_the_process_does_is_its_death(
    says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "GUARD", ("sh", "-c", f"read line; {says}", "sh"))
    tff = TffProcess(tmp_path / "log")
    request = TffRequest(Aggregation("compressed"), [], "float32", SHAPES, 1, tmp_path / "result")
    with pytest.raises(WorkerDied), trio.fail_after(10):
        await tff.aggregate(request)
    assert tff.pid is None


async def test_cancelling_the_caller_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "GUARD", ("sh", "-c", "exec sleep 100", "sh"))
    tff = TffProcess(tmp_path / "log")
    request = TffRequest(Aggregation("compressed"), [], "float32", SHAPES, 1, tmp_path / "result")
    with trio.move_on_after(0.5) as scope:
        await tff.aggregate(request)
    assert scope.cancelled_caught
    assert tff.pid is None
