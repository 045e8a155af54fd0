"""Jobs on private data: it stays with its owners, and they train for those that they named."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from chain import address
from p2pml.errors import UserError
from p2pml.formats import shards, tensors
from p2pml.net.train import (
    FROM_PARTICIPANT,
    Accept,
    Hold,
    Message,
    Offer,
    Ready,
    Refuse,
)
from p2pml.node.private_data import PrivateData, make_ask
from p2pml.private_config import PrivateDataset
from p2pml.training import dataset, models
from p2pml.worker.session import WorkerError
from tests.node.test_job_limits import ByHand

pytestmark = pytest.mark.slow
TOKEN = 10**8
MODEL = models.build("softmax", {}, (8,), 4).to_json()


def own(world: Any, node: Any, rows: slice, requesters: Sequence[Any] = (), **arrays: Any) -> Path:
    """Give a node some of the rows as its private data `wards`, open to the nodes `requesters`."""
    data = dataset.load(world.root / "clouds.npz").train
    path = node.parts.folder.parent / "wards.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{"x": data.x[rows], "y": data.y[rows], **arrays})
    configured = PrivateDataset(
        "wards", str(path), tuple(address.encode(each.account) for each in requesters)
    )
    node.participant._private = PrivateData((configured,), node.parts.folder.parent / "private")
    return path


def owner_spec(make: Callable[..., str], **arguments: Any) -> str:
    return make(**arguments).replace(
        "data: {train: clouds.npz, clients: auto}",
        "data: {train: wards, partition: {kind: by_owner}, validation: {path: clouds.npz}}",
    )


async def finished(world: Any, spec: str) -> dict[str, Any]:
    return dict(await world.finish(await world.requester.jobs.start(spec, world.root, "job.yaml")))


async def test_each_owner_trains_on_its_own_and_nothing_is_shared(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(3) as world:
        parts = (slice(0, 200), slice(200, 300), slice(300, 350))
        for node, rows in zip(world.trainers, parts, strict=True):
            own(world, node, rows, [world.requester])
        shown = await finished(world, owner_spec(job_spec))
        assert (shown["state"], shown["reason"]) == ("done", "")
        assert shown["accuracy"] >= 0.9  # on the requester's own data
        clients = {client for node in world.trainers for _, client in node.worker.trained}
        assert clients == {0, 1, 2}
        for node in world.trainers:  # one client each, the same in all rounds
            assert len({client for _, client in node.worker.trained}) == 1
            assert len(node.worker.trained) == 3
        assert world.torrents == {}
        assert [node.data.fetched for node in world.nodes] == [[]] * 4
        assert all(record.samples == 350 * 2 for record in world.chain.records)
        earned = [world.chain.balance(node.account) - 1000 * TOKEN for node in world.trainers]
        assert earned == [count * 2 * 3 * shown["price"] for count in (200, 100, 50)]


async def test_who_is_not_named_hears_nothing_and_no_money_moves(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(2) as world:
        own(world, world.trainers[0], slice(0, 100), [world.trainers[1]])  # for somebody else's jobs
        shown = await finished(world, owner_spec(job_spec, least=1, join="2s"))
        assert shown["state"] == "failed"
        words = "this node offers no private data 'wards' to the account that asks"
        assert "only 0 of 1 owners offered the private data wards within 2 s" in shown["reason"]
        assert shown["end"] == "no-trainers"
        assert f"node1: {words}" in shown["reason"]  # has it
        assert f"node2: {words}" in shown["reason"]  # has not: there is no telling the two apart
        assert world.chain.included == []


async def test_a_lost_owner_is_not_replaced_and_the_round_goes_on_by_quorum(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(3) as world:
        for number, node in enumerate(world.trainers):
            own(world, node, slice(100 * number, 100 * (number + 1)), [world.requester])
        victim, at_work = world.trainers[0], trio.Event()

        async def die(request: Any) -> None:
            if request.round == 1:
                at_work.set()
                await trio.sleep_forever()

        victim.worker.before_training = die
        spec = owner_spec(job_spec, least=2, quorum=0.6, stall="1s")
        job_id = await world.requester.jobs.start(spec, world.root, "job.yaml")
        with trio.fail_after(20):
            await at_work.wait()
        await world.kill(victim)
        shown = await world.finish(job_id)
        assert (shown["state"], shown["reason"]) == ("done", "")
        assert [item["clients"] for item in shown["history"]] == [3, 2, 2]
        [lost] = {client for _, client in victim.worker.trained}
        assert all(
            (round_, lost) not in node.worker.trained for node in world.trainers[1:] for round_ in range(3)
        )


async def test_a_requester_that_was_killed_goes_on_with_the_same_owners(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(2) as world:
        for number, node in enumerate(world.trainers):
            own(world, node, slice(100 * number, 100 * (number + 1)), [world.requester])
            node.worker.delay = 0.1
        job_id = await world.requester.jobs.start(
            owner_spec(job_spec, least=2, rounds=8), world.root, "job.yaml"
        )
        await world.until(lambda: world.requester.jobs.show(job_id)["round"] >= 2)
        await world.restart_jobs()
        shown = await world.finish(job_id)
        assert (shown["state"], shown["round"]) == ("done", 8)
        for node in world.trainers:
            assert len({client for _, client in node.worker.trained}) == 1


class ToOwner(ByHand):
    """A requester whose messages are written by hand, about private data."""

    def ask(self, name: str = "wards", sender: Any = None, **changes: Any) -> Message:
        sender = sender or self.world.requester
        peers = sender.host.peer_id, self.trainer.host.peer_id
        made = make_ask(sender.parts.keys, self.world.chain.genesis.chain_id, name, MODEL, *peers)
        return replace(made, **changes)

    async def answered(self, message: Message, sender: Any = None) -> Message:
        channel = await self.say(message, sender=sender)
        with trio.fail_after(10):
            return await channel.receive(FROM_PARTICIPANT)

    async def why_not(self, message: Message, sender: Any = None) -> str:
        answer = await self.answered(message, sender)
        assert isinstance(answer, Refuse)
        return answer.reason


async def test_only_the_named_account_itself_is_answered(job_world: Callable[..., Any]) -> None:
    async with job_world(2) as world:
        own(world, world.trainers[0], slice(0, 70), [world.requester])
        hand, other = await ToOwner.with_job(world), world.trainers[1]
        other.host.learn(world.trainers[0].host.peer_id, world.trainers[0].host.addrs())
        assert await hand.answered(hand.ask()) == Offer(70)
        nothing = "offers no private data"
        assert nothing in await hand.why_not(hand.ask("other"))
        assert nothing in await hand.why_not(hand.ask(sender=other), other)
        # Nobody can pass the requester's own question on, or put its account under another.
        assert "not signed by its account" in await hand.why_not(hand.ask(), other)
        assert "not signed" in await hand.why_not(
            hand.ask(sender=other, requester=world.requester.account), other
        )
        assert "not signed" in await hand.why_not(hand.ask(dataset="x"))
        assert "another chain" in await hand.why_not(hand.ask(chain_id=bytes(32)))
        assert "version 99" in await hand.why_not(hand.ask(version=99))


async def test_the_invitation_is_judged_again(job_world: Callable[..., Any]) -> None:
    """Who skips the question gets no further."""
    async with job_world(1) as world:
        own(world, world.trainers[0], slice(0, 70))
        hand = await ToOwner.with_job(world)
        hand.terms = replace(hand.terms, dataset="wards", model=MODEL)
        assert "offers no private data" in await hand.why_not(hand.invitation())


@pytest.mark.parametrize("private", [True, False])
async def test_why_a_training_failed_only_the_owners_log_says(
    private: bool,
    job_world: Callable[..., Any],
    job_spec: Callable[..., str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What TensorFlow or a trainer of the owner's says of its failure may hold values and paths."""
    failure = WorkerError("indices[0,3] = 4711 is not in [0, 100)", 'File "/data/wards/trainer.py", line 9')

    async def fail(request: Any) -> None:
        raise failure

    async with job_world(1) as world:
        node = world.trainers[0]
        own(world, node, slice(0, 100), [world.requester])
        node.worker.before_training = fail
        spec = job_spec(least=1, rounds=1, join="2s")
        shown = await finished(world, owner_spec(lambda: spec) if private else spec)
        assert shown["state"] == "failed"
        told = f"{shown} {world.requester.peer_reasons()} {world.requester.notes()}"
        assert ("4711" in told) is not private
        assert ("the log of its owner's node says why" in told) is private
        assert not private or "trainer.py" not in told
    [logged] = [text for text in caplog.messages if "4711" in text and "job clouds" in text]
    assert "/data/wards/trainer.py" in logged


