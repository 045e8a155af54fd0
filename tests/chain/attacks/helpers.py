"""What several of the attacks need."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from chain.errors import InvalidBlock, StaleBlock, UnknownParent
from chain.forkchoice import Chain
from chain.params import DEMO
from chain.producer import ProposerKeys
from chain.transition import apply_block
from chain.types import Block, Body

SHORT = replace(DEMO, slots_per_epoch=4, window_every_epochs=16)


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


def spoils(world: Any, *txs: Any, says: str) -> None:
    """A block that is right but for these transactions is refused, and changes nothing."""
    before = world.state
    root, accounts = before.root(), before.accounts()
    block = world.reseal(world.build(), body=Body(txs=txs))
    with pytest.raises(InvalidBlock, match=says):
        apply_block(before, block)
    assert (before.root(), before.accounts()) == (root, accounts)


def drawn_twice(world: Any, after: int) -> tuple[int, int, ProposerKeys]:
    """Two slots, one after the other, with the same first choice."""
    first = world.slot_with(0, after)
    keys = world.drawn(first)
    second = next(slot for slot in range(first + 1, first + 1000) if world.drawn(slot) is keys)
    return first, second, keys


def twins(world: Any) -> tuple[Block, Block]:
    """Two blocks that one proposer sealed for one slot."""
    slot = world.slot_with(0, world.state.slot)
    return world.build(slot=slot), world.build([world.transfer(0, 1, 5)], slot=slot)
