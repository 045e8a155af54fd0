"""A chain that begins at a snapshot goes on as one that has every block."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chain.errors import StaleBlock, UnknownParent
from chain.forkchoice import Chain
from chain.sync_messages import GetHeaders
from chain.sync_server import Located, locate
from chain.types import Block
from chain.votes import Link, sign_vote
from tests.chain.conftest import World
from tests.chain.snapshots import busy_world, grow, snapshot_of, started


def blocks_after(chain: Chain, height: int) -> list[Block]:
    found = [block for block in chain.ancestors(chain.head.id) if block.height > height]
    return found[::-1]


@pytest.fixture(scope="module")
def world() -> World:
    return busy_world(60)


def test_it_knows_nothing_below(world: World) -> None:
    snapshot = snapshot_of(world.chain)
    chain, base = started(world, snapshot), snapshot.state.height
    full = world.chain
    assert chain.head == full.header(snapshot.state.block_id)
    assert (chain.final_height, chain.canonical_id(base)) == (base, snapshot.state.block_id)
    assert [chain.canonical_id(height) for height in (0, base - 1, base + 1, -1)] == [None] * 4
    assert chain.locator() == (snapshot.state.block_id,)
    assert chain.common_height(full.locator()[-2:]) is None
    assert chain.common_height([bytes(32), snapshot.state.block_id]) == base
    assert chain.has(snapshot.state.block_id)
    below = full.canonical_id(base - 1)
    assert below is not None
    assert not chain.has(below)
    assert list(chain.ancestors(chain.head.id)) == []
    old = full.block(below)
    assert old is not None
    with pytest.raises(StaleBlock):
        world.give(old, chain)


def test_it_goes_on_as_the_others_do(world: World) -> None:
    snapshot = snapshot_of(world.chain)
    chain, base = started(world, snapshot), snapshot.state.height
    tail = blocks_after(world.chain, base)
    with pytest.raises(UnknownParent):
        world.give(tail[1], chain)
    for block in tail:
        world.give(block, chain)
    grow(world, 30)
    for block in blocks_after(world.chain, tail[-1].height):
        world.give(block, chain)
    full = world.chain
    assert chain.head == full.head
    assert chain.state().root() == full.state().root()
    assert (chain.final_height, chain.justified) == (full.final_height, full.justified)
    assert chain.final_height > base + 20
    assert [chain.canonical_id(h) for h in range(base, full.head.height + 1)] == [
        full.canonical_id(h) for h in range(base, full.head.height + 1)
    ]
    assert chain.locator()[0] == full.head.id
    assert chain.locator()[-1] == snapshot.state.block_id
    assert {block.height for block in chain.ancestors(chain.head.id)} == set(
        range(base + 1, full.head.height + 1)
    )


def test_with_the_ids_below_it_tells_others_what_to_ask_the_database_for(world: World) -> None:
    full = world.chain
    snapshot = snapshot_of(full)
    base = snapshot.state.height
    ids = tuple(full.canonical_id(height) or b"" for height in range(base))
    chain = started(world, snapshot, ids)
    assert [chain.canonical_id(height) for height in range(base)] == list(ids)
    assert chain.locator()[-1] == world.genesis.chain_id
    assert chain.common_height([world.genesis.chain_id]) == 0
    found = locate(GetHeaders((ids[3],), 5), chain)
    assert isinstance(found, Located)
    assert [block_id for block_id, _ in found.rows] == list(ids[4:9])


def test_a_branch_is_left_for_a_heavier_one_after_the_start() -> None:
    world = busy_world(20)
    chain = started(world, snapshot_of(world.chain))
    for block in blocks_after(world.chain, chain.head.height):
        world.give(block, chain)
    parent = chain.head.id
    left = world.build(slot=world.slot_with(1, world.state.slot), rank=1, parent=parent)
    world.give(left, chain)
    assert chain.head.id == left.block_id
    right = world.build(slot=world.slot_with(0, world.state.slot), parent=parent)
    world.give(right, chain)
    assert chain.head.id == right.block_id, "a first choice weighs more than a second"
    assert chain.canonical_id(right.height) == right.block_id
    assert not chain.is_canonical(left.block_id)


def test_who_was_convicted_before_the_start_has_no_say() -> None:
    world, liar = World(ratings=(10, 10, 10, 10)), 1
    world.mine()
    grow(world, 2)
    vote = world.vote(liar)
    link = Link(vote.link.source, replace(vote.link.target, id=bytes(32)))
    keypair = world.validators[liar].keypair
    world.cast(vote, sign_vote(keypair, world.genesis.chain_id, vote.slot, link, vote.head))
    assert world.mine().body.evidence
    for _ in range(12):
        world.cast(*(world.vote(i) for i in (0, 2, 3)))
        world.mine()
    snapshot = snapshot_of(world.chain)
    chain, account = started(world, snapshot), world.validators[liar].public
    assert snapshot.state.table_at(snapshot.state.slot).voice(account), "the table of this epoch has it still"
    assert not chain.votes.counts(account)
    assert chain.votes.counts(world.validators[0].public)
