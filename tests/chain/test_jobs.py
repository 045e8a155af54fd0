"""A job's life: escrow, rounds, pay, challenge window, refund, and everybody who tries to cheat."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chain.crypto import Keypair
from chain.draft import Draft
from chain.entries import JobStatus
from chain.errors import ChainError, InvalidRecord, InvalidTransaction
from chain.params import TOKEN
from chain.training_records import (
    Receipt,
    RoundRecord,
    SettledReceipt,
    batches,
    receipts_root,
    settle_receipts,
)
from chain.transactions import JobCancel, JobClaim, JobOpen, JobSettle, Tx
from chain.transition import apply_record, check_tx

FEE = TOKEN // 10
PRICE = 100


def refused(job: Any, tx: Tx, reason: str) -> None:
    with pytest.raises(InvalidTransaction, match=reason):
        check_tx(job.world.state, tx, job.world.state.slot + 1)


def record_refused(job: Any, record: RoundRecord, reason: str) -> None:
    with pytest.raises(InvalidRecord, match=reason):
        apply_record(Draft(job.world.state), record)


def run_rounds(job: Any, rounds: int = 1, clients: int = 3) -> list[list[Receipt]]:
    """Record rounds with one receipt of 1,000 samples per client."""
    all_receipts = [[job.receipt(r, c) for c in range(clients)] for r in range(rounds)]
    for round_, receipts in enumerate(all_receipts):
        job.world.mine(records=[job.record(round_, receipts)])
    return all_receipts


def the_job(job: Any) -> Any:
    return job.world.state.job(job.id)


def test_paid_life_cycle(job_world: Any) -> None:
    job, world = job_world, job_world.world
    opened = the_job(job)
    assert opened.status is JobStatus.OPEN
    assert (opened.escrow, opened.budget, world.state.books.escrow) == (50 * TOKEN,) * 3
    assert world.balance(job.requester.public) == 950 * TOKEN - FEE

    rounds = run_rounds(job, 3)
    running = the_job(job)
    assert (running.status, running.next_round, running.model) == (JobStatus.RUNNING, 3, job.model_at(3))
    assert world.state.round(job.id, 1).record.accuracy_ppm == 900_000

    world.mine(job.settle(rounds[0]))
    world.mine(job.settle(rounds[1]))
    world.mine(job.settle(rounds[2], final=True))
    settled = the_job(job)
    assert settled.status is JobStatus.CHALLENGE
    assert settled.challenge_end == world.state.slot + 16
    assert settled.paid == 9 * 1000 * PRICE
    for trainer in job.trainers:
        assert world.balance(trainer.public) == 3 * 1000 * PRICE

    world.mine_to(settled.challenge_end)
    assert the_job(job).status is JobStatus.CHALLENGE
    world.mine_to(settled.challenge_end + 1)
    closed = the_job(job)
    assert (closed.status, closed.escrow, world.state.books.escrow) == (JobStatus.CLOSED, 0, 0)
    assert world.balance(job.requester.public) == 1000 * TOKEN - 4 * FEE - 9 * 1000 * PRICE
    assert world.state.supply_ok()
    assert world.state.jobs() == (closed,)
    refused(job, job.settle(rounds[0]), "CLOSED")


def test_receipts_are_paid_once(job_world: Any) -> None:
    job = job_world
    receipts = run_rounds(job)[0]
    refused(job, job.settle([receipts[0], receipts[0]]), "not in its round's tree|paid already")
    paths = settle_receipts(receipts)
    twice = job.world.tx(job.requester, JobSettle(job.id, (paths[0], paths[0])))
    refused(job, twice, "client 0 of round 0 is paid already|more samples")
    job.world.mine(job.settle(receipts, final=True))
    for settled in paths:
        refused(job, job.world.tx(job.requester, JobSettle(job.id, (settled,))), "paid already|more samples")
        refused(job, job.world.tx(job.requester, JobClaim(job.id, (settled,))), "paid already|more samples")
        left_out = SettledReceipt(settled.receipt)
        refused(job, job.world.tx(job.requester, JobClaim(job.id, (left_out,))), "paid already")


def test_a_second_receipt_for_the_same_client_is_not_paid(job_world: Any) -> None:
    """The replica's receipt for work that the trainer was paid for already."""
    job = job_world
    first, second = job.receipt(0, 0), job.receipt(0, 0, trainer=1)
    job.world.mine(records=[job.record(0, [first, second])])
    refused(job, job.settle([first, second]), "client 0 of round 0 is paid already")


