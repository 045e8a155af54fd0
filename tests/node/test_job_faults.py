"""Jobs among liars and crashes: what a participant may not send, and what a restart must not lose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import trio

from chain.codec import pack
from chain.crypto import Keypair
from chain.entries import JobStatus
from chain.training_records import Receipt
from chain.transactions import JobOpen
from p2pml.formats import tensors
from p2pml.formats.optimizers import Optimizer
from p2pml.net.errors import RemoteError
from p2pml.net.streams import Stream
from p2pml.net.train import (
    FROM_REQUESTER,
    NO_MODEL,
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
    Task,
    Update,
    Working,
)
from p2pml.node import job_members
from p2pml.node.job_members import Members
from p2pml.node.job_session import GlobalModel
from p2pml.node.terms import JobTerms

pytestmark = pytest.mark.slow
TOKEN = 10**8


@dataclass
class Liar:
    """A participant that speaks the protocol by hand, wrongly where it is told to."""

    keys: Keypair
    update: bytes
    change: Callable[[Commit, Task, JobTerms, Keypair], Commit] = lambda commit, task, terms, keys: commit
    send: bytes | None = None
    offset: int = 0
    hang_up_after: int = 0
    garbled: bool = False
    commit_to: int | None = None
    leave_with: int | None = None
    holds: tuple[bytes, int] = (NO_MODEL, 0)
    invitations: int = 0
    got: list[Message] = field(default_factory=list)

    async def __call__(self, stream: Stream) -> None:
        self.invitations += 1
        channel = Channel(stream)
        invite = await channel.receive(FROM_REQUESTER, 10)
        assert isinstance(invite, Invite)
        terms = JobTerms.from_invite(invite)
        await channel.send(Accept(self.keys.public, *self.holds))
        try:
            while True:
                message = await channel.receive(FROM_REQUESTER)
                self.got.append(message)
                match message:
                    case Hold(clients=clients):
                        await channel.send(Ready(clients))
                    case Model() as model if self.leave_with is not None:
                        kept, self.leave_with = self.leave_with, None
                        self.holds = model.digest, model.size if kept < 0 else kept
                        self.got.append(await channel.receive(FROM_REQUESTER))
                        await channel.close()
                        return
                    case Task() as task:
                        await channel.send(self.change(self.commit(task, terms), task, terms, self.keys))
                    case Pull() as pull:
                        await self.upload(channel, pull)
                    case Done():
                        return
        except RemoteError:
            return

    def commit(self, task: Task, terms: JobTerms) -> Commit:
        client = task.client if self.commit_to is None else self.commit_to
        commitment = terms.commitment(
            task.round, client, self.keys.public, task.samples, task.model_in, tensors.digest(self.update)
        )
        sig = self.keys.sign(commitment.signing_bytes())
        return Commit(pack(commitment.to_item()), sig, len(self.update), 1.0, 0.5)

    async def upload(self, channel: Channel, pull: Pull) -> None:
        data = self.update if self.send is None else self.send
        if self.hang_up_after:
            cut, self.hang_up_after = self.hang_up_after, 0
            part = data[pull.offset : cut]
            await channel.send(
                Update(pull.round, pull.client, pull.offset, part[:: -1 if self.garbled else 1])
            )
            await channel.close()
            return
        await channel.send(Update(pull.round, pull.client, pull.offset + self.offset, data[pull.offset :]))


def good_update() -> bytes:
    return tensors.encode([np.zeros((8, 4), np.float32), np.zeros(4, np.float32)])


def not_finite() -> bytes:
    return tensors.encode([np.full((8, 4), np.nan, np.float32), np.zeros(4, np.float32)])


def foreign_commitment(commit: Commit, task: Task, terms: JobTerms, keys: Keypair) -> Commit:
    wrong = terms.commitment(
        task.round, task.client, keys.public, task.samples + 1, task.model_in, tensors.digest(good_update())
    )
    return replace(commit, commitment=pack(wrong.to_item()), sig=keys.sign(wrong.signing_bytes()))


def anothers_commitment(commit: Commit, task: Task, terms: JobTerms, keys: Keypair) -> Commit:
    """What another trainer signed, passed on word for word."""
    other = Keypair.from_seed(bytes([77]) * 32)
    theirs = terms.commitment(
        task.round, task.client, other.public, task.samples, task.model_in, tensors.digest(good_update())
    )
    return replace(commit, commitment=pack(theirs.to_item()), sig=other.sign(theirs.signing_bytes()))


def giant() -> bytes:
    return tensors.encode([np.full((8, 4), 1e30, np.float32), np.zeros(4, np.float32)])


LIES: dict[str, tuple[dict[str, Any], str]] = {
    "nan": ({"update": not_finite()}, "not finite"),
    "shape": ({"update": tensors.encode([np.zeros((4, 8), np.float32), np.zeros(4, np.float32)])}, "shape"),
    "too few tensors": ({"update": tensors.encode([np.zeros((8, 4), np.float32)])}, "w0001 is missing"),
    "not safetensors": ({"update": b"hello" * 50}, "not a safetensors file"),
    "other bytes": ({"update": good_update(), "send": good_update()[::-1]}, "hash"),
    "gap": ({"update": good_update(), "offset": 1}, "chunks do not follow"),
    "too long": ({"update": good_update(), "send": good_update() + b"x"}, "chunks do not follow"),
    "too large": (
        {"update": good_update(), "change": lambda commit, *rest: replace(commit, size=100 << 20)},
        "more than this model can have",
    ),
    "signature": (
        {"update": good_update(), "change": lambda commit, *rest: replace(commit, sig=bytes(64))},
        "signature does not hold",
    ),
    "samples": ({"update": good_update(), "change": foreign_commitment}, "not for the task"),
    "another's": ({"update": good_update(), "change": anothers_commitment}, "not for the task"),
    "giant": ({"update": giant()}, "its norm is 5.66e+30, at most"),
}


PROVEN = ("other bytes", "signature")
"""What no honest program does, however it was interrupted: the host bans who did it once."""
BLAMELESS = ("giant",)
"""What a learning rate that is too high does to honest trainers."""


@pytest.mark.parametrize("lie", LIES)
async def test_a_bad_update_is_refused_and_its_sender_is_out(
    lie: str, job_world: Callable[..., Any], job_spec: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_members, "RETRY_S", 0.0)
    async with job_world(3) as world:
        arguments, words = LIES[lie]
        node = world.trainers[1]
        liar = Liar(node.parts.keys, **arguments)
        node.host.handle(PROTOCOL, liar)
        shown = await world.finish(
            await world.requester.jobs.start(job_spec(rounds=4, least=2), world.root, "job.yaml")
        )
        assert shown["state"] == "done"
        assert any(words in reason for reason in world.requester.peer_reasons())
        assert liar.invitations == 1
        assert isinstance(liar.got[-1], Done)
        assert words in liar.got[-1].reason
        assert world.chain.balance(node.account) == 1000 * TOKEN
        assert [item["clients"] for item in shown["history"]] == [3, 3, 3, 3]
        assert not list((world.requester.parts.folder / shown["id"] / "updates").iterdir())
        standing, peer = world.requester.host.standing, node.host.peer_id
        assert (standing.banned(peer) is not None) == (lie in PROVEN)
        assert lie in PROVEN or (standing.score(peer) > 5) == (lie not in BLAMELESS)
        honest = world.trainers[0].host.peer_id
        assert standing.score(honest) == 0


@pytest.mark.parametrize(("value", "once"), [(0.01, True), (0.0, False)])
async def test_an_update_counts_once(
    value: float,
    once: bool,
    job_world: Callable[..., Any],
    job_spec: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither one's own of an earlier round, nor what somebody else delivered, can be delivered again; only
    that there is nothing to change may be said in every round."""
    monkeypatch.setattr(job_members, "RETRY_S", 0.0)
    async with job_world(2) as world:
        node = world.trainers[1]
        liar = Liar(node.parts.keys, tensors.encode([np.full((8, 4), value, np.float32), np.zeros(4)]))
        node.host.handle(PROTOCOL, liar)
        job_id = await world.requester.jobs.start(job_spec(rounds=3, least=1), world.root, "job.yaml")
        shown = await world.finish(job_id)
        assert shown["state"] == "done"
        assert [item["clients"] for item in shown["history"]] == [2, 2, 2]
        receipts = [message for message in liar.got if isinstance(message, Countersigned)]
        if not once:
            assert len(receipts) == 3
            return
        assert len(receipts) == 1
        assert isinstance(liar.got[-1], Done)
        assert "is one of before: client" in liar.got[-1].reason
        assert "of round 1 delivered it" in liar.got[-1].reason
        assert len([message for message in liar.got if isinstance(message, Pull)]) == 1  # not even asked for
        paid = Receipt.decode(receipts[0].receipt).commitment.samples * shown["price"]
        assert world.chain.balance(node.account) == 1000 * TOKEN + paid


