"""A job pays as it goes, or its trainers stop."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from chain.crypto import Keypair
from chain.mempool import Mempool
from chain.training_records import Commitment, Receipt
from chain.transactions import JobSettle
from p2pml.node import settlement
from p2pml.node.chain_reads import ChainReads
from p2pml.node.claims import SHOWN_SLOTS, Claims
from p2pml.node.events import Events
from p2pml.node.pay_watch import ALIVE_SLOTS, SETTLE_SLOTS, PayWatch
from p2pml.node.terms import FEE_SHARE, settle_interval
from p2pml.node.tx_sender import TxSender
from p2pml.storage.chain_db import ChainDb
from tests.chain.conftest import JobWorld, World

TOKEN = 10**8
JOB = bytes(range(32))
TRAINER, REQUESTER = Keypair.from_seed(bytes([1]) * 32), Keypair.from_seed(bytes([2]) * 32)


@dataclass
class Ledger:
    """What a PayWatch and Claims read of a chain."""

    slot: int = 0
    head: int = 0
    price: int = 5
    paid: dict[int, frozenset[int]] = field(default_factory=dict)
    shown: dict[tuple[int, int], bytes] = field(default_factory=dict)
    """Whom the blocks that are here paid."""

    def slot_now(self) -> int:
        return self.slot

    def head_slot(self) -> int:
        return self.head

    def job(self, job: bytes) -> Any:
        return SimpleNamespace(price=self.price)

    def paid_clients(self, job: bytes, round_: int) -> frozenset[int]:
        return self.paid.get(round_, frozenset())

    async def payees(self, job: bytes, round_: int) -> dict[tuple[int, int], bytes]:
        await trio.lowlevel.checkpoint()
        return {key: payee for key, payee in self.shown.items() if key[0] >= round_}


def receipt(round_: int, client: int = 0) -> Receipt:
    commitment = Commitment(
        bytes(32), JOB, round_, client, TRAINER.public, 100 + round_, bytes(32), bytes([round_]) * 32
    )
    return Receipt.countersign(commitment, TRAINER.sign(commitment.signing_bytes()), REQUESTER)


def claims_of(chain: Any, folder: Path) -> Claims:
    return Claims(chain, TxSender(chain, TRAINER), folder, Events())


async def test_a_round_has_to_be_paid_soon_after_the_next_one_began(tmp_path: Path) -> None:
    chain = Ledger()
    claims = claims_of(chain, tmp_path)
    watch = PayWatch(chain, claims, JOB, settle_every=1)
    watch.began(0)
    await claims.keep(receipt(0))
    chain.slot, chain.head = 1000, 1000
    assert (watch.late(), watch.owed()) == (False, 100)  # round 0 may last as long as it likes
    watch.began(1)
    chain.slot += SETTLE_SLOTS
    assert not watch.late()
    chain.slot += 1
    assert watch.late()
    assert watch.refusal() == ""
    chain.slot += 500
    assert watch.refusal() == ""  # the chain stands still
    chain.head += ALIVE_SLOTS - 1
    assert watch.refusal() == ""
    chain.head = chain.slot
    assert watch.refusal() == ""  # it goes on: now it can take the settlement
    chain.slot += SETTLE_SLOTS - 1
    assert watch.refusal() == ""
    chain.slot += 1  # an idle chain has no further block
    assert "round 1 of this job has not been paid" in watch.refusal()
    chain.paid[0] = frozenset({0})
    assert (watch.late(), watch.refusal(), watch.owed()) == (False, "", 0)


async def test_rounds_that_are_paid_together(tmp_path: Path) -> None:
    chain = Ledger()
    claims = claims_of(chain, tmp_path)
    watch = PayWatch(chain, claims, JOB, settle_every=3)
    for number in range(3):
        watch.began(number)
        await claims.keep(receipt(number))
        chain.slot += 100
        assert not watch.late()
    watch.began(3)
    chain.slot += SETTLE_SLOTS + 1
    assert watch.late()
    chain.paid = {number: frozenset({0}) for number in range(3)}
    assert not watch.late()


async def test_nothing_is_owed_where_nobody_is_paid(tmp_path: Path) -> None:
    chain = Ledger(price=0)
    claims = claims_of(chain, tmp_path)
    watch = PayWatch(chain, claims, JOB, settle_every=1)
    await claims.keep(receipt(0))
    watch.began(1)
    chain.slot = chain.head = 10_000
    assert not watch.late()
    assert watch.refusal() == ""


async def test_work_that_another_account_was_paid_for_is_the_last(tmp_path: Path) -> None:
    chain = Ledger()
    claims = claims_of(chain, tmp_path)
    watch = PayWatch(chain, claims, JOB, settle_every=1)
    await claims.keep(receipt(0))
    await claims.keep(receipt(1))
    chain.paid = {0: frozenset({0}), 1: frozenset({0})}
    await watch.look()
    assert (watch.late(), watch.refusal(), watch.owed()) == (False, "", 0)  # the block is not on disk yet
    chain.shown = {(0, 0): TRAINER.public, (1, 0): REQUESTER.public, (2, 0): REQUESTER.public}
    await watch.look()
    assert watch.late()
    assert watch.refusal() == "round 2 of this job was paid to another account"
    chain.slot += 1000
    again = PayWatch(chain, claims_of(chain, tmp_path), JOB, settle_every=1)
    await again.look()
    assert again.refusal() == watch.refusal()  # also after a restart
    chain.shown[1, 0] = TRAINER.public  # blocks were replaced
    await watch.look()
    assert (watch.late(), watch.refusal()) == (False, "")


async def test_what_no_block_here_shows_passes_for_paid(tmp_path: Path) -> None:
    """The chain was joined at a snapshot, or pruned; what was seen once is not asked for again."""
    chain = Ledger()
    claims = claims_of(chain, tmp_path)
    watch = PayWatch(chain, claims, JOB, settle_every=1)
    await claims.keep(receipt(0))
    chain.paid = {0: frozenset({0})}
    for _ in range(3):
        await watch.look()
        assert (watch.late(), watch.refusal()) == (False, "")
        chain.slot += SHOWN_SLOTS
    assert claims._paid[JOB] == {}


async def test_payees_are_read_from_the_blocks_that_are_here(tmp_path: Path) -> None:
    world = World()
    job = JobWorld(world)
    rounds = [[job.receipt(number, client) for client in range(2)] for number in range(2)]
    world.mine(job.settle(rounds[0]), records=[job.record(0, rounds[0])])
    world.mine(records=[job.record(1, rounds[1])])
    world.mine(job.settle(rounds[1]))
    blocks = list(world.chain.ancestors(world.chain.head.id))[::-1]
    payees = {(number, client): job.trainers[client].public for number in range(2) for client in range(2)}
    second = {key: payee for key, payee in payees.items() if key[0] == 1}
    with closing(ChainDb(tmp_path / "chain.sqlite", world.genesis.chain_id)) as db:
        reads = ChainReads(world.genesis, world.chain, Mempool(), db, lambda: 0)
        db.commit(blocks[:-1], applied=blocks[:-1])  # the state is ahead of the disk
        assert await reads.payees(job.id, 0) == {key: payees[key] for key in payees if key[0] == 0}
        assert await reads.payees(job.id, 1) == {}
        db.commit(blocks[-1:], applied=blocks[-1:])
        assert await reads.payees(job.id, 0) == payees
        assert await reads.payees(job.id, 1) == second
        assert await reads.payees(job.id, 2) == payees  # not recorded here: all that there is
        db.commit([], reverted=blocks[-1:])
        assert await reads.payees(job.id, 1) == {}
        db.commit([], applied=blocks[-1:])
        db.prune(blocks[-1].height)
        assert await reads.payees(job.id, 0) == second


async def test_a_restart_forgets_no_debt(tmp_path: Path) -> None:
    chain = Ledger()
    first = claims_of(chain, tmp_path)
    await first.keep(receipt(0))
    await first.keep(receipt(1, client=2))
    again = claims_of(chain, tmp_path)
    assert again.unpaid(JOB) == {(0, 0): 100, (1, 2): 101}
    assert again.unpaid(bytes(32)) == {}
    assert [name.split(".")[0] for name in os.listdir(tmp_path)] == [JOB.hex()]  # asking makes no file


async def test_receipts_are_put_aside_without_loss(tmp_path: Path) -> None:
    claims = claims_of(Ledger(), tmp_path)
    for number in range(3):
        await claims.keep(receipt(number))
        claims._put_aside(JOB)
    kept = sorted(os.listdir(tmp_path))
    assert kept == [f"{JOB.hex()}{end}" for end in (".2.done", ".3.done", ".done")]
    texts = [(tmp_path / name).read_text() for name in kept]
    for number in range(3):
        assert sum(receipt(number).encode().hex() in text for text in texts) == 1


@given(st.integers(0, 10**6 * TOKEN), st.integers(1, 100_000), st.integers(0, 10 * TOKEN))
def test_fees_take_no_more_than_their_share(budget: int, rounds: int, fee: int) -> None:
    every = settle_interval(budget, rounds, fee)
    assert 1 <= every <= rounds
    if budget and every < rounds:
        assert fee * FEE_SHARE * (rounds / every) <= budget * (1 + 1e-9)
    if budget and every > 1:  # and one round less would be too dear
        assert fee * FEE_SHARE * rounds > budget * (every - 1)


@pytest.mark.slow
async def test_a_job_is_paid_round_by_round(
    job_world: Callable[..., Any], job_spec: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement, "LOOK_S", 0.02)
    async with job_world(2) as world:
        for node in world.trainers:
            node.worker.delay = 0.3
        spec = job_spec(rounds=4, least=2).replace("budget: 10", "budget: 100")
        job_id = await world.requester.jobs.start(spec, world.root, "job.yaml")
        await world.until(lambda: len(world.chain.records) == 3)
        job = bytes.fromhex(world.requester.jobs.show(job_id)["chain_job"])
        assert world.chain.job(job).paid >= 2 * 800 * world.chain.job(job).price
        shown = await world.finish(job_id)
        settles = [tx.payload for tx in world.chain.included if isinstance(tx.payload, JobSettle)]
        assert [settle.final for settle in settles] == [False] * (len(settles) - 1) + [True]
        assert len(settles) >= 4
        assert world.chain.job(job).paid == shown["spent"]


@pytest.mark.slow
async def test_a_job_that_does_not_pay_loses_its_trainers(
    job_world: Callable[..., Any], job_spec: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trainer works for the rounds of a few slots, waits, and leaves; what it has is claimed later."""

    async def keeps_the_money(*_: Any) -> None:
        return None

    monkeypatch.setattr(settlement.Settlement, "_pay_as_it_goes", keeps_the_money)
    async with job_world(1) as world:
        trainer = world.trainers[0]
        trainer.worker.delay = 0.3
        spec = job_spec(rounds=40, least=1, join="2s").replace("budget: 10", "budget: 500")
        job_id = await world.requester.jobs.start(spec, world.root, "job.yaml")
        shown = await world.finish(job_id)
        assert shown["state"] == "failed"
        assert "of this job has not been paid" in shown["reason"]
        assert 2 <= len(trainer.worker.trained) <= 5
        assert any(
            "waiting for its pay" in event.data.get("state", "") for event in events(world, "job.peer")
        )


