"""The pool of waiting transactions and records: order, bounds, replacement, and following the chain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chain import vrf
from chain.crypto import Keypair
from chain.errors import InvalidError, InvalidRecord, InvalidTransaction, PoolFull
from chain.mempool import Mempool
from chain.params import TOKEN
from chain.record_pool import RecordPool
from chain.training_records import SettledReceipt
from chain.transactions import JobClaim, Register, Tx
from chain.transition import open_slot
from chain.types import Block

FEE = TOKEN // 10


def fill(pool: Mempool, world: Any, *txs: Tx) -> None:
    for tx in txs:
        assert pool.add(tx, world.state, world.state.slot + 1)


def selected(pool: Mempool, world: Any, limit: int | None = None) -> tuple[Tx, ...]:
    return pool.select(world.state, world.state.slot + 1, limit)


def follow(pool: Mempool, world: Any, outcome: Any) -> None:
    changed = outcome[-1]
    pool.on_head(changed.applied, changed.reverted, world.state, world.state.slot + 1)


def test_nonce_order_within_a_sender_and_fee_order_among_them(world: Any) -> None:
    pool = Mempool()
    a1 = world.transfer(0, 1, 5, nonce=1, fee=9 * FEE)
    a0 = world.transfer(0, 1, 5, nonce=0, fee=FEE)
    b0 = world.transfer(1, 2, 5, fee=2 * FEE)
    c0 = world.transfer(2, 0, 5, fee=FEE)
    fill(pool, world, a1, a0, b0, c0)
    assert selected(pool, world) == (b0, a0, a1, c0)
    assert selected(pool, world, 2) == (b0, a0)
    assert pool.transactions() == (a1, a0, b0, c0)
    assert not pool.add(a0, world.state, 1)
    assert pool.get(a0.id) == a0
    assert len(pool) == 4


def test_a_gap_keeps_later_ones_back(world: Any) -> None:
    pool = Mempool()
    fill(pool, world, world.transfer(0, 1, 5, nonce=1))
    assert selected(pool, world) == ()
    assert pool.next_nonce(world.users[0].public, world.state) == 0
    fill(pool, world, world.transfer(0, 1, 5, nonce=0))
    assert [tx.nonce for tx in selected(pool, world)] == [0, 1]
    assert pool.next_nonce(world.users[0].public, world.state) == 2


def test_what_is_wrong_is_refused(world: Any) -> None:
    pool = Mempool(max_per_sender=4)
    world.mine(world.transfer(0, 1, 5))
    poor = Keypair.from_seed(b"q" * 32)
    bad = [
        world.transfer(0, 1, 5, nonce=0),  # used
        world.transfer(0, 1, 5, nonce=5),  # too far ahead
        world.transfer(0, 1, 5, fee=FEE - 1),
        world.transfer(0, 1, 5, until=0),
        world.transfer(1, 2, 1000 * TOKEN),
        world.tx(poor, world.transfer(0, 1, 5).payload),
        world.tx(poor, JobClaim(bytes(32), (SettledReceipt(_receipt()),))),
    ]
    for tx in bad:
        with pytest.raises(InvalidTransaction):
            pool.add(tx, world.state, world.state.slot + 1)
    assert len(pool) == 0


def _receipt() -> Any:
    from chain.training_records import Commitment, Receipt

    zero = bytes(32)
    return Receipt(Commitment(zero, zero, 0, 0, zero, 1, zero, zero), bytes(64), bytes(64))


def test_a_sender_cannot_promise_more_than_it_has(world: Any) -> None:
    pool = Mempool()
    fill(pool, world, world.transfer(0, 1, 600 * TOKEN))
    with pytest.raises(InvalidTransaction, match="waiting transactions cost"):
        pool.add(world.transfer(0, 2, 600 * TOKEN, nonce=1), world.state, 1)


def test_a_sender_cannot_promise_the_same_bond_twice(world: Any) -> None:
    pool, user = Mempool(), world.users[0]
    wish = Register(user.public, vrf.public_key(b"\x78" * 32), "late", 600 * TOKEN, 1)
    fill(pool, world, world.tx(user, wish))
    with pytest.raises(InvalidTransaction, match="waiting transactions cost"):
        pool.add(world.tx(user, replace(wish, sequence=2), nonce=1), world.state, 1)


def test_replacement_costs_a_tenth_more(world: Any) -> None:
    pool = Mempool()
    old = world.transfer(0, 1, 5, fee=10 * FEE)
    fill(pool, world, old)
    with pytest.raises(InvalidTransaction, match=f"fee of {11 * FEE}"):
        pool.add(world.transfer(0, 2, 5, fee=11 * FEE - 1), world.state, 1)
    new = world.transfer(0, 2, 5, fee=11 * FEE)
    fill(pool, world, new)
    assert selected(pool, world) == (new,)
    assert not pool.has(old.id)
    assert len(pool) == 1


def test_a_flood_pushes_out_the_cheapest_only(world: Any) -> None:
    pool = Mempool(max_txs=3)
    cheap = [world.transfer(0, 1, 5, nonce=n) for n in range(3)]
    fill(pool, world, *cheap)
    with pytest.raises(PoolFull) as caught:
        pool.add(world.transfer(1, 0, 5), world.state, 1)
    assert not isinstance(caught.value, InvalidError)
    better = world.transfer(1, 0, 5, fee=2 * FEE)
    fill(pool, world, better)
    assert set(pool.transactions()) == {*cheap[:2], better}
    with pytest.raises(PoolFull):
        pool.add(world.transfer(0, 1, 5, nonce=2), world.state, 1)


def test_bytes_are_bounded(world: Any) -> None:
    tx = world.transfer(0, 1, 5)
    pool = Mempool(max_bytes=2 * len(tx.encoded) + 10)
    fill(pool, world, tx, world.transfer(0, 1, 5, nonce=1))
    with pytest.raises(PoolFull):
        pool.add(world.transfer(0, 1, 5, nonce=2), world.state, 1)


def test_blocks_empty_the_pool(world: Any) -> None:
    pool = Mempool()
    mine, rival, later = world.transfer(0, 1, 5), world.transfer(0, 2, 7), world.transfer(0, 1, 5, nonce=1)
    expiring = world.transfer(1, 2, 5, until=3)
    fill(pool, world, mine, later, expiring)
    follow(pool, world, world.give(world.build([rival], slot=4)))
    assert pool.transactions() == (later,)
    assert pool.next_nonce(world.users[0].public, world.state) == 2


def test_reverted_transactions_come_back(world: Any) -> None:
    pool = Mempool()
    root = world.chain.head.id
    payment = world.transfer(0, 1, 5)
    world.give(world.build([payment], slot=world.slot_with(1, 1), rank=1))
    state = world.chain.state(root)
    outcome = world.give(world.build(slot=world.slot_with(0, 9, state), parent=root))
    assert outcome[-1].reverted
    follow(pool, world, outcome)
    assert pool.transactions() == (payment,)
    assert selected(pool, world) == (payment,)


def test_a_hopeless_head_of_the_queue_is_dropped(job_world: Any) -> None:
    """A claim that somebody else made obsolete must not block its sender for ever."""
    world, pool = job_world.world, Mempool()
    receipt = job_world.receipt(0, 0, samples=200_000)
    world.mine(job_world.settle([], final=True))
    claim = JobClaim(job_world.id, (SettledReceipt(receipt),))
    fill(pool, world, world.tx(job_world.trainers[0], claim))
    follow(pool, world, world.give(world.build([world.tx(world.users[2], claim)])))
    assert len(pool) == 0


def test_selection_leaves_out_what_fails_in_sequence(job_world: Any) -> None:
    """Two claims of one receipt: each is valid alone, only one fits into a block."""
    world, pool = job_world.world, Mempool()
    world.mine(job_world.settle([], final=True))
    claim = JobClaim(job_world.id, (SettledReceipt(job_world.receipt(0, 0, samples=200_000)),))
    first = world.tx(world.users[1], claim, fee=2 * FEE)
    fill(pool, world, first, world.tx(world.users[2], claim))
    assert selected(pool, world) == (first,)


def test_claims_that_nobody_can_check_yet_are_not_free(job_world: Any) -> None:
    """An account without a token could fill the pool with claims of later nonces, at any fee it likes."""
    world, pool = job_world.world, Mempool()
    world.mine(job_world.settle([], final=True))
    stranger = Keypair.from_seed(b"q" * 32)
    nothing = JobClaim(bytes(32), (SettledReceipt(_receipt()),))
    with pytest.raises(InvalidTransaction, match="the balance is 0"):
        pool.add(world.tx(stranger, nothing, nonce=1, fee=1000 * FEE), world.state, world.state.slot + 1)
    trainer = job_world.trainers[0]
    claim = JobClaim(job_world.id, (SettledReceipt(job_world.receipt(0, 0, samples=200_000)),))
    fill(pool, world, world.tx(trainer, claim))
    with pytest.raises(InvalidTransaction, match="the balance is 0"):
        pool.add(world.tx(trainer, nothing, nonce=1), world.state, world.state.slot + 1)
    assert len(pool) == 1


def test_records_wait_in_order(job_world: Any) -> None:
    world, pool = job_world.world, Mempool()
    records = [job_world.record(r, [job_world.receipt(r, 0)]) for r in range(3)]
    for record in (records[2], records[0]):
        assert pool.add_record(record, world.state)
    assert not pool.add_record(records[0], world.state)
    assert pool.select_records(world.state, world.state.slot + 1) == (records[0],)
    assert pool.add_record(records[1], world.state)
    assert pool.select_records(world.state, world.state.slot + 1) == tuple(records)
    follow(pool, world, world.give(world.build(records=records[:2])))
    assert pool.select_records(world.state, world.state.slot + 1) == (records[2],)
    with pytest.raises(InvalidRecord):
        pool.add_record(records[0], world.state)


def test_records_are_checked(job_world: Any) -> None:
    world, pool = job_world.world, Mempool()
    good = job_world.record(0, [job_world.receipt(0, 0)])
    with pytest.raises(InvalidRecord, match="not signed"):
        pool.add_record(good.signed(job_world.trainers[0]), world.state)
    with pytest.raises(InvalidRecord, match="not ahead"):
        pool.add_record(job_world.record(3, [job_world.receipt(3, 0)]), world.state)
    with pytest.raises(InvalidRecord, match="does not exist"):
        pool.add_record(job_world.record(0, [job_world.receipt(0, 0)], job=bytes(32)), world.state)
    pool.add_record(good, world.state)
    with pytest.raises(InvalidRecord, match="another record"):
        pool.add_record(job_world.record(0, [job_world.receipt(0, 1)]), world.state)


def test_a_job_that_hoards_the_record_pool_gives_way(job_world: Any, make_job_world: Any) -> None:
    """Records far ahead of their job can wait for ever; they must not keep other jobs' records out."""
    pool = RecordPool(max_records=3)
    greedy, world = job_world, job_world.world
    modest = make_job_world(world, rounds=3)
    for round_ in (1, 2, 0):
        assert pool.add(greedy.record(round_, [greedy.receipt(round_, 0)]), world.state)
    mine = [modest.record(round_, [modest.receipt(round_, 0)]) for round_ in range(2)]
    assert pool.add(mine[0], world.state)
    with pytest.raises(PoolFull):  # two each would be no better than what is there
        pool.add(mine[1], world.state)
    slot = world.state.slot + 1
    kept = pool.select(open_slot(world.state, slot), 8)
    assert {(record.job, record.round) for record in kept} == {
        (greedy.id, 0), (greedy.id, 1), (modest.id, 0)
    }  # fmt: skip


