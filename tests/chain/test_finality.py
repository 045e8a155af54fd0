"""What votes make final, which votes a block cannot hold, and the fork choice by votes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chain.crypto import Keypair
from chain.errors import InvalidBlock, InvalidVote, StaleBlock, UnknownVoter
from chain.finality import Finality, quorum
from chain.forkchoice import Chain
from chain.gossip import Verdict, validate_vote
from chain.params import DEMO
from chain.producer import choose_votes
from chain.types import Body
from chain.votes import Checkpoint, Link, Vote, sign_vote
from chain.weights import MAX_VOTERS, Weight, WeightTable


def grow(world: Any, slots: int, voters: range, chain: Chain | None = None) -> None:
    """In each slot a block, if the first choice is among the validators of this chain's side, then votes."""
    chain = chain or world.chain
    last = chain.head.slot + slots
    for slot in range(chain.head.slot + 1, last + 1):
        for rank in range(world.genesis.params.ranks):
            keys = world.drawn(slot, rank, chain.state())
            if keys is not None and world.validators.index(keys) in voters:
                world.give(world.build(slot=slot, rank=rank, chain=chain), chain)
                break
        world.cast(*(world.vote(i, slot, chain) for i in voters), chain=chain)


# -- justified and final ---------------------------------------------------------------------------------


def test_with_all_votes_a_block_is_final_two_blocks_later(world: Any) -> None:
    first = world.mine(slot=world.slot_with(0, 0))
    grow(world, 8, range(3))
    finality = world.state.finality
    head = world.chain.head
    assert head.slot - finality.highest.number <= 2
    assert finality.highest.number - finality.final.number == 1
    assert world.chain.final_height > first.height
    assert world.chain.canonical_id(world.chain.final_height) == finality.final.id


@pytest.mark.parametrize(("voters", "moves"), [(range(2), True), (range(1), False)])
def test_two_thirds_of_the_weight_are_needed_and_enough(world: Any, voters: range, moves: bool) -> None:
    world.mine(slot=world.slot_with(0, 0))
    for _ in range(12):
        slot = world.slot_with(0, world.state.slot)
        world.mine(slot=slot)
        world.cast(*(world.vote(i, slot) for i in voters))
    assert (world.state.finality.highest.number > 0) is moves


def test_weight_counts_and_not_heads(make_world: Any) -> None:
    world = make_world(ratings=(21, 5, 5))
    for voters, moves in ((range(1, 3), False), (range(1), True)):
        for _ in range(6):
            world.mine()
            world.cast(*(world.vote(i) for i in voters))
        assert (world.state.finality.highest.number > 0) is moves


def test_a_skipped_slot_delays_finality_but_does_not_stop_it(world: Any) -> None:
    world.mine(slot=world.slot_with(0, 3))
    world.all_vote()
    slot = world.slot_with(0, world.state.slot + 3)
    for empty in range(world.state.slot + 1, slot):
        world.all_vote(slot=empty)
    world.mine(slot=slot)
    justified = world.state.finality
    assert justified.highest.number == slot - 1
    assert justified.final.number == 0, "no link led from a checkpoint to the next one"
    grow(world, 6, range(3))
    assert world.state.finality.final.number >= slot


def test_only_a_link_to_the_next_checkpoint_makes_its_source_final(world: Any) -> None:
    world.mine(slot=world.slot_with(0, 3))
    world.all_vote()
    world.mine(slot=world.slot_with(0, world.state.slot))
    source = world.state.finality.highest
    assert source.number > 0
    slot = world.slot_with(0, source.number + 1)
    while world.state.slot >= slot:
        slot = world.slot_with(0, slot)
    world.mine(slot=slot)
    world.all_vote()
    world.mine()
    finality = world.state.finality
    assert finality.highest.number == slot > source.number + 1
    assert finality.final.number == 0


