"""A job's money when blocks come late, claims are crossed, deadlines pass, or nothing is in escrow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from chain.entries import JobStatus
from chain.errors import InvalidTransaction
from chain.training_records import settle_receipts
from chain.transactions import JobOpen, JobSettle, Transfer, Tx
from chain.transition import apply_tx
from p2pml.errors import UserError
from p2pml.formats.optimizers import Optimizer
from p2pml.net.train import FROM_REQUESTER, PROTOCOL, Accept, Channel, Refuse
from p2pml.node import settlement, tx_sender
from p2pml.node.claims import AGAIN_SLOTS, Claims
from p2pml.node.terms import JobTerms
from p2pml.node.tx_sender import LATE_SLOTS, TxSender

pytestmark = pytest.mark.slow
TOKEN = 10**8
MODEL = (
    '{"class_name":"Sequential","config":{"name":"m","layers":['
    '{"class_name":"InputLayer","config":{"batch_input_shape":[null,8],"dtype":"float32","name":"i"}},'
    '{"class_name":"Dense","config":{"units":4,"activation":"linear","name":"d"}}]}}'
)


async def test_a_claim_that_was_made_invalid_is_made_anew_within_the_window(
    job_world: Callable[..., Any], job_spec: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One receipt paid by the requester spoils the claim of all; waiting for it would use up the window."""
    monkeypatch.setattr(tx_sender, "WAIT_S", 0.05)
    async with job_world(1) as world:
        trainer, chain = world.trainers[0], world.chain
        job_id = await world.requester.jobs.start(job_spec(rounds=30, least=1), world.root, "job.yaml")
        await world.until(lambda: len(chain.records) >= 2)
        world.running.cancel()
        await trio.sleep(0.2)
        job = bytes.fromhex(world.requester.jobs.show(job_id)["chain_job"])
        chain.skip_to(chain.job(job).deadline_slot + 2)
        window = chain.job(job)
        chain.skip_to(window.challenge_end - chain.genesis.params.job_challenge_slots + 3)
        chain.held = []  # whatever is claimed now never gets into a block
        await trainer.claims.look(job)
        assert len(chain.held) == 1
        chain.held = None
        assert chain.slot_now() < window.challenge_end
        await trainer.claims.look(job)
        assert chain.balance(trainer.account) > 1000 * TOKEN
        assert chain.genesis.params.job_challenge_slots > AGAIN_SLOTS + LATE_SLOTS


async def test_receipts_that_cannot_be_read_do_not_end_the_node(
    job_world: Callable[..., Any], tmp_path: Path
) -> None:
    async with job_world(1) as world:
        node, folder = world.trainers[0], tmp_path / "odd"
        folder.mkdir()
        (folder / "notes.receipts").write_text("mine")
        (folder / f"{bytes(32).hex()}.receipts").write_text('{"kind":"receipt","receipt":"00"}\n')
        (folder / f"{bytes([1] * 32).hex()}.receipts").write_text('{"kind":"receipt"}\n')
        claims = Claims(world.chain, TxSender(world.chain, node.parts.keys), folder, node.parts.events)
        with trio.move_on_after(0.3) as scope:
            await claims.run()
        assert scope.cancelled_caught


async def test_a_transaction_is_found_in_a_block_that_came_after_its_last_slot(
    job_world: Callable[..., Any],
) -> None:
    async with job_world(0) as world:
        node, chain = world.requester, world.chain
        sender = TxSender(chain, node.parts.keys)
        tx_id = await sender.submit(JobOpen(bytes(20), bytes(32), 1, 0, 0, 1000))
        last = chain.slot_now()
        chain.skip_to(last + 1)
        assert await sender.included(tx_id, last)
        chain.skip_to(last + LATE_SLOTS + 1)
        assert not await sender.included(bytes(32), last)


