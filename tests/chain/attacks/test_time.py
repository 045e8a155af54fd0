"""Blocks with another time than theirs, and the clocks by which they are judged."""

from __future__ import annotations

from typing import Any

import pytest

from chain.errors import FutureBlock, InvalidBlock, InvalidVote
from chain.forkchoice import Chain
from chain.params import PRESETS
from chain.producer import seal
from chain.transition import apply_block
from chain.types import Body
from p2pml.net.clock import Offsets, Sample
from p2pml.node.clock_watch import ClockWatch
from p2pml.node.events import Events
from tests.chain.conftest import World


def test_future_timestamp(world: Any) -> None:
    """A block of a later slot is not looked at before that slot, however right it is."""
    block = world.build(slot=world.slot_with(0, 500))
    start = world.genesis.slot_start_ms(500)
    never = world.reseal(block, header={"timestamp_ms": world.genesis.slot_start_ms(10**12)})
    with pytest.raises(FutureBlock):
        world.chain.on_block(never, start)
    with pytest.raises(FutureBlock) as caught:
        world.chain.on_block(block, start)
    assert caught.value.ready_at_ms > start
    assert not world.chain.has(block.block_id)
    world.chain.on_block(block, caught.value.ready_at_ms)
    assert world.chain.head.id == block.block_id


def test_past_timestamp(world: Any) -> None:
    """The proposer of a slot that is over seals it on the head, which has a later one."""
    world.mine(slot=world.slot_with(0, 20))
    past = world.slot_with(0, 5)
    assert past < world.state.slot
    block = seal(world.state, past, 0, world.drawn(past), Body())
    with pytest.raises(InvalidBlock, match="not after the parent's slot"):
        apply_block(world.state, block)
    same = seal(world.state, world.state.slot, 0, world.drawn(world.state.slot), Body())
    with pytest.raises(InvalidBlock, match="not after the parent's slot"):
        world.chain.on_block(same, world.time_of(same))


@pytest.mark.parametrize("off_ms", [1, -1, 500, 1999])
def test_off_grid_timestamp(world: Any, off_ms: int) -> None:
    """Otherwise a proposer could have many block ids, and with them many tries, for one slot."""
    good = world.build()
    bad = world.reseal(good, header={"timestamp_ms": good.sealed.timestamp_ms + off_ms})
    with pytest.raises(InvalidBlock, match="not the start of a slot"):
        apply_block(world.state, bad)
    with pytest.raises(InvalidBlock, match="not the start of a slot"):
        world.give(bad)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_early_rank(world: Any, rank: int) -> None:
    """A fallback that publishes at once is held until the time that its betters have is over."""
    block = world.build(slot=world.slot_with(rank, 0), rank=rank)
    due = block.sealed.timestamp_ms + rank * 500 - 250
    with pytest.raises(FutureBlock) as caught:
        world.chain.on_block(block, due - 1)
    assert caught.value.ready_at_ms == due
    assert not world.chain.has(block.block_id)
    world.chain.on_block(block, due)
    assert world.chain.head.id == block.block_id


@pytest.mark.parametrize("preset", PRESETS)
def test_clock_skew_that_is_forgiven(preset: str) -> None:
    """An eighth of a slot ahead, a validator's blocks and votes are taken; a millisecond more: not yet."""
    world = World(params=PRESETS[preset], balances=(10, 10, 10))
    skew = world.genesis.params.slot_ms // 8
    block = world.build(slot=world.slot_with(0, 3))
    start = block.sealed.timestamp_ms
    with pytest.raises(FutureBlock):
        Chain(world.genesis).on_block(block, start - skew - 1)
    world.chain.on_block(block, start - skew)
    assert world.chain.head.id == block.block_id
    vote = world.vote(0, slot=world.state.slot)
    with pytest.raises(InvalidVote, match="future"):
        world.chain.check_vote(vote, start - skew - 1)
    world.chain.check_vote(vote, start - skew)


@pytest.mark.parametrize("preset", PRESETS)
def test_clock_skew_that_is_not(preset: str) -> None:
    """By the median of the peers, of whom a minority lies, a node knows when it must not propose or vote."""
    params = PRESETS[preset]
    for off_ms, wrong in ((params.skew_ms, False), (params.skew_ms + 2, True), (-params.skew_ms - 2, True)):
        offsets, watch = Offsets(), ClockWatch(Events(), params.skew_ms)
        for peer in range(5):
            lie_ms = 10**7 * peer if peer < 2 else 0
            sent = 100.0
            there = sent + 0.05 + (off_ms + lie_ms) / 1000
            offsets.add(str(peer), Sample.of(sent, there, there, sent + 0.1), 0.0)
        watch.heard(offsets.estimate(1.0))
        assert watch.wrong is wrong, off_ms
