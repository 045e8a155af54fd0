"""What a peer may say for ever: the job's end on the chain ends its round, and only its own task counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import trio

from p2pml.net.errors import RemoteError
from p2pml.net.streams import Stream
from p2pml.net.train import (
    FROM_REQUESTER,
    NO_MODEL,
    PROTOCOL,
    Accept,
    Channel,
    Hold,
    Ready,
    Task,
    Working,
)
from p2pml.node import participant_job
from p2pml.node.work_limits import WorkLimits
from tests.node.test_job_limits import by_hand, hold_a_shard

pytestmark = pytest.mark.slow


@dataclass
class Talker:
    """A participant that never trains, and says ten times a second that it does: its task, or one that is so
    many rounds and clients further."""

    account: bytes
    rounds: int = 0
    clients: int = 0
    told: int = 0

    async def __call__(self, stream: Stream) -> None:
        channel = Channel(stream)
        await channel.receive(FROM_REQUESTER, 10)
        await channel.send(Accept(self.account, NO_MODEL, 0))
        try:
            while True:
                match await channel.receive(FROM_REQUESTER):
                    case Hold(clients=clients):
                        await channel.send(Ready(clients))
                    case Task() as task:
                        await self.talk(channel, task)
        except RemoteError:
            return

    async def talk(self, channel: Channel, task: Task) -> None:
        while True:
            await channel.send(Working(task.round + self.rounds, task.client + self.clients, "train", 1, 2))
            self.told += 1
            await trio.sleep(0.1)


async def test_a_round_ends_with_the_job_on_the_chain(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    """The first round has no deadline of its own, and who says that it is at work does not stall."""
    async with job_world(1) as world:
        trainer = world.trainers[0]
        talker = Talker(trainer.account)
        trainer.host.handle(PROTOCOL, talker)
        job_id = await world.requester.jobs.start(job_spec(least=1), world.root, "job.yaml")
        await world.until(lambda: talker.told > 25)
        assert world.requester.jobs.show(job_id)["state"] == "running"
        job = bytes.fromhex(world.requester.jobs.show(job_id)["chain_job"])
        world.chain.skip_to(world.chain.job(job).deadline_slot + 1)
        shown = await world.finish(job_id)
        assert (shown["state"], shown["end"]) == ("failed", "too-late")
        assert f"slot {world.chain.job(job).deadline_slot}, is over" in shown["reason"]


@pytest.mark.parametrize("other", [{"rounds": 1}, {"clients": 1}])
async def test_progress_on_another_task_is_none(
    other: dict[str, int], job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(2) as world:
        trainer = world.trainers[0]
        trainer.host.handle(PROTOCOL, Talker(trainer.account, **other))
        job_id = await world.requester.jobs.start(job_spec(rounds=1, least=2), world.root, "job.yaml")
        assert (await world.finish(job_id))["state"] == "done"
        assert any("no progress on client" in reason for reason in world.requester.peer_reasons())


async def test_shards_for_later_do_not_hide_how_a_task_gets_on(
    job_world: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(participant_job, "REPORT_S", 0.1)
    async with by_hand(job_world, WorkLimits()) as (world, asker):

        async def stand_still(request: Any) -> None:
            await trio.sleep_forever()

        async def endless(metainfo: bytes, wanted: Any, sources: Any, progress: Callable[..., None]) -> None:
            fetching.set()
            while True:
                progress(1, 2)
                await trio.sleep(0.02)

        fetching = trio.Event()
        channel = await asker.accepted()
        await hold_a_shard(world, asker, channel)
        asker.trainer.worker.before_training = stand_still
        await asker.task(channel)
        asker.trainer.worker.rests = ("rating",)
        while (await asker.answer(channel, Working)).stage != "rating":
            pass
        monkeypatch.setattr(asker.trainer.data, "fetch", endless)
        await channel.send(Hold(next(iter(world.torrents)), (0, 1), ()))
        await fetching.wait()
        heard = [await asker.answer(channel, Working) for _ in range(4)]
        assert [(news.client, news.stage) for news in heard] == [(0, "rating")] * 4