def test_pay_never_exceeds_the_escrow(make_world: Any, make_job_world: Any) -> None:
    job = make_job_world(make_world(), price=TOKEN, budget=2500 * TOKEN // 1000)
    receipts = [job.receipt(0, c, samples=1) for c in range(3)]
    job.world.mine(records=[job.record(0, receipts)])
    job.world.mine(job.settle(receipts, final=True))
    assert the_job(job).escrow == 0
    assert the_job(job).paid == job.world.state.job(job.id).budget
    paid = [job.world.balance(t.public) for t in job.trainers]
    assert paid == [TOKEN, TOKEN, TOKEN // 2]
    assert job.world.state.supply_ok()


def test_huge_price_times_samples_is_bounded(make_world: Any, make_job_world: Any) -> None:
    job = make_job_world(make_world(), price=2**63, budget=5)
    receipt = job.receipt(0, 0, samples=2**48)
    job.world.mine(records=[job.record(0, [receipt])])
    job.world.mine(job.settle([receipt]))
    assert job.world.balance(job.trainers[0].public) == 5
    assert job.world.state.supply_ok()


def test_unpaid_job_among_friends(make_world: Any, make_job_world: Any) -> None:
    job = make_job_world(make_world(), price=0, budget=0)
    receipts = run_rounds(job)[0]
    job.world.mine(job.settle(receipts, final=True))
    assert the_job(job).paid == 0
    job.world.mine_to(the_job(job).challenge_end + 1)
    assert the_job(job).status is JobStatus.REFUNDED


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"round": 1}, "not the next one"),
        ({"model_in": bytes(32)}, "current model"),
        ({"receipts_count": 0}, "at least one"),
        ({"samples": 0}, "at least one"),
        ({"job": bytes(32)}, "no job"),
    ],
)
def test_bad_records(job_world: Any, change: dict[str, Any], reason: str) -> None:
    record_refused(job_world, job_world.record(0, [job_world.receipt(0, 0)], **change), reason)


def test_records_are_signed_by_the_requester_and_strictly_in_order(job_world: Any) -> None:
    job = job_world
    record = job.record(0, [job.receipt(0, 0)])
    record_refused(job, replace(record, accuracy_ppm=999_999), "not signed")
    record_refused(job, record.signed(job.trainers[0]), "not signed")
    job.world.mine(records=[record])
    record_refused(job, record, "not the next one")
    job.world.mine(records=[job.record(r, [job.receipt(r, 0)]) for r in (1, 2)])
    record_refused(job, job.record(3, [job.receipt(3, 0)]), "not the next one, 3 of 3")


def test_receipts_without_a_record_are_not_settled(job_world: Any) -> None:
    refused(job_world, job_world.settle([job_world.receipt(0, 0)]), "no record")


def test_receipts_with_more_samples_than_the_record(job_world: Any) -> None:
    job = job_world
    receipts = [job.receipt(0, c) for c in range(3)]
    job.world.mine(records=[job.record(0, receipts, samples=2500)])
    refused(job, job.settle(receipts), "more samples")
    paths = settle_receipts(receipts)
    job.world.mine(job.world.tx(job.requester, JobSettle(job.id, paths[:2])))
    refused(job, job.world.tx(job.requester, JobSettle(job.id, paths[2:])), "more samples")