def test_a_link_needs_both_epochs(world: Any) -> None:
    """Weights that moved within the link: either table alone is not enough."""
    keys = [Keypair.from_seed(bytes([i]) * 32).public for i in range(1, 4)]
    old = WeightTable(
        tuple(Weight(key, key, rating) for key, rating in zip(sorted(keys), (4, 1, 1), strict=True))
    )
    new = WeightTable(
        tuple(Weight(key, key, rating) for key, rating in zip(sorted(keys), (1, 4, 1), strict=True))
    )
    table_of = {0: old, 1: new}.__getitem__
    per_epoch = DEMO.slots_per_epoch // DEMO.checkpoint_slots
    link = Link(Checkpoint(per_epoch - 1, bytes(32)), Checkpoint(per_epoch, bytes(32)))
    first, second, third = sorted(keys)
    assert not quorum(frozenset([first]), link, DEMO, table_of)
    assert not quorum(frozenset([second]), link, DEMO, table_of)
    assert not quorum(frozenset([first, third]), link, DEMO, table_of)
    assert quorum(frozenset([first, second]), link, DEMO, table_of)


def test_only_the_heaviest_keys_vote() -> None:
    keys = [Keypair.from_seed(i.to_bytes(32, "big")).public for i in range(1, MAX_VOTERS + 3)]
    table = WeightTable(tuple(Weight(key, key, 10 + (i > 1)) for i, key in enumerate(keys)))
    assert [table.voice(key) for key in keys[:2]] == [0, 0]
    assert table.voices == 11 * MAX_VOTERS
    assert table.total == 11 * MAX_VOTERS + 20


def test_the_state_commits_to_finality(world: Any) -> None:
    world.mine()
    before = world.state.finality
    link = Link(Checkpoint(0, world.genesis.chain_id), Checkpoint(1, bytes(32)))
    after = before.counted(Vote(world.validators[0].public, 1, link, bytes(32)), world.state.table)
    assert after.hash != before.hash
    assert (
        after.counted(Vote(world.validators[1].public, 1, link, bytes(32)), world.state.table).hash
        != after.hash
    )


def test_the_next_block_proves_finality(world: Any) -> None:
    state = world.mine() and world.state
    root = state.root()
    state.finality = replace(state.finality, final=Checkpoint(1, bytes(32)))
    state._root = None
    assert state.root() != root


def test_votes_in_blocks_reach_who_missed_them(world: Any) -> None:
    world.mine()
    world.all_vote()
    world.mine()
    newcomer = Chain(world.genesis)
    for block in reversed(list(world.chain.ancestors(world.chain.head.id))):
        world.give(block, newcomer)
    assert set(newcomer.votes) == set(world.chain.votes)


def test_what_is_remembered_stays_bounded_without_finality(world: Any) -> None:
    for _ in range(80):
        world.mine()
        world.cast(world.vote(0))
    finality: Finality = world.state.finality
    window = 2 * DEMO.slots_per_epoch
    assert len(finality.branch) <= window + 2
    assert len(finality.tallies) <= window + 2
    assert finality.justified == (Checkpoint(0, world.genesis.chain_id),)


# -- votes that a block cannot hold ----------------------------------------------------------------------


def by(world: Any, voter: int, vote: Vote, **changes: Any) -> Vote:
    changed = replace(vote, **changes)
    keys = world.validators[voter].keypair
    return sign_vote(keys, world.genesis.chain_id, changed.slot, changed.link, changed.head)


def refused(world: Any, votes: tuple[Vote, ...], reason: str) -> None:
    block = world.build()
    with pytest.raises(InvalidBlock, match=reason):
        world.give(world.reseal(block, Body(votes=votes)))


