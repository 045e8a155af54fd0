"""Chains that old keys make, long after their ratings have ended."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chain.errors import InvalidError
from chain.forkchoice import Chain
from chain.params import DEMO
from chain.voting import owed_vote
from tests.chain.test_sync import Pump, serve

SHORT = replace(DEMO, slots_per_epoch=4, window_every_epochs=16)
OLD, YOUNG = range(4), range(4, 7)
TODAY = 60


def live(world: Any, chain: Chain, slot: int, members: range, votes: bool = True) -> None:
    """One slot of a chain that these validators make: a block, if one of them is drawn, and what they owe."""
    for rank in range(world.genesis.params.ranks):
        keys = world.drawn(slot, rank, chain.state())
        if keys is not None and world.validators.index(keys) in members:
            world.give(world.build(slot=slot, rank=rank, chain=chain), chain)
            break
    owed = (owed_vote(world.validators[i].keypair, chain.state(), slot, None) for i in members if votes)
    world.cast(*filter(None, owed), chain=chain)


def outlived(make_world: Any, old: int) -> Any:
    """A network whose first four validators, of that rating each, are rated no more and gone; slot 60."""
    world = make_world(ratings=(old,) * 4 + (10,) * 3, params=SHORT, rated_until=(2,) * 4 + (0,) * 3)
    for slot in range(1, TODAY + 1):
        final = world.state.finality.final_epoch
        live(world, world.chain, slot, range(7) if world.state.table(final).total > 30 else YOUNG)
    assert world.state.table_at(TODAY).total == 30
    assert world.state.finality.final.number >= TODAY - 2
    return world


def forged(world: Any, votes_from: int) -> Chain:
    """What the old keys alone can make of the time since the genesis, if they vote from that slot on."""
    chain = Chain(world.genesis)
    for slot in range(1, TODAY + 1):
        live(world, chain, slot, OLD, votes=slot >= votes_from)
    return chain


def refused(world: Any, false: Chain) -> None:
    """A node that was there takes nothing of it, but what both may have begun with."""
    head = world.chain.head
    blocks = [block for block in false.ancestors(false.head.id) if not world.chain.has(block.block_id)]
    assert len(blocks) > 10
    for block in reversed(blocks):
        with pytest.raises(InvalidError):
            world.give(block)
    assert world.chain.head == head


@pytest.mark.slow
@pytest.mark.parametrize(("old", "votes_from"), [(14, 1), (14, 99), (15, 1)])
def test_expired_key_long_range_chain(make_world: Any, old: int, votes_from: int) -> None:
    """Four keys with 65 %, or exactly two thirds, of the first table: sold, stolen, or their owners' own.

    Below two thirds nothing of theirs is ever justified. With two thirds it is, until the clock that this
    moves on their own branch ends their ratings there as well.
    """
    world = outlived(make_world, old)
    false = forged(world, votes_from)
    share = 3 * 4 * old >= 2 * (4 * old + 30)
    assert false.head.height > 10
    assert (false.justified.number > 0) is (share and votes_from < TODAY)
    assert false.justified.number < world.chain.justified.number
    if not share:
        assert false.head.weight > world.chain.head.weight, "the false chain is the heavier one"
    refused(world, false)
    late = Pump(Chain(world.genesis))
    for name, chain in sorted({"honest": world.chain, "false": false}.items(), reverse=share):
        late.join(name, serve(chain))
    late.wait(60)
    assert late.chain.head == world.chain.head
    assert late.chain.is_canonical(world.state.finality.final.id)


@pytest.mark.slow
@pytest.mark.parametrize("votes_from", [1, TODAY - 8])
def test_what_expiry_leaves_to_a_trusted_checkpoint(make_world: Any, votes_from: int) -> None:
    """Old keys with two thirds of an old table: who meets only their chain, or theirs first, makes it final.

    And if they let nothing become final for as long as possible, their clock stands: they justify today's
    checkpoints as the honest do, and nothing within the two chains says which of them is the true one.
    """
    world = outlived(make_world, 15)
    false = forged(world, votes_from)
    refused(world, false)
    late = Pump(Chain(world.genesis))
    late.join("false", serve(false))
    late.join("honest", serve(world.chain))
    late.wait(60)
    assert late.chain.head == false.head
    assert late.chain.final_height > 0
    equal = false.justified.number >= world.chain.justified.number - 1
    assert equal is (votes_from > 1)
