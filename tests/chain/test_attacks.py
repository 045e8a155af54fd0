"""Attacks that need several of the core's parts to fail together; docs/spec/attacks.md lists the others."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from chain import vrf
from chain.errors import InvalidBlock, InvalidEvidence, InvalidTransaction, StaleBlock, UnknownParent
from chain.evidence import TwoVotes
from chain.forkchoice import Chain
from chain.params import DEMO
from chain.producer import ProposerKeys, seal
from chain.state import Draft
from chain.transactions import Register
from chain.transition import apply_block, apply_evidence, check_tx
from chain.types import Block, Body
from chain.votes import Checkpoint, Link, Vote, sign_vote
from tests.chain.test_finality import grow

SHORT = replace(DEMO, slots_per_epoch=4)


def copy(world: Any) -> Chain:
    """Another node that has seen the same blocks."""
    chain = Chain(world.genesis)
    for block in reversed(list(world.chain.ancestors(world.chain.head.id))):
        world.give(block, chain)
    return chain


def meet(world: Any, one: Chain, other: Chain) -> None:
    """Two nodes tell each other everything; what forks off below the final block is not listened to."""
    for here, there in ((one, other), (other, one)):
        for block in reversed(list(there.ancestors(there.head.id))):
            with suppress(StaleBlock, UnknownParent):
                world.give(block, here)
        for vote in list(there.votes):
            world.cast(vote, chain=here)


def test_replay_after_a_reorg(world: Any) -> None:
    """The payment of a lost branch is carried out once on the winning one, however often it is offered."""
    base = world.mine()
    pay = world.transfer(0, 1, 7)
    slot = world.slot_with(0, world.state.slot)
    lost = world.build([pay], slot=world.slot_with(1, slot), rank=1)
    world.give(lost)
    assert world.chain.head.id == lost.block_id
    won = world.build([pay], slot=slot, parent=base.block_id)
    world.give(won)
    assert world.chain.head.id == won.block_id
    with pytest.raises(InvalidTransaction, match="nonce"):
        check_tx(world.state, pay, 99)
    twice = world.build(slot=world.slot_with(0, 60))
    with pytest.raises(InvalidBlock, match="nonce"):
        apply_block(world.state, world.reseal(twice, Body(txs=(pay,))))
    assert world.balance(world.users[1].public) == 1000 * 10**8 + 7


def test_key_grinding(make_world: Any) -> None:
    """Who registers another VRF key meets no seed with it that was known, or could be known, at that time."""
    world = make_world(ratings=(10, 10, 10, 10), params=SHORT)
    grow(world, 9, range(4))
    grinder, sponsor = world.validators[0], world.users[0]
    fresh = ProposerKeys(grinder.keypair, b"\x44" * 32)
    wish = Register(grinder.public, fresh.vrf_public, "v0", 0, 1)
    agreed = grinder.keypair.sign(wish.signing_bytes(world.genesis.chain_id, sponsor.public))
    world.mine(world.tx(sponsor, replace(wish, consent=agreed)))
    registered, known = world.state.epoch, world.state
    assert known.validator(grinder.public).vrf_public == fresh.vrf_public
    used: dict[int, bytes] = {}
    while world.state.epoch < registered + 7:
        grow(world, 3, range(1, 4))  # it stays away meanwhile: this world would give it its old key
        state = world.state
        used[state.epoch] = state.table(state.epoch).get(grinder.public).vrf_public
    first = min(epoch for epoch, key in used.items() if key == fresh.vrf_public)
    assert first >= registered + 3
    # The mix that seeds an epoch closes two epochs before it: that of the first one with the key was open.
    assert first - 2 > registered
    assert {epoch: key == fresh.vrf_public for epoch, key in used.items()} == {
        epoch: epoch >= first for epoch in used
    }


def test_a_proposer_with_a_key_that_does_not_hold_yet(make_world: Any) -> None:
    world = make_world(params=SHORT)
    block = world.build()
    keys = world.by_public[block.sealed.proposer]
    other = ProposerKeys(keys.keypair, b"\x44" * 32)
    assert other.vrf_public != keys.vrf_public == vrf.public_key(keys.vrf_seed)
    slot = world.genesis.slot_at(block.sealed.timestamp_ms)
    with pytest.raises(InvalidBlock, match="VRF"):
        apply_block(world.state, seal(world.state, slot, 0, other, block.body))


def test_reorg_across_an_epoch(make_world: Any) -> None:
    """The losing branch crossed a border of epochs, with draws of its own after it; nothing of it stays."""
    world = make_world(ratings=(10, 10, 10, 10), params=SHORT)
    grow(world, 6, range(4))
    left, right = copy(world), copy(world)
    split = world.state.epoch
    grow(world, 14, range(1), left)
    grow(world, 14, range(1, 4), right)
    assert left.state().epoch > split
    assert left.state().mix != right.state().mix
    meet(world, left, right)
    assert left.head == right.head
    fresh = Chain(world.genesis)
    for block in reversed(list(right.ancestors(right.head.id))):
        world.give(block, fresh)
    assert left.state().root() == right.state().root() == fresh.state().root()
    epoch = left.state().epoch
    assert [left.state().seed(epoch + ahead) for ahead in range(2)] == [
        fresh.state().seed(epoch + ahead) for ahead in range(2)
    ]


def test_partition_70_30_then_heal(make_world: Any) -> None:
    """The larger side goes on and makes final; the smaller one follows it afterwards and loses its branch."""
    world = make_world(ratings=(25, 25, 20, 15, 15), params=SHORT)
    grow(world, 6, range(5))
    many, few = copy(world), copy(world)
    before = world.state.finality.final.number
    grow(world, 24, range(3), many)
    grow(world, 24, range(3, 5), few)
    assert many.state().finality.final.number > before + 10
    assert few.state().finality.final.number <= before + 2
    final = many.state().finality.final
    meet(world, many, few)
    assert many.head == few.head
    assert few.state().finality.final.number >= final.number
    assert few.is_canonical(final.id)


def test_surround_vote(world: Any) -> None:
    world.mine()
    keys, chain_id = world.validators[1].keypair, world.genesis.chain_id

    def vote(slot: int, source: int, target: int) -> Vote:
        ends = (Checkpoint(number, bytes([number]) * 32) for number in (source, target))
        return sign_vote(keys, chain_id, slot, Link(*ends), bytes([target]) * 32)

    evidence = TwoVotes(vote(9, 1, 9), vote(5, 3, 5))
    draft = Draft(world.state)
    apply_evidence(draft, evidence, 10, world.users[0].public)
    assert draft.validator(keys.public).rating == 0
    with pytest.raises(InvalidEvidence, match="contradict"):
        apply_evidence(Draft(world.state), TwoVotes(vote(9, 4, 9), vote(5, 3, 5)), 10, world.users[0].public)


def test_votes_on_two_forks(world: Any) -> None:
    """The voter has no voice in either fork; a block convicts it, and after it there is no rating left."""
    base = world.mine()
    slots = [world.slot_with(0, world.state.slot)]
    slots.append(world.slot_with(0, slots[0]))
    forks = [world.build(slot=slot, parent=base.block_id) for slot in slots]
    for block in forks:
        world.give(block)
    link = world.vote(0, slots[1]).link
    votes = [
        sign_vote(world.validators[0].keypair, world.genesis.chain_id, slots[1], link, block.block_id)
        for block in forks
    ]
    world.cast(*votes)
    assert world.validators[0].public not in dict(world.chain.votes.heads())
    block: Block = world.mine()
    assert [evidence.offender for evidence in block.body.evidence] == [world.validators[0].public]
    assert world.state.validator(world.validators[0].public).rating == 0
