"""Rounds whose trainers wait: the deadline stands still, for so long and no longer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from p2pml.node import participant_job
from p2pml.node.job_store import JobStore
from p2pml.training import round as machine

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quick_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Participants say within a tenth of a second that they wait."""
    monkeypatch.setattr(participant_job, "REST_LOOK_S", 0.05)
    monkeypatch.setattr(participant_job, "REPORT_S", 0.05)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What each attempt at a round was allowed."""
    allowed: list[float] = []
    begin = machine.Round

    def noted(config: machine.RoundConfig, *rest: Any) -> machine.Round:
        allowed.append(config.pause)
        return begin(config, *rest)

    monkeypatch.setattr(machine, "Round", noted)
    return allowed


def rest_in_round(world: Any, seconds: float) -> None:
    """Everybody takes part in a rating window that begins in the second round."""

    async def stand_still(request: Any) -> None:
        if request.round == 1:
            for node in world.trainers:
                node.worker.rests = ("rating",)
            await trio.sleep(seconds)
            for node in world.trainers:
                node.worker.rests = ()

    for node in world.trainers:
        node.worker.before_training = stand_still


async def test_a_rating_window_costs_no_attempt(
    job_world: Callable[..., Any], job_spec: Callable[..., str], pauses: list[float]
) -> None:
    async with job_world(2) as world:
        rest_in_round(world, 5.0)
        spec = job_spec(least=2).replace("peers: {", "peers: {deadline: 1s, ")
        job_id = await world.requester.jobs.start(spec, world.root, "job.yaml")
        shown = await world.finish(job_id)
        assert (shown["state"], shown["reason"]) == ("done", "")
        assert pauses == [machine.MAX_PAUSE_S] * 3
        rounds = JobStore(world.requester.parts.folder / job_id).rounds()
        assert [done.paused for done in rounds] == [False, True, False]


async def test_all_attempts_at_a_round_share_one_pause(
    job_world: Callable[..., Any],
    job_spec: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    pauses: list[float],
) -> None:
    monkeypatch.setattr(machine, "MAX_PAUSE_S", 1.0)
    async with job_world(2) as world:
        rest_in_round(world, 60.0)
        spec = job_spec(least=2).replace("peers: {", "peers: {deadline: 1s, ")
        shown = await world.finish(await world.requester.jobs.start(spec, world.root, "job.yaml"))
        assert (shown["state"], shown["end"]) == ("failed", "round-failed")
        assert pauses == pytest.approx([1.0, 1.0, 0.0, 0.0])
