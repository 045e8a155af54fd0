"""Attacks with branches: payments that are undone, partitions, blocks that are kept back."""

from __future__ import annotations

from typing import Any

import pytest

from chain.errors import InvalidBlock, InvalidTransaction, StaleBlock
from chain.forkchoice import Chain, HeadChanged
from chain.params import TOKEN
from chain.transition import apply_block, check_tx
from chain.types import Body
from tests.chain.attacks.helpers import SHORT, copy, meet
from tests.chain.test_finality import grow
from tests.chain.test_forkchoice import branch


def test_double_spend_across_forks(world: Any) -> None:
    """The longer branch wins, the payment on the other is undone."""
    base = world.mine()
    pay = world.transfer(0, 1, 900 * TOKEN)
    spend = world.transfer(0, 2, 900 * TOKEN)
    left = branch(world, base.block_id, [0], world.state.slot, [pay])
    assert world.balance(world.users[1].public) == 1900 * TOKEN
    right = branch(world, base.block_id, [1, 1], world.state.slot, [spend])
    # 30 against 15 + 15: equal weight; the tie is decided by the lower rank of the tip.
    assert world.chain.head.id == left[-1].block_id
    old = world.chain.head
    block = world.build(
        slot=world.slot_with(0, 60, world.chain.state(right[-1].block_id)), parent=right[-1].block_id
    )
    changed = world.give(block)[-1]
    assert changed == HeadChanged(old, world.chain.head, tuple(reversed(left)), (*right, block))
    assert world.balance(world.users[1].public) == 1000 * TOKEN
    assert world.balance(world.users[2].public) == 1900 * TOKEN
    assert world.chain.is_canonical(right[0].block_id)
    assert not world.chain.is_canonical(left[0].block_id)
    assert world.chain.height_of(block.block_id) == 4
    assert world.state.supply_ok()


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


def test_reorg_across_an_epoch(make_world: Any) -> None:
    """The losing branch crossed a border of epochs, with draws of its own after it; nothing of it stays."""
    world = make_world(ratings=(10, 10, 10, 10), params=SHORT)
    grow(world, 6, range(4))
    left, right = copy(world), copy(world)
    split = world.state.epoch
    grow(world, 14, range(1), left)
    grow(world, 14, range(1, 4), right)
    assert left.state().epoch > split
    lost, won = left.state(), right.state()
    assert lost.mix != won.mix
    epoch = max(lost.epoch, won.epoch)
    assert lost.seed(epoch) != won.seed(epoch), "the losing branch had draws of its own"
    meet(world, left, right)
    assert left.head == right.head
    assert left.state().seed(epoch) == won.seed(epoch)
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


def test_partition_50_50_then_heal(make_world: Any) -> None:
    """Neither side makes anything final, for however long; afterwards one branch of the two is everybody's.

    Longer than anything is kept: `chain/test_partition.py`.
    """
    world = make_world(ratings=(10, 10, 10, 10), params=SHORT)
    grow(world, 6, range(4))
    one, other = copy(world), copy(world)
    final = world.state.finality.final.number
    grow(world, 24, range(2), one)
    grow(world, 24, range(2, 4), other)
    for chain in (one, other):
        assert chain.state().finality.final.number <= final + 2, "what both had seen the votes for"
    assert one.head != other.head
    meet(world, one, other)
    assert one.head == other.head
    for slot in range(world.chain.head.slot + 26, world.chain.head.slot + 40):
        keys = world.drawn(slot, 0, one.state())
        if keys is not None:
            block = world.build(slot=slot, chain=one)
            for chain in (one, other):
                world.give(block, chain)
        votes = [world.vote(voter, slot, one) for voter in range(4)]
        for chain in (one, other):
            world.cast(*votes, chain=chain)
    assert one.head == other.head
    assert one.state().finality.final.number == other.state().finality.final.number > final + 10


def test_rewriting_what_is_final(world: Any) -> None:
    """The keys of everybody, bought later, make a heavier branch from below the final block: too late."""
    base = world.mine()
    fork = Chain(world.genesis)
    world.give(base, fork)
    grow(world, 8, range(3))
    final = world.state.finality.final
    assert world.chain.final_height > base.height
    rewritten = [
        world.build(
            [world.transfer(0, 2, 9)], slot=world.slot_with(0, base.height + 1, fork.state()), chain=fork
        )
    ]
    world.give(rewritten[0], fork)
    while fork.head.weight <= 2 * world.chain.head.weight:
        rewritten.append(world.build(chain=fork))
        world.give(rewritten[-1], fork)
    head = world.chain.head
    with pytest.raises(StaleBlock):
        world.give(rewritten[0])
    assert world.chain.head == head
    assert world.chain.is_canonical(final.id)


def test_block_withholding(make_world: Any) -> None:
    """A block is kept back until its owner has built on it; the votes of two slots are against it by then.

    By weight alone its branch would win. How often it pays over many slots: `sim/test_simulated_chain.py`.
    """
    world = make_world(ratings=(10, 10, 10, 10))
    base = world.mine()
    slot = world.slot_with(0, base.height + 5)
    hidden = Chain(world.genesis)
    world.give(base, hidden)
    kept_back = [world.build(slot=slot, chain=hidden)]
    world.give(kept_back[0], hidden)
    honest = world.mine(slot=world.slot_with(0, slot))
    withholder = kept_back[0].sealed.proposer
    voters = [i for i, keys in enumerate(world.validators) if keys.public != withholder]
    world.cast(*(world.vote(voter) for voter in voters))
    kept_back.append(world.build(slot=world.slot_with(0, world.state.slot, hidden.state()), chain=hidden))
    world.give(kept_back[1], hidden)
    for block in kept_back:
        world.chain.on_block(block, world.time_of(block) + 10 * world.genesis.params.slot_ms)
    assert world.chain.header(kept_back[1].block_id).weight > world.chain.head.weight
    assert world.chain.head.id == honest.block_id