async def test_that_there_is_nothing_to_change_may_be_said_after_a_restart_too(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    """What a requester remembers of the updates is the same whether it was started once or twice."""
    async with job_world(2) as world:
        for node in world.trainers:
            node.worker.spoil, node.worker.delay = lambda _: good_update(), 0.1
        job_id = await world.requester.jobs.start(job_spec(rounds=6, least=2), world.root, "job.yaml")
        await world.until(lambda: world.requester.jobs.show(job_id)["round"] >= 2)
        await world.restart_jobs()
        shown = await world.finish(job_id)
        assert (shown["state"], shown["reason"]) == ("done", "")
        assert [item["clients"] for item in shown["history"]] == [2] * 6
        standing = world.requester.host.standing
        assert [standing.score(node.host.peer_id) for node in world.trainers] == [0, 0]


async def test_an_update_that_nobody_asked_for_is_refused_with_a_reason(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(2) as world:
        node = world.trainers[0]
        liar = Liar(node.parts.keys, good_update(), commit_to=77)
        node.host.handle(PROTOCOL, liar)
        job_id = await world.requester.jobs.start(
            job_spec(rounds=1, least=1, quorum=0.5).replace("stall: 2s", "stall: 2s, deadline: 1s"),
            world.root,
            "job.yaml",
        )
        shown = await world.finish(job_id)
        refusals = [message for message in liar.got if isinstance(message, Refuse)]
        assert refusals[0].client == 77
        assert "does not expect client 77 from you" in refusals[0].reason
        assert "the round was over: 1 of 2 updates at the deadline" in refusals[1].reason
        assert shown["state"] == "done"
        assert shown["history"][0]["clients"] == 1
        assert world.chain.balance(node.account) == 1000 * TOKEN


async def test_an_upload_goes_on_where_it_broke_off(
    job_world: Callable[..., Any], job_spec: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_members, "RETRY_S", 0.2)
    async with job_world(1) as world:
        node, credited = world.trainers[0], []
        monkeypatch.setattr(world.requester.host.standing, "useful", lambda *credit: credited.append(credit))
        honest = Liar(node.parts.keys, good_update(), hang_up_after=100)
        node.host.handle(PROTOCOL, honest)
        job_id = await world.requester.jobs.start(job_spec(rounds=1, least=1), world.root, "job.yaml")
        shown = await world.finish(job_id)
        assert shown["state"] == "done"
        assert [message.offset for message in honest.got if isinstance(message, Pull)] == [0, 100]
        receipts = [message for message in honest.got if isinstance(message, Countersigned)]
        assert len(receipts) == 1
        assert credited == [(node.host.peer_id, len(good_update()))]
        assert world.chain.balance(node.account) == 1000 * TOKEN + shown["spent"]
        assert shown["spent"] > 0


@pytest.mark.parametrize("lies", [False, True])
async def test_only_what_is_wrong_from_its_first_byte_on_is_a_lie(
    lies: bool, job_world: Callable[..., Any], job_spec: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies here of an upload that broke off may have been spoilt by a crash of this very node."""
    monkeypatch.setattr(job_members, "RETRY_S", 0.2)
    async with job_world(2) as world:
        node = world.trainers[0]
        peer = Liar(node.parts.keys, good_update(), hang_up_after=100, garbled=True)
        peer.send = good_update()[::-1] if lies else None
        world.trainers[1].worker.delay = 1.5  # busy with its own client while the first comes back
        node.host.handle(PROTOCOL, peer)
        job_id = await world.requester.jobs.start(job_spec(rounds=1, least=1), world.root, "job.yaml")
        assert (await world.finish(job_id))["state"] == "done"
        assert [message.offset for message in peer.got if isinstance(message, Pull)] == [0, 100, 0]
        assert any(isinstance(message, Countersigned) for message in peer.got) != lies
        assert (world.requester.host.standing.banned(node.host.peer_id) is not None) == lies


@pytest.mark.parametrize("kept", [100, -1, 10**6])
async def test_a_model_goes_on_where_its_transfer_broke_off(
    kept: int, job_world: Callable[..., Any], job_spec: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """-1 stands for all of it; who says that it has more than there is gets it from the start."""
    monkeypatch.setattr(job_members, "RETRY_S", 0.2)
    async with job_world(1) as world:
        node = world.trainers[0]
        peer = Liar(node.parts.keys, good_update(), leave_with=kept)
        node.host.handle(PROTOCOL, peer)
        job_id = await world.requester.jobs.start(job_spec(rounds=1, least=1), world.root, "job.yaml")
        assert (await world.finish(job_id))["state"] == "done"
        first, again = (message for message in peer.got if isinstance(message, Model))
        whole, *rest = (message.data for message in peer.got if isinstance(message, Chunk))
        offset = {100: 100, -1: first.size, 10**6: 0}[kept]
        assert again == replace(first, offset=offset)
        assert b"".join(rest) == whole[offset:]


async def test_a_killed_requester_goes_on_with_the_same_result(
    job_world: Callable[..., Any], job_spec: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_members, "GRACE_S", 0.5)
    async with job_world(3) as world:
        spec = job_spec(rounds=4)
        whole = await world.finish(await world.requester.jobs.start(spec, world.root, "job.yaml"))
        straight = [record.model_out for record in world.chain.records]
        before = [world.chain.balance(node.account) for node in world.trainers]
        for node in world.trainers:
            node.worker.delay = 0.2
        job_id = await world.requester.jobs.start(spec, world.root, "job.yaml")
        for stop_after in (1, 2):
            await world.until(lambda n=stop_after: world.requester.jobs.show(job_id)["round"] >= n)
            await world.restart_jobs()
        shown = await world.finish(job_id)
        assert shown["state"] == "done"
        assert [record.model_out for record in world.chain.records[4:]] == straight
        opened = [tx for tx in world.chain.included if isinstance(tx.payload, JobOpen)]
        assert len(opened) == 2  # each job once
        after = [world.chain.balance(node.account) for node in world.trainers]
        gained = sum(after) - sum(before)
        assert gained == shown["spent"] == whole["spent"]
        await world.restart_jobs()
        assert world.requester.jobs.show(job_id)["state"] == "done"
        assert world.requester.jobs.show(job_id)["peers"] == shown["peers"]


async def test_a_job_whose_journal_is_damaged_does_not_keep_the_node_from_starting(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(0) as world:
        folder = world.requester.parts.folder / "0123456789abcdef"
        folder.mkdir(parents=True)
        (folder / "spec.yaml").write_text(job_spec())
        (folder / "journal.jsonl").write_text(
            '{"kind":"start","base_dir":"/","origin":"job.yaml"}\n{"kind":"round","round":0}\n'
        )
        await world.restart_jobs()
        assert world.requester.jobs.show(folder.name)["state"] == "failed"


async def test_updates_with_a_receipt_survive_the_requesters_death(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(2) as world:
        quick, slow = world.trainers
        held = trio.Event()

        async def hold(request: Any) -> None:
            await held.wait()

        slow.worker.before_training = hold
        job_id = await world.requester.jobs.start(job_spec(rounds=1, least=2), world.root, "job.yaml")
        await world.until(
            lambda: any(event.kind == "training.receipt" for event in quick.parts.events.since(0))
        )
        await world.restart_jobs()
        held.set()
        shown = await world.finish(job_id)
        assert shown["state"] == "done"
        done = quick.worker.trained + slow.worker.trained
        assert sorted(done) == [(0, 0), (0, 1)]  # what had a receipt was not trained again
        assert shown["history"][0]["clients"] == 2
        assert world.chain.balance(quick.account) > 1000 * TOKEN


async def test_receipts_of_a_vanished_requester_are_claimed(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(2) as world:
        job_id = await world.requester.jobs.start(job_spec(rounds=30, least=2), world.root, "job.yaml")
        await world.until(lambda: len(world.chain.records) >= 2)
        world.running.cancel()
        await trio.sleep(0.2)
        job = world.chain.job(bytes.fromhex(world.requester.jobs.show(job_id)["chain_job"]))
        trainer = world.trainers[0]
        receipts = trainer.claims.receipts(job.id)
        assert len(receipts) >= 2
        await trainer.claims.look(job.id)
        assert world.chain.balance(trainer.account) == 1000 * TOKEN
        world.chain.skip_to(job.deadline_slot + 2)
        assert world.chain.job(job.id).status is JobStatus.CHALLENGE
        world.chain.skip_to(job.deadline_slot + 6)
        await trainer.claims.look(job.id)
        owed = sum(receipt.commitment.samples for receipt in receipts) * job.price
        fee = world.chain.genesis.params.min_fee
        assert world.chain.balance(trainer.account) == 1000 * TOKEN + owed - fee
        await trainer.claims.look(job.id)  # what is paid is not claimed again
        assert world.chain.balance(trainer.account) == 1000 * TOKEN + owed - fee
        world.chain.skip_to(world.chain.job(job.id).challenge_end + 2)
        await trainer.claims.look(job.id)
        assert trainer.claims.receipts(job.id) == []


@pytest.fixture
def base_terms() -> Callable[[Any], JobTerms]:
    """The terms that a world's running job has."""

    def make(world: Any) -> JobTerms:
        job = world.chain.draft.job(world.chain.included[0].id)
        model = (
            world.requester.parts.folder / world.requester.jobs.list()[0]["id"] / "model.json"
        ).read_text()
        return JobTerms(
            world.chain.genesis.chain_id, job.id, job.requester, "clouds", model, Optimizer("sgd", 0.1),
            20, 2, 1, job.rounds, job.price,
        )  # fmt: skip

    return make


def invited(world: Any, terms: JobTerms) -> Invite:
    """An invitation of the first trainer that the requester has signed for itself."""
    keys, peers = world.requester.parts.keys, (world.requester.host.peer_id, world.trainers[0].host.peer_id)
    return terms.invite(keys, *peers)


HOSTILE = '{"class_name":"Sequential","config":{"layers":[{"class_name":"Lambda","config":{}}]}}'


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"chain_id": bytes(32)}, "another chain"),
        ({"model": HOSTILE}, "model is not accepted"),
        ({"price": 10**9}, "does not say what the job says on the chain"),
        ({"requester": bytes(32)}, "not signed by the job's requester"),
        ({"algorithm": "fedsomething"}, "unknown algorithm 'fedsomething'"),
        ({"prox": -1.0}, "prox is -1.0"),
        ({"upload": "int4"}, "unknown kind of upload 'int4'"),
        ({}, "busy with another job"),
    ],
)
async def test_what_a_participant_refuses(
    change: dict[str, Any],
    words: str,
    job_world: Callable[..., Any],
    job_spec: Callable[..., str],
    base_terms: Callable[[Any], JobTerms],
) -> None:
    async with job_world(1) as world:
        trainer = world.trainers[0]
        trainer.worker.delay = 5.0
        await world.requester.jobs.start(job_spec(rounds=1, least=1), world.root, "job.yaml")
        await world.until(lambda: trainer.participant.busy)
        terms = base_terms(world)
        if not change:  # a second job, on the chain too
            spec = job_spec(rounds=2, least=1)
            await world.requester.jobs.start(spec, world.root, "job.yaml")
            await world.until(lambda: len(world.chain.included) == 2)
            change = {"job": world.chain.included[1].id, "rounds": 2}
            change["price"] = world.chain.draft.job(change["job"]).price
        channel = Channel(await world.requester.host.open(trainer.host.peer_id, PROTOCOL))
        await channel.send(invited(world, replace(terms, **change)))
        answer = await channel.receive(FROM_REQUESTER, 10)
        assert isinstance(answer, Refuse)
        assert words in answer.reason
        await channel.reset()


