"""What others' jobs may take of a trainer: its time, its memory, its work."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
import trio

from chain.codec import unpack
from chain.training_records import Commitment, Receipt
from chain.transactions import JobOpen
from p2pml.formats import shards, tensors
from p2pml.formats.optimizers import Optimizer
from p2pml.net.errors import RemoteError
from p2pml.net.train import (
    FROM_REQUESTER,
    MAX_INVITE,
    PROTOCOL,
    Accept,
    Channel,
    Chunk,
    Commit,
    Countersigned,
    Done,
    Hold,
    Invite,
    Message,
    Model,
    Pull,
    Ready,
    Refuse,
    Update,
    Working,
)
from p2pml.node import participant
from p2pml.node.own_updates import MAX_KEPT, MAX_PULLS
from p2pml.node.participant_job import MAX_WAITING
from p2pml.node.terms import JobTerms
from p2pml.node.tx_sender import TxSender
from p2pml.node.work_limits import WorkLimits, most_steps
from p2pml.training import dataset
from p2pml.worker.protocol import Build

pytestmark = pytest.mark.slow
MODEL = (
    '{"class_name":"Sequential","config":{"name":"m","layers":['
    '{"class_name":"InputLayer","config":{"batch_input_shape":[null,8],"dtype":"float32","name":"i"}},'
    '{"class_name":"Dense","config":{"units":4,"activation":"linear","name":"d"}}]}}'
)


class ByHand:
    """A requester that does only what it is told to, with a job of its own on the chain."""

    def __init__(self, world: Any, terms: JobTerms) -> None:
        self.world, self.terms = world, terms
        self.trainer = world.trainers[0]

    @classmethod
    async def with_job(cls, world: Any, settle_every: int = 1) -> ByHand:
        chain, requester = world.chain, world.requester
        opening = JobOpen(bytes(20), bytes(32), rounds=4, price=10, budget=4 * 10**8, deadline_slot=10_000)
        job = await TxSender(chain, requester.parts.keys).submit(opening)
        terms = JobTerms(
            chain.genesis.chain_id, job, requester.account, "by hand", MODEL, Optimizer("sgd", 0.1),
            20, 2, 1, 4, 10, settle_every,
        )  # fmt: skip
        return cls(world, terms)

    def invitation(self) -> Invite:
        peers = self.world.requester.host.peer_id, self.trainer.host.peer_id
        return self.terms.invite(self.world.requester.parts.keys, *peers)

    async def say(self, *messages: Message, sender: Any = None) -> Channel:
        host = (sender or self.world.requester).host
        channel = Channel(await host.open(self.trainer.host.peer_id, PROTOCOL))
        for message in messages:
            await channel.send(message)
        return channel

    async def accepted(self) -> Channel:
        channel = await self.say(self.invitation())
        assert isinstance(await channel.receive(FROM_REQUESTER, 10), Accept)
        return channel

    async def task(self, channel: Channel, samples: int = 800) -> None:
        """A task for client 0, with everything that it needs."""
        weights = await self.weights()
        digest = tensors.digest(weights)
        await channel.send(Model(0, digest, len(weights), 0))
        await channel.send(Chunk(0, weights))
        await self.order(channel, digest, samples)

    async def weights(self) -> bytes:
        """A model to start from."""
        return bytes((await self.world.requester.worker.call(Build(MODEL, 1))).weights)

    async def order(self, channel: Channel, digest: bytes, samples: int = 800, round_: int = 0) -> None:
        """A task for client 0, from a model that is there."""
        keys = self.world.requester.parts.keys
        await channel.send(self.terms.task(keys, round_, 0, self.trainer.account, samples, digest))

    async def answer(self, channel: Channel, kind: type[Any]) -> Any:
        """The next message of that kind; reports of progress may come before."""
        with trio.fail_after(10):
            while True:
                message = await channel.receive(FROM_REQUESTER)
                if isinstance(message, kind):
                    return message


@asynccontextmanager
async def by_hand(job_world: Callable[..., Any], limits: WorkLimits, trainers: int = 1) -> Any:
    async with job_world(trainers) as world:
        world.trainers[0].participant._limits = limits
        yield world, await ByHand.with_job(world)


async def test_an_invitation_cannot_be_passed_on(job_world: Callable[..., Any]) -> None:
    async with by_hand(job_world, WorkLimits(), trainers=2) as (world, requester):
        stranger = world.trainers[1]
        stranger.host.learn(requester.trainer.host.peer_id, requester.trainer.host.addrs())
        channel = await requester.say(requester.invitation(), sender=stranger)
        answer = await channel.receive(FROM_REQUESTER, 10)
        assert isinstance(answer, Refuse)
        assert "not signed by the job's requester" in answer.reason
        assert not requester.trainer.participant.busy
        await channel.reset()
        await (await requester.accepted()).reset()


async def test_a_trainer_keeps_what_came_of_a_model_when_the_connection_is_cut(
    job_world: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with by_hand(job_world, WorkLimits()) as (world, requester):
        credited: list[tuple[str, int]] = []
        standing = requester.trainer.host.standing
        monkeypatch.setattr(standing, "useful", lambda *credit: credited.append(credit))
        weights = await requester.weights()
        digest, size, cut = tensors.digest(weights), len(weights), 100
        channel = await requester.accepted()
        await channel.send(Model(0, digest, size, 0))
        await channel.send(Chunk(0, weights[:cut]))
        await world.until(lambda: requester.trainer.participant._kept.model.held == (digest, cut))
        await world.requester.host.disconnect(requester.trainer.host.peer_id)
        await world.until(lambda: not requester.trainer.participant.busy)
        channel = await requester.say(requester.invitation())
        accept = await requester.answer(channel, Accept)
        assert (accept.digest, accept.held) == (digest, cut)
        await channel.send(Model(0, digest, size, cut))
        await channel.send(Chunk(cut, weights[cut:]))
        await hold_a_shard(world, requester, channel)
        await requester.order(channel, digest)
        commit = await requester.answer(channel, Commit)
        assert commit.size > 0
        assert (world.requester.host.peer_id, size) in credited
        await channel.reset()
        await world.until(lambda: not requester.trainer.participant.busy)
        channel = await requester.say(requester.invitation())  # it has all of it now
        accept = await requester.answer(channel, Accept)
        assert (accept.digest, accept.held) == (digest, size)
        await channel.send(Model(0, digest, size, size))
        await hold_a_shard(world, requester, channel)
        await requester.order(channel, digest)
        assert (await requester.answer(channel, Commit)).commitment == commit.commitment


async def test_a_trainer_without_a_task_leaves_rests_and_may_be_invited_again(
    job_world: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(participant, "REST_S", 1.0)
    async with by_hand(job_world, WorkLimits(idle_s=0.3)) as (world, requester):
        trainer = requester.trainer
        channel = await requester.accepted()
        assert trainer.participant.busy
        left = await requester.answer(channel, Done)
        assert "no task within" in left.reason
        await world.until(lambda: not trainer.participant.busy)
        channel = await requester.say(requester.invitation())
        refused = await channel.receive(FROM_REQUESTER, 10)
        assert isinstance(refused, Refuse)
        assert "waited for a task in vain" in refused.reason
        await trio.sleep(1.0)
        await (await requester.accepted()).reset()


async def test_a_trainer_at_work_does_not_leave(job_world: Callable[..., Any]) -> None:
    async with by_hand(job_world, WorkLimits(idle_s=0.3)) as (world, requester):
        requester.trainer.worker.delay = 1.0
        channel = await requester.accepted()
        await hold_a_shard(world, requester, channel)
        await requester.task(channel)
        assert isinstance(await requester.answer(channel, (Commit, Done)), Commit)
        assert "no task within" in (await requester.answer(channel, Done)).reason


@pytest.mark.parametrize("same", [True, False])
async def test_what_a_trainer_has_committed_to_outlives_the_conversation(
    same: bool, job_world: Callable[..., Any]
) -> None:
    """It is sent again, not trained again; unless the job comes back with other terms."""
    async with by_hand(job_world, WorkLimits()) as (world, requester):
        trainer = requester.trainer
        channel = await requester.accepted()
        await hold_a_shard(world, requester, channel)
        await requester.task(channel)
        commit = await requester.answer(channel, Commit)
        await channel.send(Pull(0, 0, 0))
        first = await requester.answer(channel, Update)
        await world.requester.host.disconnect(trainer.host.peer_id)
        await world.until(lambda: not trainer.participant.busy)
        if not same:
            requester.terms = replace(requester.terms, seed=2)
        channel = await requester.accepted()
        await hold_a_shard(world, requester, channel)
        await requester.task(channel)
        assert (await requester.answer(channel, Commit) == commit) == same
        assert trainer.worker.trained == [(0, 0)] * (1 if same else 2)
        await channel.send(Pull(0, 0, 100))
        rest = await requester.answer(channel, Update)
        assert rest.offset == 100
        assert not same or rest.data == first.data[100:]
        keys, commitment = world.requester.parts.keys, Commitment.from_item(unpack(commit.commitment, 512))
        if same:  # once there is a receipt, the requester has it
            receipt = Receipt.countersign(commitment, commit.sig, keys)
            await channel.send(Countersigned(receipt.encode()))
            await channel.send(Pull(0, 0, 0))
            assert (await requester.answer(channel, Refuse)).reason == "there is no such update here"


@pytest.mark.parametrize("what", ["an update that is not there", "a task without its model"])
async def test_requests_that_come_to_nothing_do_not_hold_a_trainer(
    what: str, job_world: Callable[..., Any]
) -> None:
    async with by_hand(job_world, WorkLimits(idle_s=0.5)) as (_, requester):
        channel = await requester.accepted()
        asked = 0
        with trio.move_on_after(20), suppress(RemoteError):
            while requester.trainer.participant.busy:
                if what == "a task without its model":
                    await requester.order(channel, bytes(32))
                else:
                    await channel.send(Pull(0, 0, 0))
                await channel.receive(FROM_REQUESTER, 5)
                await trio.sleep(0.1)
                asked += 1
        assert 2 <= asked < 20
        assert not requester.trainer.participant.busy


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (WorkLimits(task_steps=40), "the task takes 42 steps, this node does at most 40"),
        (WorkLimits(task_s=0.2), "the training took longer than 0.00333333 minutes"),
    ],
)
async def test_absurd_work_is_refused_with_the_reason(
    limits: WorkLimits, words: str, job_world: Callable[..., Any]
) -> None:
    async with by_hand(job_world, limits) as (world, requester):
        requester.trainer.worker.delay = 20.0
        channel = await requester.accepted()
        await hold_a_shard(world, requester, channel)
        await requester.task(channel)
        refused = await requester.answer(channel, Refuse)
        assert (refused.what, refused.reason) == ("task", words)
        assert most_steps(800, 20, 2) == 42
        await channel.reset()


async def test_a_job_that_pays_late_is_refused(job_world: Callable[..., Any]) -> None:
    async with job_world(1) as world:
        requester = await ByHand.with_job(world, settle_every=3)
        channel = await requester.say(requester.invitation())
        refused = await channel.receive(FROM_REQUESTER, 10)
        assert isinstance(refused, Refuse)
        assert refused.reason == "the job pays every 3 rounds; this node waits for 2 at most"
        world.trainers[0].participant._limits = WorkLimits(unsettled_rounds=3)
        await (await requester.accepted()).reset()


async def test_a_long_first_message_is_not_read(
    job_world: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "p2pml.net.host")
    async with by_hand(job_world, WorkLimits()) as (_, requester):
        with suppress(RemoteError):  # it may be refused while it is still being sent
            channel = await requester.say(Hold(bytes(MAX_INVITE), (), ()))
            await channel.receive(FROM_REQUESTER, 10)
        assert f"where at most {MAX_INVITE} are allowed" in caplog.text


async def test_one_update_is_not_sent_again_and_again(job_world: Callable[..., Any]) -> None:
    async with by_hand(job_world, WorkLimits()) as (world, requester):
        channel = await requester.accepted()
        await hold_a_shard(world, requester, channel)
        await requester.task(channel)
        await requester.answer(channel, Commit)
        for _ in range(MAX_PULLS):
            await channel.send(Pull(0, 0, 0))
            await requester.answer(channel, object)
        assert requester.trainer.participant.busy
        await channel.send(Pull(0, 0, 0))
        await world.until(lambda: not requester.trainer.participant.busy)


async def test_updates_that_nobody_fetches_do_not_fill_the_memory(job_world: Callable[..., Any]) -> None:
    async with by_hand(job_world, WorkLimits()) as (_, requester):
        channel = await requester.accepted()
        await hold_a_shard(requester.world, requester, channel)
        await requester.task(channel)
        await requester.answer(channel, Commit)
        digest = tensors.digest(await requester.weights())
        for round_ in range(1, requester.terms.rounds):
            await requester.order(channel, digest, round_=round_)
            await requester.answer(channel, Commit)
        kept = requester.trainer.participant._kept.updates
        assert len(kept._made) == MAX_KEPT < requester.terms.rounds
        await channel.send(Pull(0, 0, 0))
        assert (await requester.answer(channel, Refuse)).reason == "there is no such update here"
        for round_ in range(requester.terms.rounds - MAX_KEPT, requester.terms.rounds):
            await channel.send(Pull(round_, 0, 0))
            assert (await requester.answer(channel, Update)).round == round_


async def test_requests_that_wait_are_bounded(job_world: Callable[..., Any]) -> None:
    async with by_hand(job_world, WorkLimits()) as (world, requester):
        data, asked, go_on = requester.trainer.data, [], trio.Event()

        async def fetch(metainfo: bytes, wanted: Any, sources: Any, progress: Any) -> list[Any]:
            asked.append(tuple(wanted))
            await go_on.wait()
            return [world.root / "nothing"] * len(wanted)

        data.fetch = fetch
        channel = await requester.accepted()
        for client in range(50):
            await channel.send(Hold(b"torrent", (client,), ()))
        await world.until(lambda: bool(asked))
        await channel.send(Pull(3, 3, 0))  # what is read after the last of them: all of them are read
        await requester.answer(channel, Refuse)
        assert asked == [(asked[0][0],)]
        go_on.set()
        await world.until(lambda: asked[-1] == (49,))
        assert len(asked) <= 2
        await channel.reset()


async def hold_a_shard(world: Any, requester: ByHand, channel: Channel) -> None:
    """Have the trainer hold client 0's shard."""
    train, _ = dataset.hold_out(dataset.load(world.root / "clouds.npz", None), 0.1, 1)
    path = world.root / "client-0000.safetensors"
    shards.write(path, train)
    metainfo = await world.requester.data.offer("by hand", [(path.name, path)])
    world.requester.data.allow(metainfo, [requester.trainer.host.peer_id])
    await channel.send(Hold(metainfo, (0,), ()))


