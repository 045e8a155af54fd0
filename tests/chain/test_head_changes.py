"""Many changes of the head told as one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.forkchoice import Chain, HeadChanged
from chain.head_changes import merged
from chain.types import Block

Changes = list[HeadChanged]


def change_of(outcomes: Any) -> Changes:
    return [outcome for outcome in outcomes if isinstance(outcome, HeadChanged)]


@pytest.fixture(scope="module")
def tree() -> tuple[Any, list[Block]]:
    """Three branches that overtake each other: each third slot is another one's."""
    from tests.chain.conftest import World

    world = World()
    chains = [Chain(world.genesis) for _ in range(3)]
    blocks: list[Block] = []
    slot = 0
    for number in range(24):
        slot = world.slot_with(0, slot)
        chain = chains[number * 7 // 3 % 3]
        block = world.build(slot=slot, chain=chain)
        chain.on_block(block, 2**60)
        blocks.append(block)
    return world, blocks


def replayed(start: list[bytes], changes: Changes) -> list[bytes]:
    """The best branch after these changes."""
    branch = list(start)
    for change in changes:
        for block in change.reverted:
            assert branch.pop() == block.block_id
        branch += [block.block_id for block in change.applied]
        assert branch[-1:] in ([change.new.id], [])
    return branch


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(order=st.randoms(use_true_random=False), cuts=st.lists(st.integers(1, 8), min_size=1, max_size=12))
def test_one_change_leads_where_the_single_ones_lead(tree: Any, order: Any, cuts: list[int]) -> None:
    """Blocks come in any order that has parents first, and are told of in steps of any size."""
    world, blocks = tree
    chain = Chain(world.genesis)
    waiting, branch = list(blocks), list[bytes]()
    while waiting:
        step: Changes = []
        for _ in range(cuts[len(waiting) % len(cuts)]):
            ready = [block for block in waiting if chain.has(block.prev)]
            if ready:
                block = order.choice(ready)
                waiting.remove(block)
                step += change_of(chain.on_block(block, 2**60))
        one = merged(step)
        after = replayed(branch, step)
        assert replayed(branch, [one] if one else []) == after
        if one is None:
            assert after == branch
        else:
            assert one.new == chain.head
            left, taken = ({block.block_id for block in part} for part in (one.reverted, one.applied))
            assert not left & taken, "no block is left and taken again"
        branch = after
    assert branch[-1] == chain.head.id


def test_no_change_is_none() -> None:
    assert merged([]) is None
