"""What is checked ahead is not checked again, and what is wrong is refused all the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from chain import crypto, vrf
from chain.errors import InvalidBlock
from chain.foresight import check_ahead
from chain.forkchoice import Chain
from chain.genesis import Genesis
from chain.state import genesis_state
from chain.types import Block


@pytest.fixture
def blocks(world: Any) -> list[bytes]:
    """Over more than one epoch, with transactions and votes."""
    for _ in range(world.genesis.params.slots_per_epoch + 4):
        world.mine(world.transfer(0, 1, 1))
        world.all_vote()
    return [block.encoded for block in world.chain.ancestors(world.chain.head.id)][::-1]


@pytest.fixture
def counted(blocks: list[bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """How often libsodium is asked to verify, from now on and with nothing remembered."""
    found = {"signatures": 0, "proofs": 0}
    verify, prove = crypto.bindings.crypto_sign_open, vrf.verify

    def opened(*given: bytes) -> bytes:
        found["signatures"] += 1
        return bytes(verify(*given))

    def verified(*given: bytes) -> bytes | None:
        found["proofs"] += 1
        return prove(*given)

    monkeypatch.setattr(crypto.bindings, "crypto_sign_open", opened)
    monkeypatch.setattr(vrf, "verify", verified)
    crypto.verify_once.cache_clear()
    vrf.verify_once.cache_clear()
    yield found
    crypto.verify_once.cache_clear()
    vrf.verify_once.cache_clear()


def executed(genesis: Genesis, blocks: list[Block]) -> Chain:
    chain = Chain(genesis)
    for block in blocks:
        chain.on_block(block, 2**60)
    return chain


def test_nothing_is_verified_twice(world: Any, blocks: list[bytes], counted: dict[str, int]) -> None:
    decoded = [Block.decode(data) for data in blocks]
    check_ahead(genesis_state(world.genesis), decoded)
    ahead = dict(counted)
    votes = sum(len(block.body.votes) for block in decoded)
    assert ahead == {"signatures": 2 * len(blocks) + votes, "proofs": len(blocks)}
    assert executed(world.genesis, decoded).head == world.chain.head
    assert counted == ahead


def test_what_was_checked_ahead_and_found_wrong_is_refused(world: Any, blocks: list[bytes]) -> None:
    good = [Block.decode(data) for data in blocks[:3]]
    last = good[-1]
    tx = replace(last.body.txs[0], sig=bytes(64))
    vote = replace(last.body.votes[0], signature=bytes(64))
    wrong = {
        "the seal": replace(last, sealed=replace(last.sealed, seal=bytes(64))),
        "the VRF proof": world.reseal(last, leaf0={"vrf_proof": bytes(80)}),
        "transaction 0: the signature": world.reseal(last, body=replace(last.body, txs=(tx,))),
        "vote 0: the signature": world.reseal(
            last, body=replace(last.body, votes=(vote, *last.body.votes[1:]))
        ),
    }
    for reason, block in wrong.items():
        check_ahead(genesis_state(world.genesis), [*good[:2], block])
        chain = executed(world.genesis, good[:2])
        with pytest.raises(InvalidBlock, match=reason):
            chain.on_block(block, 2**60)


def test_what_the_state_does_not_decide_is_left_alone(world: Any, blocks: list[bytes], counted: Any) -> None:
    """A state of a later epoch knows no seed of an earlier one, a state of an early one none far ahead."""
    late = world.state
    early = genesis_state(world.genesis)
    far = world.reseal(
        Block.decode(blocks[0]),
        header={"timestamp_ms": world.genesis.slot_start_ms(9 * world.genesis.params.slots_per_epoch)},
    )
    for state, block in ((late, Block.decode(blocks[0])), (early, far)):
        check_ahead(state, [block])
    assert counted["proofs"] == 0