async def test_a_peer_that_repeats_itself_between_rounds_does_not_fill_the_memory(
    job_world: Callable[..., Any], job_spec: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_members, "MAX_PROGRESS", 10)
    news: list[Members] = []
    begin = Members.run

    async def noted(self: Members, **options: Any) -> None:
        news.append(self)
        await begin(self, **options)

    async def chatter(stream: Stream) -> None:
        channel = Channel(stream)
        await channel.receive(FROM_REQUESTER, 10)
        await channel.send(Accept(bytes(32), NO_MODEL, 0))
        for _ in range(100):
            await channel.send(Ready(()))
            await channel.send(Working(0, 0, "train", 1, 2))
        told.set()
        await channel.receive(FROM_REQUESTER)

    told = trio.Event()
    monkeypatch.setattr(Members, "run", noted)
    async with job_world(2) as world:
        world.trainers[0].host.handle(PROTOCOL, chatter)
        world.trainers[1].worker.status = "starting"  # refuses, so that no round begins
        await world.requester.jobs.start(job_spec(least=2, join="20s"), world.root, "job.yaml")
        with trio.fail_after(10):
            await told.wait()
        await trio.sleep(0.5)
        waiting = news[0].reports.statistics().current_buffer_used
        assert 0 < waiting <= 11


