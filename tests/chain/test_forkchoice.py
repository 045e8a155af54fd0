"""Which tip is the head, what a fork reverts, and what happens to blocks out of order, time or reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chain import vrf
from chain.crypto import H
from chain.errors import InvalidBlock, StaleBlock, UnknownBlock, UnknownParent
from chain.forkchoice import Accepted, Chain, HeadChanged
from chain.types import Block


def new_chain(world: Any, keep: int = 256) -> Chain:
    return Chain(world.genesis, keep)


def branch(world: Any, parent: bytes, ranks: list[int], first_after: int, txs: Any = ()) -> list[Block]:
    """Blocks on `parent`, one per rank given, all taken into the world's chain; txs go into the first."""
    blocks: list[Block] = []
    slot = first_after
    for rank in ranks:
        state = world.chain.state(parent)
        slot = world.slot_with(rank, slot, state)
        block = world.build(txs if not blocks else (), slot=slot, rank=rank, parent=parent)
        world.give(block)
        blocks.append(block)
        parent = block.block_id
    return blocks


def test_start(world: Any) -> None:
    head = world.chain.head
    assert (head.id, head.height, head.slot, head.weight, head.sealed) == (
        world.genesis.chain_id,
        0,
        0,
        0,
        None,
    )
    assert world.chain.locator() == (head.id,)
    assert world.chain.block(head.id) is None
    with pytest.raises(UnknownBlock):
        world.chain.state(bytes(32))


def test_growth_is_reported(world: Any) -> None:
    old = world.chain.head
    block = world.build([world.transfer(0, 1, 5)])
    accepted, changed = world.give(block)
    assert isinstance(accepted, Accepted)
    assert accepted.state.root() == world.state.root()
    assert changed == HeadChanged(old, world.chain.head, (), (block,))
    assert world.chain.head.weight == 30
    assert world.give(block) == ()
    assert world.chain.canonical_id(1) == block.block_id
    assert world.chain.canonical_id(2) is None
    assert list(world.chain.ancestors(block.block_id)) == [block]


def test_fallback_weighs_less_and_loses(world: Any) -> None:
    root = world.chain.head.id
    (late,) = branch(world, root, [1], 1)
    assert world.chain.head.weight == 15
    (first,) = branch(world, root, [0], world.state.slot)
    assert world.chain.head.id == first.block_id
    assert world.chain.head.weight == 30
    outcome = world.give(
        world.build(slot=world.slot_with(2, 40, world.chain.state(root)), rank=2, parent=root)
    )
    assert [type(item) for item in outcome] == [Accepted]
    assert world.chain.head.id == first.block_id
    assert late.block_id != first.block_id