@pytest.mark.slow
async def test_a_requester_that_pays_itself_for_the_work_loses_its_trainers(
    job_world: Callable[..., Any], job_spec: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It countersigns each client's work for a second account of its own, records that and settles it."""

    async with job_world(1) as world:
        keys, second = world.requester.parts.keys, Keypair.from_seed(bytes([77]) * 32)

        def its_own(receipts: Iterable[Receipt]) -> tuple[Receipt, ...]:
            work = [replace(item.commitment, trainer=second.public) for item in receipts]
            return tuple(Receipt.countersign(item, second.sign(item.signing_bytes()), keys) for item in work)

        record, settle = settlement.round_record, settlement.settle_receipts
        monkeypatch.setattr(settlement, "LOOK_S", 0.02)
        monkeypatch.setattr(settlement, "settle_receipts", lambda receipts: settle(its_own(receipts)))
        monkeypatch.setattr(
            settlement,
            "round_record",
            lambda job, done, keys: record(job, replace(done, receipts=its_own(done.receipts)), keys),
        )
        world.trainers[0].worker.delay = 0.3
        spec = job_spec(rounds=8, least=1, join="2s").replace("budget: 10", "budget: 500")
        shown = await world.finish(await world.requester.jobs.start(spec, world.root, "job.yaml"))
        assert shown["state"] == "failed"
        assert "of this job was paid to another account" in shown["reason"]
        assert len(world.trainers[0].worker.trained) <= 2  # it was at the second one when the first was paid
        assert world.chain.balance(second.public) > 0


def events(world: Any, kind: str) -> list[Any]:
    return [event for event in world.requester.parts.events.since(0) if event.kind == kind]