def test_a_settle_may_count_on_a_waiting_record(job_world: Any) -> None:
    world, pool = job_world.world, Mempool()
    receipts = [job_world.receipt(0, 0)]
    settle = job_world.settle(receipts)
    with pytest.raises(InvalidTransaction, match="no record"):
        pool.add(settle, world.state, world.state.slot + 1)
    pool.add_record(job_world.record(0, receipts), world.state)
    fill(pool, world, settle)
    slot = world.state.slot + 1
    block = world.build(pool.select(world.state, slot), pool.select_records(world.state, slot), slot)
    assert block.body.txs == (settle,)
    follow(pool, world, world.give(block))
    assert len(pool) == 0
    assert world.state.job(job_world.id).paid > 0


def test_the_pool_vouches_for_the_very_signature_that_it_checked(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signature is no part of the id: with another one the copy in a block is checked itself."""
    pool = Mempool()
    good, other = world.transfer(0, 1, 5), world.transfer(1, 2, 5)
    fill(pool, world, good, other)
    block = Block.decode(world.build([good, other]).encoded)
    forged = replace(block.body.txs[1], sig=block.body.txs[0].sig)
    checked: list[bytes] = []
    monkeypatch.setattr(
        "chain.transactions.verify", lambda public, message, sig: checked.append(sig) or False
    )
    block = replace(block, body=replace(block.body, txs=(block.body.txs[0], forged)))
    pool.vouch_for(block)
    assert [tx.signature_ok for tx in block.body.txs] == [True, False]
    assert checked == [forged.sig]