async def test_a_stranger_cannot_break_off_the_conversation_with_the_requester(
    job_world: Callable[..., Any], job_spec: Callable[..., str], base_terms: Callable[[Any], JobTerms]
) -> None:
    async with job_world(2) as world:
        trainer, stranger = world.trainers
        trainer.worker.delay = 1.0
        job_id = await world.requester.jobs.start(job_spec(rounds=1, least=2), world.root, "job.yaml")
        await world.until(lambda: trainer.participant.busy)
        stranger.host.learn(trainer.host.peer_id, trainer.host.addrs())
        channel = Channel(await stranger.host.open(trainer.host.peer_id, PROTOCOL))
        await channel.send(invited(world, base_terms(world)))
        answer = await channel.receive(FROM_REQUESTER, 10)
        assert isinstance(answer, Refuse)
        assert "not signed by the job's requester" in answer.reason
        await channel.reset()
        assert (await world.finish(job_id))["state"] == "done"
        assert len(trainer.worker.trained) == 1


async def test_a_task_that_the_requester_did_not_sign_ends_the_conversation(
    job_world: Callable[..., Any], job_spec: Callable[..., str], base_terms: Callable[[Any], JobTerms]
) -> None:
    async with job_world(1) as world:
        trainer = world.trainers[0]
        trainer.worker.delay = 5.0
        await world.requester.jobs.start(job_spec(rounds=1, least=1), world.root, "job.yaml")
        await world.until(lambda: trainer.participant.busy)
        world.running.cancel()
        await world.until(lambda: not trainer.participant.busy)
        terms = base_terms(world)
        channel = Channel(await world.requester.host.open(trainer.host.peer_id, PROTOCOL))
        await channel.send(invited(world, terms))
        assert isinstance(await channel.receive(FROM_REQUESTER, 10), Accept)
        model = GlobalModel(b"weights", tensors.digest(b"weights"))
        stranger = Keypair.from_seed(bytes(32))
        await channel.send(terms.task(stranger, 0, 0, trainer.account, 800, model.digest))
        with pytest.raises(RemoteError):
            await channel.receive(FROM_REQUESTER, 10)
        assert not trainer.participant.busy
        assert trainer.worker.trained == []
        await channel.reset()
