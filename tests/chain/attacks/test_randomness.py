"""Attacks on the draw: choosing the seed, the key that meets it, or who is left to be drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chain import lottery, vrf
from chain.errors import GenesisError, InvalidBlock
from chain.evidence import TwoVotes
from chain.genesis import Founder, Genesis
from chain.params import DEMO
from chain.producer import ProposerKeys, seal
from chain.state import State
from chain.transactions import Register
from chain.transition import apply_block
from chain.types import Body
from chain.votes import Vote, sign_vote
from tests.chain.attacks.helpers import SHORT
from tests.chain.test_finality import grow


def test_vrf_withholding_at_the_epochs_tail(world: Any) -> None:
    """Who owns a whole slot may publish at any of its ranks or not at all, and has one bit of choice.

    What that bit is worth is measured by `p2pml.sim.tail` (`sim/test_tail.py`).
    """
    world.mine()
    last = DEMO.slots_per_epoch - 1
    before, mixes = world.state.mix, set()
    for rank in range(DEMO.ranks):
        slot = next(s for s in range(last, 10_000, DEMO.slots_per_epoch) if world.drawn(s, rank))
        state = apply_block(world.state, world.build(slot=slot, rank=rank))
        assert state.seed(state.epoch) == world.state.seed(state.epoch), "the running epoch's seed is closed"
        mixes.add(state.mix if rank else "folded")
        assert (state.mix == before) is (rank > 0)
    assert mixes == {before, "folded"}


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


def test_proposing_with_a_key_that_does_not_hold_yet(make_world: Any) -> None:
    world = make_world(params=SHORT)
    block = world.build()
    keys = world.by_public[block.sealed.proposer]
    other = ProposerKeys(keys.keypair, b"\x44" * 32)
    assert other.vrf_public != keys.vrf_public == vrf.public_key(keys.vrf_seed)
    slot = world.genesis.slot_at(block.sealed.timestamp_ms)
    with pytest.raises(InvalidBlock, match="VRF"):
        apply_block(world.state, seal(world.state, slot, 0, other, block.body))


def _votes(world: Any, state: State, slot: int) -> tuple[Vote, ...]:
    """Those of all validators for the branch of a state, which no node that saw them lie would pass on."""
    link = state.finality.next_link(slot, state.slot, state.block_id)
    assert link is not None
    chain_id = world.genesis.chain_id
    return tuple(sign_vote(keys.keypair, chain_id, slot, link, state.block_id) for keys in world.validators)


def _next(world: Any, state: State, body: Body) -> State:
    """The state after a block with just this body."""
    slot = world.slot_with(0, state.slot, state)
    return apply_block(state, seal(state, slot, 0, world.drawn(slot, 0, state), body))


def test_w_zero(make_world: Any) -> None:
    """All validators lie, are convicted, and finalize that: their table, without a key, is never taken."""
    world = make_world(params=SHORT)
    state = _next(world, world.state, Body())
    pairs = []
    for vote, keys in zip(_votes(world, state, state.slot), world.validators, strict=True):
        link = replace(vote.link, target=replace(vote.link.target, id=b"\x01" * 32))
        lie = sign_vote(keys.keypair, world.genesis.chain_id, vote.slot, link, vote.head)
        pairs.append(TwoVotes(vote, lie))
    state = _next(world, state, Body(evidence=tuple(pairs)))
    convicted = state.slot
    assert [entry.rating for entry in state.validators()] == [0, 0, 0]
    while state.finality.final_slot <= convicted + 6 * SHORT.slots_per_epoch:
        assert state.table_at(state.slot + 1).total == 30, "W must not become 0"
        state = _next(world, state, Body(votes=_votes(world, state, state.slot)))
    assert len(state.tables.latest.entries) == 0
    assert state.table_at(state.slot + 100) == world.state.table(0)
    assert lottery.target(state.table_at(state.slot + 100).total) == 2**256 // 30


@pytest.mark.parametrize("ratings", [(0, 0, 0), (1,)])
def test_w_zero_at_genesis(world: Any, ratings: tuple[int, ...]) -> None:
    founders = tuple(
        Founder(keys.public, keys.vrf_public, rating, "v")
        for keys, rating in zip(world.validators, ratings, strict=False)
    )
    with pytest.raises(GenesisError):
        Genesis("w0", world.genesis.time_ms, DEMO, founders, ())
