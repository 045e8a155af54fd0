"""Bytes that are too many, or that say the same in two ways."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgpack
import pytest

from chain import merkle
from chain.bodies import join
from chain.codec import MAX_DEPTH, pack, unpack
from chain.crypto import Keypair, verify
from chain.errors import DecodeError, InvalidBlock, InvalidTransaction
from chain.gossip import Verdict, validate_block, validate_tx
from chain.mempool import Mempool
from chain.params import DEMO
from chain.transactions import Tx
from chain.transition import apply_block, check_tx
from chain.types import Block, Body

ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of Ed25519's group (RFC 8032, 5.1)."""


def test_oversize_block(make_world: Any) -> None:
    """Everything in it is right; its bytes are more than the chain allows."""
    world = make_world(params=replace(DEMO, max_body_bytes=16 * 1024, max_user_txs=500))
    txs = tuple(world.transfer(0, 1, 5, nonce=nonce) for nonce in range(150))
    block = world.reseal(world.build(), Body(txs=txs))
    assert len(block.body.encode()) > 16 * 1024 + 4096
    with pytest.raises(InvalidBlock, match="more than 16384 bytes"):
        apply_block(world.state, block)
    assert len(world.build(txs).body.encode()) <= 16 * 1024


def test_oversize_block_is_not_even_decoded(make_world: Any) -> None:
    world = make_world(params=replace(DEMO, max_body_bytes=16 * 1024, max_user_txs=500))
    txs = tuple(world.transfer(0, 1, 5, nonce=nonce) for nonce in range(150))
    block = world.reseal(world.build(), Body(txs=txs))
    judged = validate_block(block.encoded, world.chain, world.time_of(block))
    assert (judged.verdict, judged.item) == (Verdict.REJECT, None)
    assert "more than the allowed" in judged.reason
    assert join(block.sealed, block.body.encode(), 16 * 1024 + 4096) is None


def test_oversize_transaction(make_world: Any, make_job_world: Any) -> None:
    """A settlement that is right but for its size."""
    job = make_job_world(make_world(params=replace(DEMO, max_tx_bytes=1024)))
    world, receipts = job.world, [job.receipt(0, client) for client in range(3)]
    world.mine(records=[job.record(0, receipts)])
    settle = job.settle(receipts)
    assert len(settle.encoded) > 1024
    with pytest.raises(InvalidTransaction, match="more than 1024 bytes"):
        check_tx(world.state, settle, world.state.slot + 1)


def test_oversize_transaction_is_not_even_decoded(make_world: Any, make_job_world: Any) -> None:
    job = make_job_world(make_world(params=replace(DEMO, max_tx_bytes=1024)))
    world, receipts = job.world, [job.receipt(0, client) for client in range(3)]
    world.mine(records=[job.record(0, receipts)])
    judged = validate_tx(job.settle(receipts).encoded, Mempool(), world.state, world.state.slot + 1)
    assert (judged.verdict, judged.item) == (Verdict.REJECT, None)
    assert "more than the allowed 1024" in judged.reason


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 400, 100_000])
def test_oversize_nesting(depth: int) -> None:
    """Arrays in arrays would use up the stack of whoever walks through them."""
    with pytest.raises(DecodeError):
        unpack(b"\x91" * depth + b"\x01", 200_000)
    assert unpack(b"\x91" * MAX_DEPTH + b"\x01", 200_000)


def test_non_canonical_msgpack(world: Any) -> None:
    """A transaction whose nonce takes two bytes instead of one would have a second encoding, of one id."""
    tx = world.transfer(0, 1, 5)
    parts = [pack(field) for field in tx.to_item()]
    assert parts[4] == b"\x00"
    longer = b"\x99" + b"".join([*parts[:4], b"\xcc\x00", *parts[5:]])
    assert msgpack.unpackb(longer, use_list=False) == tx.to_item()
    with pytest.raises(DecodeError, match="canonical"):
        Tx.decode(longer)
    assert Tx.decode(tx.encoded) == tx


def test_malleable_signature(world: Any) -> None:
    """With the group's order added to its second half, a signature would hold in other bytes."""
    pair = Keypair.from_seed(bytes(32))
    signature = pair.sign(b"m")

    def other(signature: bytes) -> bytes:
        s = int.from_bytes(signature[32:], "little") + ORDER
        return signature[:32] + s.to_bytes(32, "little")

    assert verify(pair.public, b"m", signature)
    assert not verify(pair.public, b"m", other(signature))
    tx = world.transfer(0, 1, 5)
    again = replace(tx, sig=other(tx.sig))
    assert again.id == tx.id
    with pytest.raises(InvalidTransaction, match="signature"):
        check_tx(world.state, again, 1)


def test_merkle_duplicate_leaf(world: Any) -> None:
    """CVE-2012-2459: a block with its last transaction twice must not have the root of the true one."""
    assert merkle.root([b"a", b"b", b"c"]) != merkle.root([b"a", b"b", b"c", b"c"])
    block = world.build([world.transfer(i, (i + 1) % 3, 5) for i in range(3)])
    doubled = Block(block.sealed, Body(txs=(*block.body.txs, block.body.txs[-1])))
    with pytest.raises(InvalidBlock, match="body is not the one"):
        apply_block(world.state, doubled)
    apply_block(world.state, block)


def test_merkle_node_as_leaf() -> None:
    """The two children of a node, together, must not pass for a leaf."""
    leaves = [b"a", b"b", b"c", b"d"]
    root = merkle.root(leaves)
    left = merkle.leaf_hash(b"a") + merkle.leaf_hash(b"b")
    right = merkle.root([b"c", b"d"])
    assert not merkle.verify_path(left, 0, 2, (right,), root)
    assert merkle.root([left, b"c", b"d"]) != root


def test_valid_header_with_a_poisoned_body(world: Any) -> None:
    """The body is refused, and does not keep the true one of the same block out."""
    good = world.build([world.transfer(0, 1, 5)])
    poisoned = Block(good.sealed, Body(txs=(world.transfer(0, 2, 5),)))
    assert poisoned.block_id == good.block_id
    for _ in range(2):
        with pytest.raises(InvalidBlock):
            world.give(poisoned)
    assert join(good.sealed, poisoned.body.encode(), 10**6) is None
    assert not world.chain.has(good.block_id)
    world.give(good)
    assert world.chain.head.id == good.block_id