async def test_a_job_has_one_torrent_and_few_tasks_at_once(job_world: Callable[..., Any]) -> None:
    async with by_hand(job_world, WorkLimits()) as (world, requester):
        trainer = requester.trainer
        channel = await requester.accepted()
        await hold_a_shard(world, requester, channel)
        await requester.answer(channel, Ready)
        await channel.send(Hold(b"another torrent", (0,), ()))
        await world.until(lambda: not trainer.participant.busy)
        assert len(trainer.data.fetched) == 1
        trainer.worker.delay = 20.0
        channel = await requester.accepted()
        await hold_a_shard(world, requester, channel)
        for _ in range(MAX_WAITING + 1):
            await requester.task(channel)
        await requester.answer(channel, Working)
        assert trainer.participant.busy
        await requester.task(channel)
        await world.until(lambda: not trainer.participant.busy)


async def test_a_trainer_whose_disk_refuses_a_receipt_leaves(
    job_world: Callable[..., Any], job_spec: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with job_world(2) as world:

        async def refused(receipt: Receipt) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(world.trainers[0].claims, "keep", refused)
        job_id = await world.requester.jobs.start(job_spec(rounds=3, least=1), world.root, "job.yaml")
        assert (await world.finish(job_id))["state"] == "done"
        reasons = world.requester.peer_reasons()
        assert any("this node's disk" in reason and "No space left" in reason for reason in reasons)
        assert not world.trainers[0].participant.busy


async def test_a_task_stands_still_while_its_trainer_is_rated(job_world: Any) -> None:
    """Its time does not run out meanwhile, and the requester hears what it waits for."""
    async with by_hand(job_world, WorkLimits(task_s=1.5)) as (world, asker):
        release = trio.Event()

        async def rest(request: Any) -> None:
            await release.wait()

        asker.trainer.worker.before_training = rest
        asker.trainer.worker.rests = ("rating",)
        channel = await asker.accepted()
        await hold_a_shard(world, asker, channel)
        await asker.task(channel)
        for _ in range(3):  # a report a second: longer than the task may take
            while (await asker.answer(channel, Working)).stage != "rating":
                pass
        asker.trainer.worker.rests = ()
        release.set()
        await asker.answer(channel, Commit)