def test_a_block_holds_no_vote_that_means_nothing(world: Any) -> None:
    genesis_point = Checkpoint(0, world.genesis.chain_id)
    world.mine()
    world.mine()
    good = world.vote(0)
    link = good.link
    stranger = Keypair.from_seed(b"\x77" * 32)
    refused(world, (replace(good, signature=bytes(64)),), "signature")
    refused(
        world, (sign_vote(world.validators[0].keypair, bytes(32), good.slot, link, good.head),), "signature"
    )
    refused(world, (sign_vote(stranger, world.genesis.chain_id, good.slot, link, good.head),), "no vote")
    refused(world, (by(world, 0, good, slot=good.slot + 40),), "too old, or not before")
    refused(world, (by(world, 0, good, slot=good.slot - 1),), "checkpoint of its slot")
    elsewhere = Link(link.source, replace(link.target, id=bytes(32)))
    refused(world, (by(world, 0, good, link=elsewhere),), "not on this branch")
    made_up = Link(Checkpoint(link.target.number - 1, bytes(32)), link.target)
    refused(world, (by(world, 0, good, link=made_up),), "not justified")
    refused(world, (by(world, 0, good, link=Link(link.target, link.target)),), "checkpoint of its slot")
    refused(world, (good, good), "has voted")
    assert link.source == genesis_point
    world.cast(good)
    block = world.mine()
    assert block.body.votes == (good,)
    refused(world, (good,), "has voted")


def test_a_vote_for_what_is_final_is_refused(world: Any) -> None:
    world.mine()
    late = world.vote(2)
    for _ in range(6):
        world.cast(world.vote(0), world.vote(1))
        world.mine()
    assert world.state.finality.final.number > late.link.target.number
    refused(world, (late,), "final")
    assert late not in choose_votes(world.state, world.state.slot + 1, [late])


def test_an_old_vote_is_not_counted(world: Any) -> None:
    world.mine()
    old = world.vote(0)
    world.mine(slot=world.slot_with(0, old.slot + 2 * DEMO.slots_per_epoch))
    refused(world, (old,), "too old")


def test_more_votes_than_a_block_holds(make_world: Any) -> None:
    world = make_world(params=replace(DEMO, max_votes=2))
    world.mine()
    world.all_vote()
    block = world.build()
    assert len(block.body.votes) == 2
    with pytest.raises(InvalidBlock, match="caps"):
        world.give(world.reseal(block, Body(votes=tuple(world.vote(i) for i in range(3)))))


# -- the fork choice -------------------------------------------------------------------------------------


def fork(world: Any) -> tuple[Any, Any]:
    """Two blocks on one parent: the heavier (rank 0) is the head without votes."""
    parent = world.mine()
    slot = next(
        s
        for s in range(parent.height + 1, 10_000)
        if s > world.state.slot and world.drawn(s, 0) and world.drawn(s, 1)
    )
    heavy = world.build(slot=slot, rank=0, parent=parent.block_id)
    light = world.build(slot=slot, rank=1, parent=parent.block_id)
    world.give(light)
    world.give(heavy)
    assert world.chain.head.id == heavy.block_id
    return heavy, light


def backing(world: Any, voter: int, block: Any) -> Vote:
    slot = block.sealed.timestamp_ms - world.genesis.time_ms
    slot //= world.genesis.params.slot_ms
    link = Link(Checkpoint(0, world.genesis.chain_id), Checkpoint(slot, block.block_id))
    return sign_vote(world.validators[voter].keypair, world.genesis.chain_id, slot, link, block.block_id)


def test_votes_outweigh_blocks(world: Any) -> None:
    heavy, light = fork(world)
    world.cast(backing(world, 0, heavy))
    world.cast(backing(world, 1, light))
    assert world.chain.head.id == heavy.block_id, "equal votes: the heavier chain"
    world.cast(backing(world, 2, light))
    assert world.chain.head.id == light.block_id


def test_only_the_latest_vote_counts(world: Any) -> None:
    heavy, light = fork(world)
    world.cast(backing(world, 0, light))
    assert world.chain.head.id == light.block_id
    later = backing(world, 0, heavy)
    later = by(
        world,
        0,
        later,
        slot=later.slot + 1,
        link=Link(later.link.source, Checkpoint(later.slot + 1, heavy.block_id)),
    )
    world.cast(later)
    assert world.chain.head.id == heavy.block_id
    fresh = Chain(world.genesis)
    for block in (world.chain.block(heavy.prev), light, heavy):
        world.give(block, fresh)
    world.cast(later, backing(world, 0, light), chain=fresh)
    assert fresh.head.id == heavy.block_id
    assert world.chain.head.id == heavy.block_id, "an older vote that comes late changes nothing"