def test_forged_receipts(job_world: Any) -> None:
    job = job_world
    good = job.receipt(0, 0)
    thief = Keypair.from_seed(b"t" * 32)
    stolen = Receipt(replace(good.commitment, trainer=thief.public), good.trainer_sig, good.requester_sig)
    self_made = Receipt.countersign(good.commitment, good.trainer_sig, thief)
    unsigned = Receipt(good.commitment, bytes(64), good.requester_sig)
    other_chain = job.receipt(0, 0, chain_id=bytes(32))
    other_job = job.receipt(0, 0, job=bytes(32))
    other_model = job.receipt(0, 0, model_in=bytes(32))
    forged = [stolen, self_made, unsigned, other_chain, other_job, other_model]
    record = job.record(0, forged, samples=100_000)
    job.world.mine(records=[record])
    paths = settle_receipts(forged)
    for settled, reason in zip(
        paths,
        ["signatures", "signatures", "signatures", "another job", "another job", "another model"],
        strict=True,
    ):
        refused(job, job.world.tx(job.requester, JobSettle(job.id, (settled,))), reason)
    outside = SettledReceipt(good, 0, paths[0].path)
    refused(job, job.world.tx(job.requester, JobSettle(job.id, (outside,))), "not in its round's tree")
    moved = replace(paths[0], index=1)
    refused(job, job.world.tx(job.requester, JobSettle(job.id, (moved,))), "not in its round's tree")


def test_only_the_requester_settles_and_cancels(job_world: Any) -> None:
    job, world = job_world, job_world.world
    refused(job, world.tx(world.users[1], JobSettle(job.id, (), True)), "only the job's requester")
    refused(job, world.tx(world.users[1], JobCancel(job.id)), "only the job's requester")
    refused(job, world.tx(job.requester, JobSettle(job.id, ())), "nothing to settle")


def test_left_out_receipt_is_claimed_by_a_trainer_without_a_token(job_world: Any) -> None:
    job, world = job_world, job_world.world
    kept, left_out = job.receipt(0, 0), job.receipt(0, 1, samples=200_000)
    world.mine(records=[job.record(0, [kept])])
    claim = world.tx(job.trainers[1], JobClaim(job.id, (SettledReceipt(left_out),)))
    refused(job, claim, "challenge window")
    world.mine(job.settle([kept], final=True))
    world.mine(claim)
    assert world.balance(job.trainers[1].public) == 200_000 * PRICE - FEE
    refused(job, world.tx(job.trainers[1], JobClaim(job.id, (SettledReceipt(left_out),))), "paid already")
    world.mine_to(the_job(job).challenge_end + 1)
    assert world.balance(job.requester.public) == 1000 * TOKEN - 2 * FEE - 201_000 * PRICE


def test_a_claim_must_bring_its_fee(job_world: Any) -> None:
    job, world = job_world, job_world.world
    small = job.receipt(0, 1, samples=10)
    world.mine(job.settle([], final=True))
    refused(job, world.tx(job.trainers[1], JobClaim(job.id, (SettledReceipt(small),))), "the fee")
    world.mine(world.tx(world.users[2], JobClaim(job.id, (SettledReceipt(small),))))
    assert world.balance(job.trainers[1].public) == 10 * PRICE


