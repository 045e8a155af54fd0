"""What a validator votes for, slot after slot, where a checkpoint comes every second slot as on `main`."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from chain.forkchoice import Chain
from chain.params import DEMO
from chain.signing import SigningRecord
from chain.votes import Checkpoint, Vote, conflict
from chain.voting import owed_vote

EVERY_SECOND = replace(DEMO, checkpoint_slots=2)


class Voters:
    """Validators that vote at half of every slot as their signing records let them."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.records = [SigningRecord() for _ in world.validators]
        self.cast: list[Vote] = []

    def vote(self, voter: int, slot: int, chain: Chain) -> Vote | None:
        record = self.records[voter]
        made = owed_vote(self.world.validators[voter].keypair, chain.state(), slot, record.link)
        if made is None or not record.may_vote(made):
            return None
        self.records[voter] = record.voted(made)
        self.cast.append(made)
        self.world.cast(made, chain=chain)
        return made

    def slots(self, count: int) -> None:
        """A block in each slot that has a proposer, then everybody's vote."""
        world = self.world
        last = world.chain.head.slot + count
        for slot in range(world.chain.head.slot + 1, last + 1):
            rank = next((r for r in range(world.genesis.params.ranks) if world.drawn(slot, r)), None)
            if rank is not None:
                world.give(world.build(slot=slot, rank=rank))
            for voter in range(len(world.validators)):
                self.vote(voter, slot, world.chain)


@pytest.fixture
def voters(make_world: Any) -> Voters:
    return Voters(make_world(params=EVERY_SECOND))


def test_everybody_votes_in_every_slot_and_never_contradicts_itself(voters: Voters) -> None:
    voters.slots(24)
    # All but the first slot, where the only checkpoint is the genesis, which is justified.
    assert len(voters.cast) == 3 * 23
    by_voter = [[v for v in voters.cast if v.voter == keys.public] for keys in voters.world.validators]
    for votes in by_voter:
        assert not [(a, b) for a in votes for b in votes if conflict(a, b)]
        for one, other in pairwise(votes):
            if one.link.target.number == other.link.target.number:
                assert one.link == other.link


def test_blocks_become_final_within_three_checkpoints(voters: Voters) -> None:
    for count in range(24):
        voters.slots(1)
        finality = voters.world.state.finality
        if count > 6:
            assert finality.final.number >= voters.world.state.slot // 2 - 2
    assert voters.world.chain.final_height >= voters.world.chain.head.height - 5


def test_a_voter_whose_target_is_justified_still_gives_its_head(voters: Voters) -> None:
    """Its second vote of the interval moves the head, though the source has moved on meanwhile."""
    voters.slots(8)
    world = voters.world
    slot = world.state.slot + 1
    assert slot % 2 == 1
    rank = next(r for r in range(3) if world.drawn(slot, r))
    before = voters.records[0].link
    block = world.build(slot=slot, rank=rank)
    world.give(block)
    assert before is not None
    assert world.state.finality.highest == before.target, "the votes of the last slot are in this block"
    vote = voters.vote(0, slot, world.chain)
    assert vote is not None
    assert (vote.link, vote.head) == (before, block.block_id)


def test_who_comes_late_into_an_interval_votes_from_the_checkpoint_before(voters: Voters) -> None:
    voters.slots(8)
    world = voters.world
    slot = world.state.slot + 1
    rank = next(r for r in range(3) if world.drawn(slot, r))
    world.give(world.build(slot=slot, rank=rank))
    finality = world.state.finality
    assert finality.highest.number == slot // 2
    vote = owed_vote(world.validators[0].keypair, world.state, slot, None)
    assert vote is not None
    assert vote.link.target == finality.highest
    assert vote.link.source == finality.justified[-2]


def test_nobody_votes_before_the_heads_slot_or_without_a_voice(voters: Voters) -> None:
    voters.slots(4)
    world = voters.world
    keys = world.validators[0].keypair
    assert owed_vote(keys, world.state, world.state.slot - 1, None) is None
    assert owed_vote(world.users[0], world.state, world.state.slot + 1, None) is None


def test_a_voter_whose_checkpoint_lost_follows_the_head_with_its_old_link(voters: Voters) -> None:
    """The first block of the interval came late: who voted without it may not take its link back."""
    voters.slots(8)
    world = voters.world
    while world.state.slot % 2:
        voters.slots(1)
    slot = world.state.slot + 2
    number = slot // 2
    without = owed_vote(world.validators[0].keypair, world.state, slot, None)
    assert without is not None
    record = SigningRecord().voted(without)
    world.give(world.build(slot=slot, rank=next(r for r in range(3) if world.drawn(slot, r))))
    fresh = owed_vote(world.validators[0].keypair, world.state, slot + 1, None)
    assert fresh is not None
    assert fresh.link.target == Checkpoint(number, world.chain.head.id) != without.link.target
    assert not record.may_vote(fresh)
    vote = owed_vote(world.validators[0].keypair, world.state, slot + 1, record.link)
    assert vote is not None
    assert (vote.link, vote.head) == (without.link, world.chain.head.id)
    assert record.may_vote(vote)
    world.cast(vote)