def test_who_contradicts_itself_has_no_voice(world: Any) -> None:
    heavy, light = fork(world)
    world.cast(backing(world, 0, light))
    world.cast(backing(world, 1, light), backing(world, 2, heavy))
    assert world.chain.head.id == light.block_id
    world.cast(backing(world, 0, heavy))
    world.cast(backing(world, 1, heavy))
    assert world.chain.head.id == heavy.block_id
    assert set(world.chain.votes.convicted) == {world.validators[0].public, world.validators[1].public}


def test_a_timely_first_choice_is_helped_in_its_slot_only(make_world: Any) -> None:
    """Votes saved up for another branch: 40 % of all voices outweigh a third of them in this slot."""
    world = make_world(ratings=(10, 10, 10))
    parent = world.mine()
    slot = next(s for s in range(world.state.slot + 1, 10_000) if world.drawn(s, 0) and world.drawn(s, 1))
    timely = world.build(slot=slot, rank=0, parent=parent.block_id)
    other = world.build(slot=slot, rank=1, parent=parent.block_id)
    start = world.genesis.slot_start_ms(slot)
    now = start + DEMO.slot_ms // 2 - 1
    world.chain.on_block(timely, now)
    world.chain.on_block(other, start + DEMO.rank_step_ms)
    world.cast(backing(world, 0, other), late_ms=DEMO.slot_ms - 1)
    assert world.chain.head.id == timely.block_id
    world.cast(backing(world, 1, other), late_ms=DEMO.slot_ms - 1)
    assert world.chain.head.id == other.block_id, "two thirds outweigh it"
    over = make_world(ratings=(10, 10, 10))
    over.mine()
    over.chain.on_block(timely, now)
    over.chain.on_block(other, start + DEMO.rank_step_ms)
    over.cast(backing(over, 0, other), late_ms=DEMO.slot_ms)
    assert over.chain.head.id == other.block_id, "the slot is over"
    late = make_world(ratings=(10, 10, 10))
    late.mine()
    late.chain.on_block(timely, start + DEMO.slot_ms // 2)
    late.chain.on_block(other, start + DEMO.slot_ms // 2)
    late.cast(backing(late, 0, other), late_ms=DEMO.slot_ms - 1)
    assert late.chain.head.id == other.block_id, "a late block gets no help"


def test_what_is_final_is_never_reverted(world: Any) -> None:
    root = world.mine()
    rival_slot = world.slot_with(0, root.height + 3, world.state)
    rivals = [world.build(slot=rival_slot, rank=0, parent=root.block_id)]
    for _ in range(5):
        world.mine()
        world.all_vote()
    world.mine()
    assert world.chain.final_height > root.height
    head = world.chain.head.id
    with pytest.raises(StaleBlock, match="final"):
        world.give(rivals[0])
    assert world.chain.head.id == head


def test_side_branches_below_the_final_block_are_forgotten(world: Any) -> None:
    _heavy, light = fork(world)
    for _ in range(5):
        world.all_vote()
        world.mine()
    assert world.chain.block(light.block_id) is None


# -- two halves ------------------------------------------------------------------------------------------


def test_two_halves_finalize_nothing_and_agree_after_healing(make_world: Any) -> None:
    world = make_world(ratings=(10, 10, 10, 10))
    left, right = Chain(world.genesis), Chain(world.genesis)
    for chain, voters in ((left, range(2)), (right, range(2, 4))):
        for _ in range(10):
            grow(world, 1, voters, chain)
    assert left.state().finality.highest.number == right.state().finality.highest.number == 0
    assert left.head.id != right.head.id
    for here, there in ((left, right), (right, left)):
        for block in reversed(list(there.ancestors(there.head.id))):
            world.give(block, here)
        for vote in list(there.votes):
            world.cast(vote, chain=here)
    assert left.head == right.head
    start = max(left.head.slot, right.head.slot)
    for slot in range(start + 1, start + 12):
        keys = world.drawn(slot, 0, left.state())
        if keys is not None:
            block = world.build(slot=slot, chain=left)
            world.give(block, left)
            world.give(block, right)
        for voter in range(4):
            vote = world.vote(voter, slot, left)
            world.cast(vote, chain=left)
            world.cast(vote, chain=right)
    assert left.head == right.head
    assert left.state().finality.final.number > start
    assert left.final_height == right.final_height > 0


# -- gossip ----------------------------------------------------------------------------------------------


def test_verdicts_on_gossiped_votes(world: Any) -> None:
    world.mine()
    vote = world.vote(0)
    now = world.genesis.slot_start_ms(vote.slot) + DEMO.slot_ms
    assert validate_vote(vote.encoded, world.chain, now).verdict is Verdict.ACCEPT
    world.chain.on_vote(vote, now)
    assert validate_vote(vote.encoded, world.chain, now).verdict is Verdict.IGNORE
    assert validate_vote(vote.encoded[:-1], world.chain, now).verdict is Verdict.REJECT
    forged = replace(vote, signature=bytes(64))
    assert validate_vote(forged.encoded, world.chain, now).verdict is Verdict.REJECT
    upside_down = by(world, 0, vote, link=Link(vote.link.target, vote.link.target))
    assert validate_vote(upside_down.encoded, world.chain, now).verdict is Verdict.REJECT
    far = by(
        world, 0, vote, slot=vote.slot + 9, link=Link(vote.link.source, Checkpoint(vote.slot + 9, bytes(32)))
    )
    assert validate_vote(far.encoded, world.chain, now).verdict is Verdict.IGNORE
    with pytest.raises(InvalidVote, match="future"):
        world.chain.on_vote(far, now)
    old = replace(vote, slot=vote.slot)
    much_later = now + 3 * DEMO.slots_per_epoch * DEMO.slot_ms
    assert validate_vote(old.encoded, Chain(world.genesis), much_later).verdict is Verdict.IGNORE


def test_who_votes_on_another_branch_only_is_ignored_and_nobody_is_blamed(world: Any) -> None:
    """Ratings differ between branches, so an honest peer may pass on a vote that has no weight here."""
    world.mine()
    vote = world.vote(0)
    now = world.genesis.slot_start_ms(vote.slot) + DEMO.slot_ms
    stranger = Keypair.from_seed(b"\x77" * 32)
    other = sign_vote(stranger, world.genesis.chain_id, vote.slot, vote.link, vote.head)
    assert validate_vote(other.encoded, world.chain, now).verdict is Verdict.IGNORE
    with pytest.raises(UnknownVoter):
        world.chain.on_vote(other, now)
    assert not world.chain.votes.has(other)
    wrong = sign_vote(stranger, world.genesis.chain_id, vote.slot + 1, vote.link, vote.head)
    late = now + DEMO.slot_ms
    assert validate_vote(wrong.encoded, world.chain, late).verdict is Verdict.REJECT, "wrong on every branch"


def test_who_is_convicted_in_a_block_has_no_voice_where_its_votes_were_not_seen(world: Any) -> None:
    heavy, light = fork(world)
    other = Chain(world.genesis)
    for block in (world.chain.block(heavy.prev), light, heavy):
        world.give(block, other)
    one, two = backing(world, 0, light), backing(world, 0, heavy)
    world.cast(one, chain=other)
    assert other.head.id == light.block_id
    world.cast(one, two)
    built = world.build()
    convicting = world.reseal(built, Body(evidence=built.body.evidence))
    assert [item.offender for item in convicting.body.evidence] == [world.validators[0].public]
    world.give(convicting, other)
    assert not other.votes.convicted, "it has seen one of the two votes only"
    assert other.head.id == convicting.block_id
    assert world.validators[0].public not in dict(other.votes.heads())
