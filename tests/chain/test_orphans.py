"""What a flood of blocks without parents, or of bad ones, can fill."""

from __future__ import annotations

from typing import Any

from chain.orphans import Orphans
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
