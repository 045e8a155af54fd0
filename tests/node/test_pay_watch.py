"""A job pays as it goes, or its trainers stop."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.crypto import Keypair
from chain.training_records import Commitment, Receipt
from chain.transactions import JobSettle
from p2pml.node import settlement
from p2pml.node.claims import Claims
from p2pml.node.events import Events
from p2pml.node.pay_watch import ALIVE_SLOTS, SETTLE_SLOTS, PayWatch
from p2pml.node.terms import FEE_SHARE, settle_interval
from p2pml.node.tx_sender import TxSender

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

    def slot_now(self) -> int:
        return self.slot

    def head_slot(self) -> int:
        return self.head

    def job(self, job: bytes) -> Any:
        return SimpleNamespace(price=self.price)

    def paid_clients(self, job: bytes, round_: int) -> frozenset[int]:
        return self.paid.get(round_, frozenset())


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


def events(world: Any, kind: str) -> list[Any]:
    return [event for event in world.requester.parts.events.since(0) if event.kind == kind]
