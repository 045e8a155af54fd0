"""Each gossip rule: what is passed on, what is dropped, whom we blame."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chain.codec import pack
from chain.gossip import (
    MAX_BATCH_BYTES,
    MAX_BATCH_TXS,
    Verdict,
    encode_batch,
    validate_block,
    validate_record,
    validate_tx,
    validate_txs,
)
from chain.mempool import Mempool
from chain.transactions import Transfer, sign_tx
from chain.types import Block, Body


def judged(world: Any, block: Block, now: int | None = None) -> Any:
    return validate_block(block.encode(), world.chain, world.time_of(block) if now is None else now)


def test_good_block(world: Any) -> None:
    block = world.build([world.transfer(0, 1, 5)])
    result = judged(world, block)
    assert (result.verdict, result.item) == (Verdict.ACCEPT, block)
    assert world.chain.head.height == 0  # judging is not applying
    world.give(block)
    assert judged(world, block).verdict is Verdict.IGNORE


def test_early_and_orphaned_blocks_are_ignored_but_kept(world: Any) -> None:
    block = world.build()
    early = judged(world, block, block.sealed.timestamp_ms - 300)
    assert (early.verdict, early.item) == (Verdict.IGNORE, block)
    unknown = world.reseal(block, header={"prev": bytes(32)})
    orphan = judged(world, unknown)
    assert (orphan.verdict, orphan.item) == (Verdict.IGNORE, unknown)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xc0", b"\x92\x90\x90"])
def test_garbage_is_rejected(world: Any, data: bytes) -> None:
    assert validate_block(data, world.chain, 0).verdict is Verdict.REJECT
    assert validate_tx(data, Mempool(), world.state, 1).verdict is Verdict.REJECT
    assert validate_record(data, Mempool(), world.state).verdict is Verdict.REJECT


def test_forged_blocks_are_rejected(world: Any) -> None:
    good = world.build()
    forged = [
        Block(replace(good.sealed, seal=bytes(64)), good.body),
        Block(good.sealed, Body(txs=(world.transfer(0, 1, 5),))),
        world.reseal(good, header={"target": 5}),
        world.reseal(good, header={"timestamp_ms": good.sealed.timestamp_ms + 1}),
        world.reseal(good, leaf0={"parent_state_root": bytes(32)}),
    ]
    for block in forged:
        assert judged(world, block).verdict is Verdict.REJECT
    assert judged(world, good).verdict is Verdict.ACCEPT


def test_oversize_block_is_rejected_before_decoding(world: Any) -> None:
    data = b"\xc6" + bytes(world.genesis.params.max_body_bytes + 5000)
    result = validate_block(data, world.chain, 0)
    assert result.verdict is Verdict.REJECT
    assert "more than the allowed" in result.reason


def test_equivocation_is_shown_twice_and_no_more(world: Any) -> None:
    slot = world.slot_with(0, 3)
    blocks = [world.build([world.transfer(0, 1, 5 + i)], slot=slot) for i in range(3)]
    for block in blocks[:2]:
        assert judged(world, block).verdict is Verdict.ACCEPT
        world.give(block)
    assert judged(world, blocks[2]).verdict is Verdict.IGNORE


def test_late_fork_is_ignored(make_world: Any) -> None:
    world = make_world(keep=2)
    side = world.build(slot=world.slot_with(1, 1), rank=1)
    for _ in range(5):
        world.mine()
        world.all_vote()
    assert world.chain.final_height > 0
    assert judged(world, side).verdict is Verdict.IGNORE


def test_transactions(world: Any) -> None:
    pool = Mempool()
    good = world.transfer(0, 1, 5)

    def verdict(tx: Any) -> Verdict:
        return validate_tx(tx.encode(), pool, world.state, 5).verdict

    assert verdict(good) is Verdict.ACCEPT
    assert pool.has(good.id)
    assert verdict(good) is Verdict.IGNORE
    assert verdict(replace(good, sig=bytes(64))) is Verdict.IGNORE  # the id is known
    assert verdict(world.transfer(1, 0, 5, until=4)) is Verdict.IGNORE
    assert verdict(world.transfer(1, 0, 5, nonce=999)) is Verdict.IGNORE
    assert verdict(world.transfer(1, 0, 10**12)) is Verdict.IGNORE
    other = Transfer(world.users[0].public, 5)
    foreign = sign_tx(world.users[1], bytes(32), other, nonce=0, valid_until_slot=9, fee=10**9)
    assert verdict(foreign) is Verdict.REJECT
    assert verdict(world.transfer(1, 0, 5, fee=1)) is Verdict.REJECT
    assert verdict(replace(world.transfer(1, 0, 5), sig=bytes(64))) is Verdict.REJECT
    assert len(pool) == 1


def test_records(job_world: Any) -> None:
    world, pool = job_world.world, Mempool()
    good = job_world.record(0, [job_world.receipt(0, 0)])

    def verdict(record: Any) -> Verdict:
        return validate_record(record.encode(), pool, world.state).verdict

    assert verdict(good.signed(world.users[1])) is Verdict.REJECT
    assert verdict(job_world.record(0, [job_world.receipt(0, 0)], job=bytes(32))) is Verdict.IGNORE
    assert verdict(good) is Verdict.ACCEPT
    assert verdict(good) is Verdict.IGNORE


def test_batches_of_transactions(world: Any) -> None:
    pool = Mempool()
    txs = [world.transfer(i, 1, 5) for i in range(3)]
    broke, foreign = world.transfer(1, 0, 10**12, nonce=1), replace(world.transfer(2, 0, 6), sig=bytes(64))

    def verdict(*batch: Any) -> Verdict:
        data = encode_batch([tx.encoded for tx in batch])
        return validate_txs(data, pool, world.state, 5).verdict

    assert verdict(txs[0], broke) is Verdict.ACCEPT
    assert (len(pool), pool.has(txs[0].id)) == (1, True)
    assert verdict(txs[0], broke) is Verdict.IGNORE
    assert verdict(txs[0], txs[1]) is Verdict.ACCEPT
    assert verdict(txs[2], foreign) is Verdict.REJECT
    assert verdict() is Verdict.REJECT
    assert verdict(txs[0], txs[0]) is Verdict.REJECT
    many = [world.transfer(0, 1, 5, nonce=i) for i in range(MAX_BATCH_TXS + 1)]
    assert verdict(*many) is Verdict.REJECT
    for data in (b"", b"\xc0", b"\x91\xc0", pack((bytes(MAX_BATCH_BYTES + 1),))):
        assert validate_txs(data, pool, world.state, 5).verdict is Verdict.REJECT
