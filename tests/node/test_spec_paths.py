"""Where the files are that a job spec names."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2pml.node.spec_paths import spec_path


def test_they_are_seen_from_the_specs_folder_or_from_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    base = Path("/jobs")
    assert spec_path(base, "a/b") == Path("/jobs/a/b")
    assert spec_path(base, "/a/b") == Path("/a/b")
    assert spec_path(base, "~/a") == Path("/home/me/a")
    assert spec_path(base, "~nobody-is-called-so/a") == Path("/jobs/~nobody-is-called-so/a")


@pytest.mark.slow
async def test_model_weights_and_result_may_be_at_home(
    job_world: Callable[..., Any], job_spec: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with job_world(1) as world:
        start, spec = world.requester.jobs.start, job_spec(rounds=1, least=1)
        first = await world.finish(await start(spec, world.root, "job.yaml"))
        home = world.root / "me"
        monkeypatch.setenv("HOME", str(home))
        shutil.copytree(first["output"], home)
        spec = spec.replace("builder: softmax", "keras: ~/model.json, weights: ~/model.safetensors")
        again = await world.finish(await start(spec + "output: {dir: ~/kept}\n", world.root, "job.yaml"))
        assert (again["state"], again["reason"]) == ("done", "")
        assert Path(again["output"]).parent == home / "kept"
        assert not (world.root / "~").exists()
