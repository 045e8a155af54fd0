"""Which kernels a window is trained with: those that were tried out and are the fastest by far."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import trio

from chain.baseline.episode import Trainer
from p2pml.node import rating_training
from p2pml.worker.lanes import blas, lane, pool, store
from p2pml.worker.lanes.environment import KERNELS, lane_environment
from tests.worker.test_lanes_pool import Net, Samples, digits, plan

__all__ = ["digits"]


def test_another_choice_has_to_be_worth_it() -> None:
    assert blas.choose({"": 100.0}) == ""
    assert blas.choose({"": 100.0, "Haswell": 109.0, "Nehalem": 50.0}) == ""
    assert blas.choose({"": 100.0, "Haswell": 111.0, "Sandybridge": 170.0}) == "Sandybridge"
    assert blas.choose({"": 100.0, "Sandybridge": 170.0, "SkylakeX": 0.0}) == "Sandybridge"
    assert blas.choose({"": 0.0, "Haswell": 0.0}) == ""


def test_nothing_is_tried_where_the_owner_has_chosen_or_there_is_no_choice() -> None:
    old, new = "flags\t\t: fpu sse4_2 avx lm\n", "flags : sse4_2 avx avx2 fma avx512f avx512bw avx512vl\n"
    assert blas.candidates({}, old) == ("Nehalem", "Sandybridge")
    assert blas.candidates({}, f"processor: 0\n{new}") == ("Nehalem", "Sandybridge", "Haswell", "SkylakeX")
    assert blas.candidates({KERNELS: "Haswell"}, new) == ()
    assert blas.candidates({}, "Features\t: fp asimd\n") == ()


def test_lanes_are_started_with_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KERNELS, raising=False)
    assert lane_environment("Nehalem")[KERNELS] == "Nehalem"
    assert KERNELS not in lane_environment("")
    monkeypatch.setenv(KERNELS, "Haswell")
    assert lane_environment("")[KERNELS] == "Haswell"


HERE = blas.candidates({}, blas.CPUINFO.read_text()) if blas.CPUINFO.exists() else ()
needs_kernels = pytest.mark.skipif(not HERE, reason="KERNELS NOT TRIED: OpenBLAS has no others here")


@pytest.mark.slow
@needs_kernels
async def test_trials_measure_what_runs_and_survive_what_does_not(
    tmp_path: Path, digits: tuple[Net, Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KERNELS, raising=False)
    store.write(tmp_path, *digits)
    assert await blas._trial(tmp_path, 0, "") > 0
    assert await blas._trial(tmp_path, 5, HERE[0]) > 0
    assert await blas._trial(tmp_path / "nowhere", 0, "") == 0
    monkeypatch.setattr(blas, "PATIENCE_S", 0.01)
    assert await blas._trial(tmp_path, 0, "") == 0
    monkeypatch.setenv(KERNELS, HERE[0])
    assert await blas.fastest(tmp_path, 0) == ""


@pytest.mark.slow
@needs_kernels
async def test_a_window_has_the_same_leaves_with_any_kernels(
    tmp_path: Path, digits: tuple[Net, Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KERNELS, raising=False)
    found = []
    for number, name in enumerate(("", *HERE)):
        folder = tmp_path / str(number)
        folder.mkdir()
        window = await pool.WindowRun(replace(plan(folder, digits, 1, 1.0), blas=name)).run()
        found.append({leaf.digest for leaf in window.leaves if leaf.episode == 0})
        assert len(found[-1]) == digits[0].segments
    assert all(each == found[0] for each in found)


def test_kernels_that_compute_something_else_are_out(
    tmp_path: Path, digits: tuple[Net, Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(tmp_path, *digits)
    assert blas.main([str(tmp_path), "0"]) == 0
    build = lane.build

    def wrong(folder: Path, kernel: str) -> Trainer:
        trainer = build(folder, kernel)
        if kernel == "numpy":
            trainer.begin(bytes(31) + b"x")
        return trainer

    monkeypatch.setattr(lane, "build", wrong)
    assert blas.main([str(tmp_path), "0"]) == 1


@dataclass
class Windows:
    """In place of `WindowRun`: remembers the plans."""

    plans: list[pool.Plan] = field(default_factory=list)

    def __call__(self, plan: pool.Plan, progress: object) -> Windows:
        self.plans.append(plan)
        return self

    async def run(self) -> pool.Window:
        await trio.lowlevel.checkpoint()
        return pool.Window((), 0, None, 1)


async def test_a_nodes_first_window_that_is_long_enough_chooses(
    tmp_path: Path, digits: tuple[Net, Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    windows, asked, takes = Windows(), 0, 10.0

    async def fastest(folder: Path, nice: int) -> str:
        nonlocal asked
        asked += 1
        await trio.sleep(takes)
        return "Nehalem"

    monkeypatch.setattr(rating_training, "WindowRun", windows)
    monkeypatch.setattr(rating_training, "TRIALS_S", 0.05)
    monkeypatch.setattr(blas, "fastest", fastest)
    lanes, any_plan = rating_training.Lanes(), plan(tmp_path, digits, 1, 1.0)

    async def window(seconds: float) -> str:
        await lanes(replace(any_plan, seconds=seconds), lambda look: None)
        return windows.plans[-1].blas

    assert await window(4.0) == ""  # the trials take more than a twentieth of it, and are broken off
    takes, so_far = 0.001, asked
    assert await window(0.5) == ""  # too short for trials
    assert asked == so_far
    assert await window(4.0) == "Nehalem"
    so_far = asked
    assert await window(0.5) == "Nehalem"
    assert asked == so_far
