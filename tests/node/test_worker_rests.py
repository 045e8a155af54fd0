"""A worker that rests: what its requesters hear, which tasks go back, and what an owner's pause outlives."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from p2pml.errors import UserError
from p2pml.formats import tensors
from p2pml.net.train import FROM_REQUESTER, Commit, Refuse, Working
from p2pml.node import participant_job, worker_pause
from p2pml.node.work_limits import WorkLimits
from p2pml.node.worker_pause import WorkerPause
from tests.node.test_job_limits import ByHand, by_hand, hold_a_shard

pytestmark = pytest.mark.slow


async def begin_and_rest(world: Any, asker: Any, reason: str) -> tuple[Any, trio.Event]:
    """A task under way, then a rest; the event ends the worker's standing still."""
    release = trio.Event()

    async def stand_still(request: Any) -> None:
        await release.wait()

    asker.trainer.worker.before_training = stand_still
    channel = await asker.accepted()
    await hold_a_shard(world, asker, channel)
    await asker.task(channel)
    asker.trainer.worker.rests = (reason,)
    return channel, release


async def test_a_pause_is_told_and_its_task_given_back(
    job_world: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(participant_job, "GIVE_BACK_S", 2.0)
    async with by_hand(job_world, WorkLimits()) as (world, asker):
        channel, release = await begin_and_rest(world, asker, "paused")
        while (await asker.answer(channel, Working)).stage != "paused":
            pass
        back = await asker.answer(channel, Refuse)
        assert (back.what, back.round, back.client) == ("rest", 0, 0)
        assert back.reason == "this node's worker rests: paused by its owner"
        asker.trainer.worker.rests = ()
        release.set()
        await asker.order(channel, tensors.digest(await asker.weights()))  # it can go on
        await asker.answer(channel, Commit)


async def test_a_rating_window_gives_no_task_back(
    job_world: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(participant_job, "GIVE_BACK_S", 0.5)
    async with by_hand(job_world, WorkLimits()) as (world, asker):
        channel, release = await begin_and_rest(world, asker, "rating")
        for _ in range(3):
            while (await asker.answer(channel, (Working, Refuse))).stage != "rating":
                pass
        asker.trainer.worker.rests = ()
        release.set()
        await asker.answer(channel, Commit)


@pytest.mark.parametrize(
    ("reason", "words"), [("paused", "paused by its owner"), ("load", "busy with other work")]
)
async def test_a_resting_trainer_takes_no_invitation(job_world: Any, reason: str, words: str) -> None:
    async with by_hand(job_world, WorkLimits()) as (_, asker):
        asker.trainer.worker.rests = ("rating", reason)
        channel = await asker.say(asker.invitation())
        refused = await channel.receive(FROM_REQUESTER, 10)
        assert isinstance(refused, Refuse)
        assert refused.reason.startswith("the worker rests: ")
        assert words in refused.reason
        asker.trainer.worker.rests = ("rating",)  # that is short
        await (await asker.accepted()).reset()


async def test_a_job_goes_to_others_while_a_trainer_is_paused(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(3) as world:
        world.trainers[0].worker.rests = ("paused",)
        job = await world.requester.jobs.start(job_spec(rounds=2, least=2), world.root, "job.yaml")
        assert (await world.finish(job))["state"] == "done"
        assert world.trainers[0].worker.trained == []
        assert any("paused by its owner" in reason for reason in world.requester.peer_reasons())


async def test_a_job_of_a_paused_node_is_refused_with_the_way_out(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(1) as world:
        world.requester.worker.rests = ("paused",)
        with pytest.raises(UserError, match="paused by its owner") as caught:
            await world.requester.jobs.start(job_spec(), world.root, "job.yaml")
        assert "p2pml worker resume" in caught.value.fix


class Resting:
    def __init__(self) -> None:
        self.told: list[tuple[str, bool]] = []

    async def __call__(self, reason: str, resting: bool) -> None:
        await trio.lowlevel.checkpoint()
        self.told.append((reason, resting))


async def test_a_pause_outlives_the_daemon_until_it_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "home" / "worker.paused"

    async def told_at_a_start() -> list[tuple[str, bool]]:
        rest = Resting()
        await WorkerPause(path, rest).restore()
        return rest.told

    assert await told_at_a_start() == []
    rest = Resting()
    await WorkerPause(path, rest).set(True)
    for _ in range(2):
        assert await told_at_a_start() == [("paused", True)]
    await WorkerPause(path, rest).set(False)
    assert rest.told == [("paused", True), ("paused", False)]
    assert await told_at_a_start() == []
    await WorkerPause(path, rest).set(False)  # once more does no harm


async def test_a_pause_that_cannot_be_remembered_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(worker_pause, "write_atomic", full)
    rest = Resting()
    with pytest.raises(UserError, match="No space left"):
        await WorkerPause(tmp_path / "worker.paused", rest).set(True)
    assert rest.told == []


async def test_an_invitation_to_a_trainer_that_is_not_here_is_refused(job_world: Any) -> None:
    async with job_world(1) as world:
        asker = await ByHand.with_job(world)
        for allowed, words in (((), "not allowed here"), (("nudge",), "not installed here")):
            asker.trainer.participant._limits = WorkLimits(trainers=allowed)
            asker.terms = replace(asker.terms, trainer="nudge")
            channel = await asker.say(asker.invitation())
            refused = await channel.receive(FROM_REQUESTER, 10)
            assert isinstance(refused, Refuse)
            assert words in refused.reason
            assert "'nudge'" in refused.reason
