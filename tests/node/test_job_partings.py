"""How conversations end: what a trainer keeps, what it is told, and what counts against it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from p2pml.node import job_members, participant_job

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_members, "RETRY_S", 0.05)
    monkeypatch.setattr(job_members, "LOOK_S", 0.05)
    monkeypatch.setattr(job_members, "GRACE_S", 0.1)


def partings(node: Any) -> list[str]:
    """Why a trainer's conversations ended."""
    events = (event.data for event in node.parts.events.since(0) if event.kind == "training.state")
    return [data["reason"] for data in events if data["state"] == "left"]


async def test_a_trainer_that_is_dropped_keeps_what_it_has(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(1) as world:
        node = world.trainers[0]
        models: list[Any] = []

        async def fail_once(request: Any) -> None:
            models.append(node.participant._kept.model)
            node.worker.fail = "out of order" if len(models) == 1 else ""
            assert node.data.forgotten == []

        node.worker.before_training = fail_once
        job_id = await world.requester.jobs.start(job_spec(rounds=1, least=1), world.root, "job.yaml")
        assert (await world.finish(job_id))["state"] == "done"
        assert len(models) == 2
        assert models[0] is models[1]
        assert "dropped: the worker failed: out of order" in partings(node)[0]
        await world.until(lambda: node.data.forgotten == [True])  # now that the job is over
        assert partings(node)[1:] == ["the training is done"]
        assert node.participant._kept is None


async def test_trainers_hear_that_a_job_is_stopped(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(2) as world:
        job_id = await world.requester.jobs.start(job_spec(rounds=50, least=2), world.root, "job.yaml")
        await world.until(lambda: world.requester.jobs.show(job_id)["round"] >= 1)
        await world.requester.jobs.stop(job_id)
        assert (await world.finish(job_id))["state"] == "stopped"
        for node in world.trainers:
            await world.until(lambda node=node: not node.participant.busy)
            assert partings(node) == ["stopped by its owner"]
            await world.until(lambda node=node: node.data.forgotten == [True])


async def test_trainers_of_a_node_that_stops_are_not_told_that_the_job_is_over(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(1) as world:
        node = world.trainers[0]
        node.worker.delay = 0.3
        await world.requester.jobs.start(job_spec(rounds=50, least=1), world.root, "job.yaml")
        await world.until(lambda: bool(node.worker.trained))
        world.running.cancel()
        await world.until(lambda: not node.participant.busy)
        assert node.participant._kept is not None
        assert node.data.forgotten == []


@pytest.mark.parametrize("trouble", ["rests", "a failure a round", "failures in one round"])
async def test_who_fails_again_and_again_is_out_but_not_who_rests_or_delivers(
    trouble: str, job_world: Callable[..., Any], job_spec: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_members, "REFUSED_RETRY_S", 0.05)
    monkeypatch.setattr(participant_job, "REST_LOOK_S", 0.02)
    monkeypatch.setattr(participant_job, "GIVE_BACK_S", 0.05)
    rounds = job_members.MAX_FAILURES + 1 if trouble == "a failure a round" else 1
    async with job_world(1) as world:
        worker = world.trainers[0].worker
        seen: list[int] = []

        async def in_trouble(request: Any) -> None:
            seen.append(request.round)
            worker.fail = ""
            if trouble == "a failure a round":
                worker.fail = "out of order" if seen.count(request.round) == 1 else ""
            elif len(seen) <= job_members.MAX_FAILURES:
                if trouble == "rests":
                    await rest()
                worker.fail = "out of order"

        async def rest() -> None:
            worker.rests = ("paused",)
            try:
                await trio.sleep_forever()
            finally:
                worker.rests = ()

        worker.before_training = in_trouble
        spec = job_spec(rounds=rounds, least=1, join="1s")
        job_id = await world.requester.jobs.start(spec, world.root, "job.yaml")
        shown = await world.finish(job_id)
        out = trouble == "failures in one round"
        assert shown["state"] == ("failed" if out else "done"), shown["reason"]
        assert len(seen) == {"a failure a round": 2 * rounds}.get(
            trouble, job_members.MAX_FAILURES + (not out)
        )