async def test_a_block_that_comes_in_between_does_not_open_the_job_twice(
    job_world: Callable[..., Any], job_spec: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with job_world(1) as world:
        chain = world.chain
        submit = chain.submit_tx

        async def already_there(tx: Tx) -> bytes:
            await submit(tx)
            if isinstance(tx.payload, JobOpen):
                raise InvalidTransaction("the nonce is 0, the account's next is 1")
            return tx.id

        monkeypatch.setattr(chain, "submit_tx", already_there)
        job_id = await world.requester.jobs.start(job_spec(rounds=1, least=1), world.root, "job.yaml")
        assert (await world.finish(job_id))["state"] == "done"
        assert sum(isinstance(tx.payload, JobOpen) for tx in chain.included) == 1


@pytest.fixture
def asleep(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Any]:
    """Have the JOB_OPEN of a job leave, and time pass until it has expired, without a block coming here."""

    async def sleep(world: Any) -> tuple[Tx, int]:
        chain = world.chain
        await world.until(lambda: bool(chain.held))
        (opening,), chain.held, slot = chain.held, None, chain.slot_now()
        monkeypatch.setattr(chain, "head_slot", lambda: slot)
        chain.skip_to(opening.valid_until_slot + 2 * LATE_SLOTS)
        await trio.sleep(2.5)
        return opening, slot

    return sleep


def openings(chain: Any) -> list[Tx]:
    return [tx for tx in chain.included if isinstance(tx.payload, JobOpen)]


@pytest.mark.parametrize("included", [True, False])
async def test_a_machine_that_slept_opens_no_job_twice(
    included: bool, job_world: Callable[..., Any], job_spec: Callable[..., str], asleep: Callable[[Any], Any]
) -> None:
    """Only the blocks that it has yet to fetch tell whether the job was opened."""
    async with job_world(1) as world:
        chain = world.chain
        chain.held = []
        job_id = await world.requester.jobs.start(job_spec(rounds=1, least=1), world.root, "job.yaml")
        opening, slot = await asleep(world)
        assert openings(chain) == []
        if included:
            apply_tx(chain.draft, opening, slot, 1, bytes(32))
            chain.included.append(opening)
        chain.head_slot = chain.slot_now
        shown = await world.finish(job_id)
        assert shown["state"] == "done"
        assert len(openings(chain)) == 1
        assert (openings(chain)[0].id == opening.id) == included
        assert shown["chain_job"] == openings(chain)[0].id.hex()


async def test_an_opening_whose_nonce_was_used_is_not_waited_for(
    job_world: Callable[..., Any], job_spec: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with job_world(1) as world:
        chain, keys = world.chain, world.requester.parts.keys
        chain.held = []
        job_id = await world.requester.jobs.start(job_spec(rounds=1, least=1), world.root, "job.yaml")
        await world.until(lambda: bool(chain.held))
        (opening,), chain.held = chain.held, None
        monkeypatch.setattr(chain, "head_slot", lambda: 1)
        await chain.submit_tx(TxSender(chain, keys).sign(Transfer(world.trainers[0].account, 1)))
        assert (await world.finish(job_id))["state"] == "done"
        assert [tx.id == opening.id for tx in openings(chain)] == [False]


async def test_a_job_that_was_stopped_asleep_is_cancelled_when_its_block_is_here(
    job_world: Callable[..., Any], job_spec: Callable[..., str], asleep: Callable[[Any], Any]
) -> None:
    async with job_world(1) as world:
        chain = world.chain
        chain.held = []
        job_id = await world.requester.jobs.start(job_spec(rounds=1, least=1), world.root, "job.yaml")
        await world.until(lambda: bool(chain.held))
        await world.requester.jobs.stop(job_id)
        opening, slot = await asleep(world)
        assert world.requester.jobs.show(job_id)["state"] == "settling"
        apply_tx(chain.draft, opening, slot, 1, bytes(32))
        chain.included.append(opening)
        assert (await world.finish(job_id))["state"] == "stopped"
        assert chain.job(opening.id).status is JobStatus.CHALLENGE


async def test_a_job_ends_when_its_deadline_on_the_chain_is_over(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(1) as world:
        chain = world.chain
        job_id = await world.requester.jobs.start(job_spec(rounds=40, least=1), world.root, "job.yaml")
        await world.until(lambda: len(chain.records) >= 1)
        job = bytes.fromhex(world.requester.jobs.show(job_id)["chain_job"])
        chain.skip_to(chain.job(job).deadline_slot + 2)
        shown = await world.finish(job_id)
        assert shown["state"] == "failed"
        assert "deadline on the chain" in shown["reason"]
        assert len(shown["history"]) < 40


async def test_nobody_works_for_an_escrow_that_is_empty(job_world: Callable[..., Any]) -> None:
    async with job_world(1) as world:
        trainer, requester, chain = world.trainers[0], world.requester, world.chain
        sender = TxSender(chain, requester.parts.keys)
        opening = JobOpen(bytes(20), bytes(32), rounds=1, price=10, budget=0, deadline_slot=10_000)
        terms = JobTerms(
            chain.genesis.chain_id, await sender.submit(opening), requester.account, "promises", MODEL,
            Optimizer("sgd", 0.1), 20, 2, 1, 1, 10,
        )  # fmt: skip
        task = terms.task(requester.parts.keys, 0, 0, trainer.account, 800, bytes(32))
        paid = replace(opening, budget=8000)
        for payload, words in ((opening, "escrow"), (paid, "model that the task starts from was not sent")):
            terms = replace(terms, job=await sender.submit(payload))
            task = terms.task(requester.parts.keys, 0, 0, trainer.account, 800, bytes(32))
            channel = Channel(await requester.host.open(trainer.host.peer_id, PROTOCOL))
            peers = requester.host.peer_id, trainer.host.peer_id
            await channel.send(terms.invite(requester.parts.keys, *peers))
            assert isinstance(await channel.receive(FROM_REQUESTER, 10), Accept)
            await channel.send(task)
            answer = await channel.receive(FROM_REQUESTER, 10)
            assert isinstance(answer, Refuse)
            assert words in answer.reason
            await channel.reset()
            await world.until(lambda: not trainer.participant.busy)


async def test_a_settlement_that_finds_the_pool_full_is_made_again(
    job_world: Callable[..., Any], job_spec: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often, as long as the job takes payments."""
    monkeypatch.setattr(settlement, "LOOK_S", 0.02)
    monkeypatch.setattr(settlement, "AGAIN_S", 0.05)
    async with job_world(1) as world:
        submit, refusals = world.chain.submit_tx, list(range(12))

        async def full(tx: Tx) -> bytes:
            if isinstance(tx.payload, JobSettle) and refusals:
                refusals.pop()
                raise UserError("the pool of waiting transactions is full", "try again in a minute")
            return bytes(await submit(tx))

        monkeypatch.setattr(world.chain, "submit_tx", full)
        job_id = await world.requester.jobs.start(job_spec(rounds=1, least=1), world.root, "job.yaml")
        shown = await world.finish(job_id)
        assert shown["state"] == "done"
        assert refusals == []
        assert any("cannot be settled now" in note and "is full" in note for note in world.requester.notes())
        assert shown["spent"] > 0
        assert world.chain.balance(world.trainers[0].account) == 1000 * TOKEN + shown["spent"]


async def test_a_settlement_that_another_one_made_void_is_not_waited_for(
    job_world: Callable[..., Any], job_spec: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill: what is waited for can never get into a block, for an earlier one of ours did."""
    monkeypatch.setattr(tx_sender, "WAIT_S", 0.02)
    async with job_world(1) as world:
        job_id = await world.requester.jobs.start(job_spec(rounds=1, least=1), world.root, "job.yaml")
        job = bytes.fromhex((await world.finish(job_id))["chain_job"])
        keys = world.requester.parts.keys
        books = settlement.Settlement(world.chain, TxSender(world.chain, keys), keys, job)
        paid = settle_receipts(world.trainers[0].claims.receipts(job))
        books._sent.append(settlement._Sent(bytes(32), paid, world.chain.slot_now() + 10_000))
        with trio.fail_after(10):
            await books._wait()
