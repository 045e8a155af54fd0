"""Which kernels a window is trained with: those that were tried out and are the fastest by far."""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from pathlib import Path

import pytest

from p2pml.worker.lanes import blas, pool, store
from tests.worker.test_lanes_pool import Net, Samples, digits, plan

__all__ = ["digits"]


def test_another_choice_has_to_be_worth_it() -> None:
    assert blas.choose({"": 100.0}) == ""
    assert blas.choose({"": 100.0, "Haswell": 109.0, "Nehalem": 50.0}) == ""
    assert blas.choose({"": 100.0, "Haswell": 111.0, "Sandybridge": 170.0}) == "Sandybridge"
    assert blas.choose({"": 100.0, "Sandybridge": 170.0, "SkylakeX": 0.0}) == "Sandybridge"
    assert blas.choose({"": 0.0, "Haswell": 0.0}) == ""


def test_nothing_is_tried_where_the_owner_has_chosen_or_there_is_no_choice() -> None:
    assert blas.candidates({}, "x86_64") == blas.CANDIDATES
    assert blas.candidates({blas.VARIABLE: "Haswell"}, "x86_64") == ()
    assert blas.candidates({}, "aarch64") == ()


def test_lanes_are_started_with_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(blas.VARIABLE, raising=False)
    assert pool._environment("Nehalem")[blas.VARIABLE] == "Nehalem"
    assert blas.VARIABLE not in pool._environment("")
    monkeypatch.setenv(blas.VARIABLE, "Haswell")
    assert pool._environment("")[blas.VARIABLE] == "Haswell"


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="KERNELS NOT TRIED: not an x86-64 processor")
async def test_trials_measure_what_runs_and_survive_what_does_not(
    tmp_path: Path, digits: tuple[Net, Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(tmp_path, *digits)
    assert await blas._trial(tmp_path, "") > 0
    assert await blas._trial(tmp_path, "Nehalem") > 0
    assert await blas._trial(tmp_path / "nowhere", "") == 0
    monkeypatch.setattr(blas, "PATIENCE_S", 0.01)
    assert await blas._trial(tmp_path, "") == 0
    monkeypatch.setenv(blas.VARIABLE, "Nehalem")
    assert await blas.fastest(tmp_path) == ""


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="KERNELS NOT TRIED: not an x86-64 processor")
async def test_a_window_has_the_same_leaves_with_any_kernels(
    tmp_path: Path, digits: tuple[Net, Samples]
) -> None:
    found = []
    for number, name in enumerate(("", "Nehalem", "Sandybridge")):
        folder = tmp_path / str(number)
        folder.mkdir()
        window = await pool.WindowRun(replace(plan(folder, digits, 1, 1.0), blas=name)).run()
        found.append({leaf.digest for leaf in window.leaves if leaf.episode == 0})
        assert len(found[-1]) == digits[0].segments
    assert found[0] == found[1] == found[2]
    assert blas.VARIABLE not in os.environ