def test_requester_who_vanishes(job_world: Any) -> None:
    """No settle at all: the deadline opens the claims, with tree paths and without."""
    job, world = job_world, job_world.world
    one, two, three = (job.receipt(0, c, samples=200_000) for c in range(3))
    world.mine(records=[job.record(0, [one, two])])
    single = job.receipt(1, 0, samples=200_000)
    world.mine(records=[job.record(1, [single])])
    world.mine_to(the_job(job).deadline_slot)
    assert the_job(job).status is JobStatus.RUNNING
    world.mine_to(201)
    assert the_job(job).status is JobStatus.CHALLENGE
    record_refused(job, job.record(2, [job.receipt(2, 0)]), "takes no more rounds")
    in_tree = settle_receipts([one, two])
    world.mine(world.tx(job.trainers[0], JobClaim(job.id, (in_tree[0], SettledReceipt(single)))))
    world.mine(world.tx(job.trainers[2], JobClaim(job.id, (SettledReceipt(three),))))
    never_recorded = SettledReceipt(job.receipt(2, 1, samples=200_000))
    world.mine(world.tx(job.trainers[1], JobClaim(job.id, (in_tree[1], never_recorded))))
    assert the_job(job).paid == 5 * 200_000 * PRICE
    beyond = world.tx(job.trainers[1], JobClaim(job.id, (SettledReceipt(job.receipt(3, 1)),)))
    refused(job, beyond, "beyond the job's 3 rounds")
    world.mine_to(the_job(job).challenge_end + 1)
    assert the_job(job).status is JobStatus.CLOSED
    assert world.balance(job.requester.public) == 1000 * TOKEN - FEE - 1_000_000 * PRICE


def test_cancel_refunds_after_the_challenge_window(job_world: Any) -> None:
    job, world = job_world, job_world.world
    world.mine(world.tx(job.requester, JobCancel(job.id)))
    assert the_job(job).status is JobStatus.CHALLENGE
    refused(job, world.tx(job.requester, JobCancel(job.id)), "CHALLENGE")
    world.mine_to(the_job(job).challenge_end + 1)
    assert the_job(job).status is JobStatus.REFUNDED
    assert world.balance(job.requester.public) == 1000 * TOKEN - 2 * FEE


def test_no_cancel_after_a_round(job_world: Any) -> None:
    run_rounds(job_world)
    refused(job_world, job_world.world.tx(job_world.requester, JobCancel(job_world.id)), "without a round")


def test_job_open_is_checked(world: Any) -> None:
    user = world.users[0]

    def opening(**changes: Any) -> Tx:
        good = JobOpen(b"d" * 20, bytes(32), 3, 1, TOKEN, 50)
        tx: Tx = world.tx(user, replace(good, **changes))
        return tx

    check_tx(world.state, opening(), 1)
    with pytest.raises(InvalidTransaction, match="deadline"):
        check_tx(world.state, opening(deadline_slot=1), 1)
    with pytest.raises(InvalidTransaction, match="budget"):
        check_tx(world.state, opening(budget=1000 * TOKEN), 1)
    with pytest.raises(InvalidTransaction, match="rounds"):
        check_tx(world.state, opening(rounds=10**6), 1)
    with pytest.raises(ChainError, match="mode"):
        opening(mode="replay")


def test_settle_and_record_in_one_block(job_world: Any) -> None:
    job = job_world
    receipts = [job.receipt(0, 0)]
    job.world.mine(job.settle(receipts), records=[job.record(0, receipts)])
    assert the_job(job).paid == 1000 * PRICE


def test_forty_receipts_in_batches_fit_their_transactions(make_world: Any, make_job_world: Any) -> None:
    job = make_job_world(make_world())
    receipts = [job.receipt(0, c, samples=1) for c in range(48)]
    job.world.mine(records=[job.record(0, receipts)])
    parts = batches(settle_receipts(receipts), job.world.genesis.params.max_tx_bytes)
    assert sum(len(part) for part in parts) == 48
    for index, part in enumerate(parts):
        job.world.mine(job.world.tx(job.requester, JobSettle(job.id, part, index == len(parts) - 1)))
    assert the_job(job).paid == 48 * PRICE
    assert len(job.world.state.round(job.id, 0).clients) == 48
    assert batches([], 16384) == ()


def test_receipts_roundtrip_and_root(job_world: Any) -> None:
    receipt = job_world.receipt(0, 0)
    assert Receipt.decode(receipt.encode()) == receipt
    assert receipt.verify(job_world.requester.public)
    assert receipt.verify(job_world.requester.public)
    assert not receipt.verify(job_world.trainers[0].public)
    record = job_world.record(0, [receipt])
    assert RoundRecord.decode(record.encode()) == record
    assert record.receipts_root == receipts_root([receipt])
