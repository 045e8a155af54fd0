"""What a flood of blocks without parents, or of bad ones, can fill."""

from __future__ import annotations

from typing import Any

import pytest

from chain.errors import InvalidBlock, UnknownParent
from chain.orphans import MAX_ORPHANS, Orphans
from chain.recent import Recent
from chain.types import Block


def orphan(world: Any, number: int) -> Block:
    """A block whose parent nobody has, sealed by a validator."""
    return world.reseal(world.build(), header={"prev": number.to_bytes(32, "big")})  # type: ignore[no-any-return]


def test_the_number_is_bounded_and_the_oldest_leave(world: Any) -> None:
    pool = Orphans(max_blocks=3)
    blocks = [orphan(world, i) for i in range(5)]
    for block in blocks:
        pool.add(block)
    assert len(pool) == 3
    assert pool.parents() == tuple(block.prev for block in blocks[2:])
    assert pool.release(blocks[0].prev) == ()
    assert pool.release(blocks[4].prev) == (blocks[4],)
    assert len(pool) == 2


def test_the_bytes_are_bounded_and_counted_back(world: Any) -> None:
    blocks = [orphan(world, i) for i in range(4)]
    room = sum(len(block.encoded) for block in blocks[:2])
    pool = Orphans(max_bytes=room)
    for block in blocks[:2]:
        pool.add(block)
    assert len(pool) == 2
    pool.add(blocks[2])
    assert pool.parents() == tuple(block.prev for block in blocks[1:3])
    for block in blocks[1:3]:
        assert pool.release(block.prev) == (block,)
    for block in blocks[:2]:
        pool.add(block)
    assert len(pool) == 2, "what left gave its bytes back"


def test_a_block_larger_than_the_pool_drives_nobody_out(world: Any) -> None:
    small = orphan(world, 1)
    large = world.reseal(world.build([world.transfer(0, 1, 5)]), header={"prev": bytes(32)})
    pool = Orphans(max_bytes=len(small.encoded))
    pool.add(small)
    pool.add(large)
    assert pool.parents() == (small.prev,)


def test_the_same_bytes_twice_count_once(world: Any) -> None:
    block = orphan(world, 1)
    pool = Orphans()
    for _ in range(3):
        pool.add(block)
    assert len(pool) == 1
    assert pool.release(block.prev) == (block,)
    assert pool.parents() == ()


def test_a_flood_of_orphans_by_a_validator_stays_within_the_pool(world: Any) -> None:
    template = world.build()
    for number in range(1, MAX_ORPHANS + 50):
        block = world.reseal(template, header={"prev": number.to_bytes(32, "big")})
        with pytest.raises(UnknownParent):
            world.give(block)
    assert len(world.chain.missing_parents()) == MAX_ORPHANS
    world.mine()


def test_a_flood_of_invalid_blocks_leaves_nothing_but_their_hashes(world: Any) -> None:
    """Each is refused for its sender to be blamed, keeps no node, no orphan, and no true block out."""
    good = world.build()
    nodes = len(world.chain._tree.nodes)
    world.chain._bad = Recent(16)
    for number in range(1, 60):
        bad = world.reseal(good, leaf0={"parent_state_root": number.to_bytes(32, "big")})
        for again in (False, True):
            with pytest.raises(InvalidBlock, match="before" if again else "state root"):
                world.give(bad)
        assert world.chain.block(bad.block_id) is None
    assert len(world.chain._tree.nodes) == nodes
    assert world.chain.missing_parents() == ()
    assert len(world.chain._bad) == 16
    world.give(good)
    assert world.chain.head.id == good.block_id
