"""Attacks with transactions: spending twice, replays, nonces."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chain.errors import InvalidTransaction
from chain.mempool import Mempool
from chain.params import DEMO, TOKEN
from chain.transition import apply_block, check_tx
from chain.types import Body
from tests.chain.attacks.helpers import spoils
from tests.chain.conftest import START_MS, World

FEE = TOKEN // 10


def test_double_spend_in_one_block(world: Any) -> None:
    """The second payment of the same money spoils the block of a proposer who helps."""
    both = [world.transfer(0, to, 600 * TOKEN, nonce=nonce) for nonce, to in enumerate((1, 2))]
    spoils(world, *both, says="transaction 1: the transfer of")
    assert world.build(both).body.txs == (both[0],)


def test_replay_on_the_same_chain(world: Any) -> None:
    pay = world.transfer(0, 1, 7)
    world.mine(pay)
    spoils(world, pay, says="transaction 0: the nonce is 0, the account's next is 1")
    with pytest.raises(InvalidTransaction, match="nonce"):
        Mempool().add(pay, world.state, world.state.slot + 1)
    world.mine(world.transfer(0, 1, 7))  # the same payment, meant twice
    assert world.balance(world.users[1].public) == 1000 * TOKEN + 14


def test_replay_on_another_chain(world: Any) -> None:
    """The same accounts own the same on a chain with other parameters."""
    other = World(params=replace(DEMO, min_fee=1))
    assert other.genesis.chain_id != world.genesis.chain_id
    assert other.genesis.time_ms == START_MS == world.genesis.time_ms
    pay = other.transfer(0, 1, 7)
    other.mine(pay)
    spoils(world, pay, says="for another chain")
    spoils(world, replace(pay, chain_id=world.genesis.chain_id), says="signature")
    check_tx(world.state, world.transfer(0, 1, 7), 1)


def test_replay_of_a_vote_on_another_chain(world: Any) -> None:
    """A vote names no chain; what is signed does."""
    world.mine()
    other = World(params=replace(DEMO, min_fee=1))
    link, head = world.vote(0).link, world.state.block_id
    told = other.vote(0, slot=world.state.slot)
    voted = replace(told, link=link, head=head)  # as if it had been said here
    assert voted.signing_bytes(world.genesis.chain_id) != voted.signing_bytes(other.genesis.chain_id)
    signed = replace(
        voted, signature=world.validators[0].keypair.sign(voted.signing_bytes(other.genesis.chain_id))
    )
    assert signed.signed_for(other.genesis.chain_id)
    assert not signed.signed_for(world.genesis.chain_id)


def test_nonce_gap_and_reuse(world: Any) -> None:
    world.mine(world.transfer(0, 1, 5))
    reused = [world.transfer(0, 1, 5, nonce=1), world.transfer(0, 2, 6, nonce=1)]
    spoils(world, *reused, says="transaction 1: the nonce is 1, the account's next is 2")
    gap = world.transfer(0, 1, 5, nonce=2)
    spoils(world, gap, says="transaction 0: the nonce is 2, the account's next is 1")
    in_order = [world.transfer(0, 1, 5, nonce=nonce) for nonce in (1, 2)]
    block = world.reseal(world.build(), body=Body(txs=tuple(in_order)))
    assert apply_block(world.state, block).account(world.users[0].public).nonce == 3