def test_the_order_of_arrival_does_not_matter(make_world: Any) -> None:
    world = make_world()
    base = world.mine()
    blocks = [base]
    for ranks in ([0, 1], [1, 0], [0, 0], [2]):
        blocks += branch(world, base.block_id, ranks, base.sealed.timestamp_ms // 2000 % 7 + len(blocks))
    other = new_chain(world)
    for block in [base, *reversed(blocks[1:])]:
        try:
            other.on_block(block, world.time_of(blocks[-1]) + 10**9)
        except UnknownParent:
            continue
    assert other.head == world.chain.head
    assert other.state().root() == world.state.root()


def test_equal_slots_tie_by_output_not_by_arrival(world: Any) -> None:
    """A proposer's two blocks for one slot: all nodes choose the same one."""
    slot = world.slot_with(0, 3)
    one = world.build([world.transfer(0, 1, 5)], slot=slot)
    two = world.build([world.transfer(0, 1, 6)], slot=slot)
    first, second = new_chain(world), new_chain(world)
    for block in (one, two):
        world.give(block, first)
    for block in (two, one):
        world.give(block, second)
    assert first.head == second.head
    assert first.sealed_by(one.sealed.proposer, one.sealed.timestamp_ms) == 2


def test_equal_weight_and_rank_tie_by_the_hash_of_the_output(world: Any) -> None:
    rivals = [world.build(slot=slot) for slot in range(1, 13)]
    assert len({block.sealed.leaf0.vrf_proof for block in rivals}) == 12

    def output_hash(block: Block) -> bytes:
        return H("tie", vrf.output(block.sealed.leaf0.vrf_proof) or b"")

    for block in rivals:
        world.give(block)
    winner = min(rivals, key=output_hash)
    assert world.chain.head.id == winner.block_id
    assert winner != min(rivals, key=lambda block: block.block_id)


def test_orphans_wait_for_their_parents(world: Any) -> None:
    blocks = [world.mine(world.transfer(0, 1, 5)) for _ in range(6)]
    other = new_chain(world)
    for block in reversed(blocks[1:]):
        with pytest.raises(UnknownParent) as caught:
            world.give(block, other)
        assert caught.value.parent == block.prev
    assert other.missing_parents() == (blocks[0].block_id,)
    outcome = world.give(blocks[0], other)
    assert [type(item) for item in outcome] == [Accepted] * 6 + [HeadChanged]
    assert outcome[-1].applied == tuple(blocks)
    assert other.head == world.chain.head
    assert other.missing_parents() == ()


def test_a_bad_orphan_does_not_blame_the_parents_sender(world: Any) -> None:
    parent = world.build()
    twin = new_chain(world)
    world.give(parent, twin)
    child = world.build(parent=parent.block_id, chain=twin)
    bad = world.reseal(child, leaf0={"parent_state_root": bytes(32)})
    with pytest.raises(UnknownParent):
        world.give(bad)
    outcome = world.give(parent)
    assert [type(item) for item in outcome] == [Accepted, HeadChanged]
    with pytest.raises(InvalidBlock, match="before"):
        world.give(bad)
    world.give(child)
    assert world.chain.head.id == child.block_id


def test_seal_by_another_then_the_true_one(world: Any) -> None:
    good = world.build()
    bent = Block(replace(good.sealed, seal=bytes(64)), good.body)
    with pytest.raises(InvalidBlock, match="seal"):
        world.give(bent)
    world.give(good)
    assert world.chain.head.id == good.block_id


def test_old_final_blocks_are_forgotten_and_cannot_be_forked_from(make_world: Any) -> None:
    world = make_world(keep=4)
    first = world.mine()
    side = world.build(slot=world.slot_with(1, world.state.slot, world.state), rank=1)
    blocks = [world.mine()]
    world.give(side)
    assert world.chain.head.id == blocks[0].block_id
    for _ in range(12):
        blocks.append(world.mine())
        world.all_vote()
    chain = world.chain
    assert chain.final_height > chain.head.height - 4
    assert chain.has(first.block_id)
    assert chain.block(first.block_id) is None
    assert not chain.has(side.block_id)
    with pytest.raises(UnknownBlock):
        chain.state(first.block_id)
    assert chain.canonical_id(1) == first.block_id
    with pytest.raises(StaleBlock):
        world.give(side)
    with pytest.raises(StaleBlock):
        chain.check_header(side.sealed, world.time_of(side))
    assert chain.block(blocks[-5].block_id) == blocks[-5]
    assert chain.block(blocks[-6].block_id) is None


def test_what_is_not_final_can_be_forked_from_however_deep_it_lies(make_world: Any) -> None:
    """The lighter half of a network that was parted for longer than `keep` takes the other half's blocks."""
    world = make_world(keep=4)
    root = world.mine()
    rivals = Chain(world.genesis, 4)
    world.give(root, rivals)
    others: list[Block] = []
    for _ in range(12):
        world.mine()
    for _ in range(20):
        others.append(world.build(chain=rivals))
        world.give(others[-1], rivals)
    assert world.chain.block(root.block_id) == root
    for block in others:
        world.chain.check_header(block.sealed, world.time_of(block))
        world.give(block)
    assert world.chain.head == rivals.head
    assert world.state.root() == rivals.state().root()


def test_locator_and_common_height(make_world: Any) -> None:
    world = make_world(keep=8)
    for _ in range(40):
        world.mine()
    locator = world.chain.locator()
    heights = [world.chain.height_of(block_id) for block_id in locator]
    assert heights[:10] == list(range(40, 30, -1))
    assert heights[-1] == 0
    assert len(heights) < 16
    assert world.chain.common_height((bytes(32), *locator[3:])) == 37
    assert world.chain.common_height((bytes(32),)) is None


def test_trusted_replay_restores_the_same_chain(world: Any) -> None:
    blocks = [world.mine(world.transfer(0, 1, 5)) for _ in range(10)]
    other = new_chain(world)
    for block in blocks:
        other.on_block(Block.decode(block.encode()), 2**60, verify_seals=False)
    assert other.head == world.chain.head
    assert other.state().root() == world.state.root()


def test_header_check_is_remembered_for_the_block(world: Any) -> None:
    block = world.build()
    world.chain.check_header(block.sealed, world.time_of(block))
    world.give(block)
    bent = replace(block.sealed, seal=bytes(64))
    fresh = new_chain(world)
    with pytest.raises(InvalidBlock):
        fresh.check_header(bent, world.time_of(block))
