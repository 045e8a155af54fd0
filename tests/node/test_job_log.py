"""What a job's log tells people, while it goes on and when it is over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from p2pml.formats import tensors
from p2pml.node.job_service import UnknownJob


async def log_of(world: Any, job_id: str, after: int = 0) -> list[str]:
    return [line["text"] for line in await world.requester.jobs.log(job_id, after)]


@pytest.mark.slow
async def test_rounds_and_who_left_why_are_told_also_after_the_end(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(3) as world:
        spoilt = tensors.encode([np.full((8, 4), np.nan, np.float32), np.zeros(4, np.float32)])
        world.trainers[0].worker.spoil = lambda _: spoilt
        job_id = await world.requester.jobs.start(job_spec(rounds=2, least=2), world.root, "job.yaml")
        shown = await world.finish(job_id)
        assert shown["state"] == "done"
        lines = await log_of(world, job_id[:6])
        assert {"node1 joined", "node2 joined", "node3 joined", "running", "settling"} <= set(lines)
        [left] = [line for line in lines if line.startswith("node1 ") and line != "node1 joined"]
        assert left.startswith("node1 left: dropped: the training diverged:")
        assert "not finite" in left
        rounds = [line for line in lines if "done: accuracy" in line]
        last = shown["history"][-1]
        assert [line[:12] for line in rounds] == ["round 1 of 2", "round 2 of 2"]
        assert f"accuracy {last['accuracy']:.1%}" in rounds[-1]
        assert f"{last['samples']} samples" in rounds[-1]
        assert lines[-1] == "done"
        assert lines.index(left) < lines.index(rounds[-1])
        await world.restart_jobs()
        assert await log_of(world, job_id) == lines
        assert await log_of(world, job_id, len(lines) - 1) == ["done"]
        assert await world.requester.jobs.spec(job_id) == job_spec(rounds=2, least=2)
        with pytest.raises(UnknownJob):
            await world.requester.jobs.log("ffff", 0)


@pytest.mark.slow
async def test_refused_work_and_a_failure_are_told_with_their_reasons(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(3) as world:
        world.trainers[1].worker.delay = 30.0
        spec = job_spec(rounds=1, clients=3, least=3, stall="60s")
        spec = spec.replace("quorum: 1.0", "quorum: 1.0, sample: 0.6, backup: 1")
        job_id = await world.requester.jobs.start(spec, world.root, "job.yaml")
        assert (await world.finish(job_id))["state"] == "done"
        refused = [line for line in await log_of(world, job_id) if "is refused" in line]
        assert len(refused) == 1
        assert refused[0].startswith("round 1: the work of node2 on client ")
        assert refused[0].endswith("is refused: the round was over: enough updates are here")
        events = [each.data for each in world.requester.parts.events.since(0) if each.kind == "job.refused"]
        assert [(each["name"], each["round"]) for each in events] == [("node2", 1)]
        wrong = job_spec(least=2).replace("clouds.npz", "rain.npz")
        job_id = await world.requester.jobs.start(wrong, world.root, "job.yaml")
        await world.finish(job_id)
        assert (await log_of(world, job_id))[-1] == "failed: nobody has rain.npz: seed it"
