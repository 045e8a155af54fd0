"""A network that is cut in two and meets again, in virtual time: two chains, each with its validators."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chain.forkchoice import Chain
from chain.params import DEMO
from chain.recent import Recent
from chain.signing import SigningRecord
from chain.votes import Vote, conflict
from chain.voting import owed_vote
from tests.chain.test_sync import Pump, serve


class Halves:
    """Two views of one network.

    Args:
        world: makes the blocks.
        left: validators on the left side; the others are on the right.
    """

    def __init__(self, world: Any, left: int) -> None:
        self.world = world
        outputs: Recent[bytes, bytes] = Recent(4096)
        self.chains = [Chain(world.genesis, outputs=outputs), Chain(world.genesis, outputs=outputs)]
        self.sides = [range(left), range(left, len(world.validators))]
        self.records = [SigningRecord() for _ in world.validators]
        self.signed: list[Vote] = []

    def slot(self, slot: int, side: int) -> None:
        """One slot of one side."""
        self._slot(slot, self.sides[side], [self.chains[side]])

    def together(self, slot: int) -> None:
        """One slot of both, with one head."""
        self._slot(slot, range(len(self.world.validators)), self.chains)

    def _slot(self, slot: int, members: range, told: list[Chain]) -> None:
        """The first drawn proposer's block, then the voters' votes, by what the first of the chains shows."""
        world, chain = self.world, told[0]
        ours = [world.validators[i].public for i in members]
        for rank in range(world.genesis.params.ranks):
            keys = world.drawn(slot, rank, chain.state())
            if keys is not None and keys.public in ours:
                block = world.build(slot=slot, rank=rank, chain=chain)
                for each in told:
                    world.give(block, each)
                break
        for voter in members:
            record = self.records[voter]
            vote = owed_vote(world.validators[voter].keypair, chain.state(), slot, record.link)
            if vote is not None and record.may_vote(vote):
                self.records[voter] = record.voted(vote)
                self.signed.append(vote)
                for each in told:
                    world.cast(vote, chain=each)

    def meet(self) -> None:
        """Both sync from each other, as nodes do that have not heard a single vote or block by gossip."""
        pumps = [Pump(chain) for chain in self.chains]
        for here, there in ((0, 1), (1, 0)):
            pumps[here].join("there", serve(self.chains[there]))
        for _ in range(3):
            for pump in pumps:
                pump.wait(30)
        assert [pump.distrusted for pump in pumps] == [{}, {}]

    def final(self) -> list[int]:
        return [chain.state().finality.final.number for chain in self.chains]


@pytest.mark.slow
def test_an_even_partition_of_300_slots_finalizes_nothing_and_heals(make_world: Any) -> None:
    """It is longer than the 256 blocks that are kept of final history, and than any epoch window."""
    halves = Halves(make_world(ratings=(10, 10, 10, 10)), 2)
    for slot in range(1, 421):
        for side in (0, 1):
            halves.slot(slot, side)
    left, right = halves.chains
    assert min(left.head.height, right.head.height) > 256
    assert halves.final() == [0, 0]
    assert left.canonical_id(1) != right.canonical_id(1)
    halves.meet()
    assert left.head == right.head
    for slot in range(421, 433):
        halves.together(slot)
    assert left.head == right.head
    assert min(halves.final()) >= 425
    assert left.final_height == right.final_height > 256
    assert left.state().supply_ok()
    for votes in ([v for v in halves.signed if v.voter == k.public] for k in halves.world.validators):
        recent = votes[-40:]
        assert not [(a, b) for a in votes for b in recent if conflict(a, b)]


@pytest.mark.slow
def test_a_partition_that_outlives_rating_expiry_stalls_and_heals(make_world: Any) -> None:
    """Two ratings of each side would have run out early in it. Their clock stands still meanwhile, so nobody
    loses a rating to the partition; once it is over time goes on and they end as they had to.
    """
    short = replace(DEMO, slots_per_epoch=4, window_every_epochs=16)
    world = make_world(ratings=(10,) * 6, params=short, rated_until=(4, 4, 0, 4, 4, 0))
    halves = Halves(world, 3)
    for slot in range(1, 6):
        halves.together(slot)
    for slot in range(6, 66):
        for side in (0, 1):
            halves.slot(slot, side)
    began = max(halves.final())
    assert began <= 6
    for chain in halves.chains:
        state = chain.state()
        assert state.epoch - 2 > 3 * 4, "several times as long as the ratings had left"
        assert state.finality.epochs <= 1
        assert [entry.rating for entry in state.validators()] == [10] * 6
        assert state.table(state.epoch + 9).total == 60
    halves.meet()
    assert halves.chains[0].head == halves.chains[1].head
    for slot in range(66, 78):
        halves.together(slot)
    state = halves.chains[0].state()
    assert min(halves.final()) >= 66, "everybody's vote still counts"
    for slot in range(78, 110):
        halves.together(slot)
    one, other = (chain.state() for chain in halves.chains)
    assert one.root() == other.root()
    assert one.finality.epochs >= 4
    left = {world.validators[i].public for i in (2, 5)}
    assert {entry.public for entry in one.validators() if entry.rating} == left
    assert one.tables.latest.total == 20
    assert min(halves.final()) >= 106, "two keys are no table: the last one goes on"


@pytest.mark.slow
def test_seventy_per_cent_go_on_and_the_others_take_what_they_made_final(make_world: Any) -> None:
    """The 30 % went on for longer, so their chain is heavier; what is final counts more."""
    halves = Halves(make_world(ratings=(24, 23, 23, 15, 15)), 3)
    for slot in range(1, 21):
        halves.slot(slot, 0)
    for slot in range(1, 150):
        halves.slot(slot, 1)
    large, small = halves.chains
    assert halves.final()[0] >= 16
    assert halves.final()[1] == 0
    assert small.head.weight > large.head.weight
    head = large.head
    halves.meet()
    assert large.head == small.head == head
    assert small.final_height == large.final_height > 0