async def test_two_invitations_at_once_are_one_job(job_world: Callable[..., Any]) -> None:
    """Reading the data takes time, in which another invitation may come."""
    async with job_world(1) as world:
        own(world, world.trainers[0], slice(0, 70), [world.requester])
        channels = []
        async with world.trainers[0].participant._private._reading:
            for _ in range(2):
                hand = await ToOwner.with_job(world)
                hand.terms = replace(hand.terms, dataset="wards", model=MODEL)
                channels.append(await hand.say(hand.invitation()))
            waiting = world.trainers[0].participant._private._reading
            await world.until(lambda: waiting.statistics().tasks_waiting == 2)
        answers = [await channel.receive(FROM_PARTICIPANT, 10) for channel in channels]
        assert [type(answer) for answer in answers] == [Accept, Refuse]
        assert "busy with another job" in answers[1].reason
        await channels[0].reset()


async def test_a_conversation_about_private_data_fetches_and_shares_nothing(
    job_world: Callable[..., Any],
) -> None:
    async with job_world(1) as world:
        own(world, world.trainers[0], slice(0, 400), [world.requester])
        hand = await ToOwner.with_job(world)
        hand.terms = replace(hand.terms, dataset="wards", model=MODEL)
        path = world.root / "client-0000.safetensors"
        shards.write(path, dataset.load(world.root / "clouds.npz").train)
        metainfo = await world.requester.data.offer("by hand", [(path.name, path)])
        for wrong in (Hold(metainfo, (0,), ()), Hold(b"", (0,), ("x",)), Hold(b"", (0, 1), ())):
            channel = await hand.accepted()
            await channel.send(wrong)
            assert "no torrent, and one client for each owner" in (await hand.answer(channel, Refuse)).reason
            await channel.reset()
        channel = await hand.accepted()
        await hand.task(channel)  # a client before it was said which one is the owner's
        assert "client 0 is not this node's" in (await hand.answer(channel, Refuse)).reason
        await channel.send(Hold(b"", (3,), ()))
        assert await hand.answer(channel, Ready) == Ready((3,))
        await hand.order(channel, tensors.digest(await hand.weights()))
        assert "client 0 is not this node's" in (await hand.answer(channel, Refuse)).reason
        assert world.trainers[0].data.fetched == []
        await channel.reset()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.zeros((400, 9), np.float32)}, "it takes samples of [8], the data has [9]"),
        ({"y": np.full(400, 7)}, "it knows 4 classes, the data has 8"),
        ({"y": np.full(400, -1)}, "cannot be read by its owner's node"),
    ],
)
async def test_data_that_does_not_fit(
    arrays: dict[str, Any], words: str, job_world: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with job_world(1) as world:
        path = own(world, world.trainers[0], slice(0, 400), [world.requester], **arrays)
        hand = await ToOwner.with_job(world)
        with caplog.at_level(logging.ERROR):
            reason = await hand.why_not(hand.ask())
        assert words in reason
        assert str(path) not in reason
        assert (str(path) in caplog.text) == ("cannot be read" in words)  # its owner reads what is wrong


async def test_labels_have_to_be_numbers(job_world: Callable[..., Any]) -> None:
    """Owners that do not see each other's data could not agree on an order of names."""
    async with job_world(1) as world:
        path = own(world, world.trainers[0], slice(0, 1), [world.requester])
        text = path.with_suffix(".csv")
        node = world.trainers[0].participant
        item = replace(node._private._datasets["wards"], path=str(text))
        hand = await ToOwner.with_job(world)
        for label, good in (("healthy", False), ("3", True)):
            text.write_text(f"label,a,b,c,d,e,f,g,h\n{label},1,2,3,4,5,6,7,8.5\n")
            node._private = PrivateData((item,), path.parent / "private")
            assert isinstance(await hand.answered(hand.ask()), Offer if good else Refuse)


async def test_requester_and_owner_can_compare_what_their_models_see(
    job_world: Callable[..., Any], job_spec: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    """The wire says nothing of values: each side writes for its own people how it read its data."""
    async with job_world(1) as world:
        path = own(world, world.trainers[0], slice(0, 1), [world.requester])
        text = path.with_suffix(".csv")
        text.write_text("label,a,b,c,d,e,f,g,h\n" + "".join(f"{k},1,2,3,4,5,6,7,255\n" for k in range(4)))
        node = world.trainers[0].participant
        item = replace(node._private._datasets["wards"], path=str(text))
        node._private = PrivateData((item,), path.parent / "private")
        with caplog.at_level(logging.INFO):
            shown = await finished(world, owner_spec(job_spec, least=1, rounds=1))
        assert shown["state"] == "done"
        assert f"{text} is read as 4 samples of [8], labels 0 to 3, values 1 to 255" in caplog.text
        [own_data] = [text for text in world.requester.notes() if text.startswith("own data")]
        assert "100 samples of [8], labels 0 to 3, values -" in own_data


def test_an_account_that_is_none_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"requesters of \[\[private\]\]: an address starts with 'pml1'"):
        PrivateData((PrivateDataset("wards", "/data", ("somebody",)),), tmp_path)
