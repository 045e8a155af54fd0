"""An idle network: who speaks when, and that all that matters becomes final as soon as on a busy one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chain.content import closing_slots, has_content, heartbeat_slot, unsettled
from chain.entries import JobStatus
from chain.idle import brings_forward, wants_block, wants_vote
from chain.mempool import Mempool
from chain.params import DEMO
from chain.signing import SigningRecord
from chain.transactions import JobOpen
from chain.votes import Checkpoint, Link, Vote, sign_vote
from chain.voting import owed_vote

EACH = replace(DEMO, window_every_epochs=0)
"""Without rating windows, whose borders have blocks of their own."""
EVERY_SECOND = replace(EACH, checkpoint_slots=2)
PER_EPOCH = DEMO.slots_per_epoch


class Net:
    """Validators with one chain and one pool, slot after slot.

    Args:
        world: of `conftest`.
        idle: whether leaders follow the idle rule; else each slot has a block.
        silent: whether voters do; else each slot has all votes.
    """

    def __init__(self, world: Any, idle: bool = True, silent: bool = True) -> None:
        self.world, self.idle, self.silent, self.slot = world, idle, silent, 0
        self.pool = Mempool()
        self.records = [SigningRecord() for _ in world.validators]
        self.away: set[int] = set()
        self.votes: list[Vote] = []

    @property
    def blocks(self) -> list[int]:
        """Slots of the head's branch."""
        chain = self.world.chain
        return sorted(
            self.world.genesis.slot_at(b.sealed.timestamp_ms) for b in chain.ancestors(chain.head.id)
        )

    def submit(self, *txs: Any) -> None:
        for tx in txs:
            self.pool.add(tx, self.world.state, self.slot + 1)

    def run_to(self, slot: int) -> None:
        """The slots up to that one."""
        while self.slot < slot:
            self.slot += 1
            self._propose()
            for voter in range(len(self.records)):
                if voter not in self.away and (not self.silent or wants_vote(self.world.chain)):
                    self._vote(voter)

    def run_until(self, condition: Callable[[], bool], slots: int = 12) -> int:
        """Slots that it took; the condition is looked at after each."""
        begun = self.slot
        while not condition():
            assert self.slot < begun + slots, f"not within {slots} slots: blocks {self.blocks}"
            self.run_to(self.slot + 1)
        return self.slot - begun

    def _propose(self) -> None:
        world, chain = self.world, self.world.chain
        if self.idle and not wants_block(chain, self.pool, self.slot):
            return
        away = {world.validators[voter].public for voter in self.away}
        for rank in range(world.genesis.params.ranks):
            keys = world.drawn(self.slot, rank)
            if keys is None or keys.public in away:
                continue
            txs = self.pool.select(world.state, self.slot)
            block = world.build(txs, self.pool.select_records(world.state, self.slot), self.slot, rank)
            world.give(block)
            self.pool.on_head([block], [], world.state, self.slot)
            return

    def _vote(self, voter: int) -> None:
        record, keys = self.records[voter], self.world.validators[voter].keypair
        made = owed_vote(keys, self.world.state, self.slot, record.link)
        if made is not None and record.may_vote(made):
            self.records[voter] = record.voted(made)
            self.votes.append(made)
            self.world.cast(made)


def final_slot(net: Net) -> int:
    return int(net.world.state.finality.final_slot)


@pytest.fixture(params=[EACH, EVERY_SECOND], ids=["each slot", "every second slot"])
def net(request: Any, make_world: Any) -> Net:
    return Net(make_world(params=request.param))


def test_an_idle_epoch_has_a_heartbeat_and_the_two_blocks_that_make_it_final(net: Net) -> None:
    net.run_to(11 * PER_EPOCH - 1)
    per_epoch = Counter(slot // PER_EPOCH for slot in net.blocks)
    # The network's first three blocks, then three at the end of each epoch, the last in its last slot.
    assert per_epoch == {0: 6, **dict.fromkeys(range(1, 11), 3)}
    closing = closing_slots(net.world.genesis.params)
    for epoch in range(11):
        beats = [slot for slot in net.blocks if slot // PER_EPOCH == epoch][-3:]
        assert beats[0] == (epoch + 1) * PER_EPOCH - closing
        assert beats[-1] == (epoch + 1) * PER_EPOCH - 1
    assert final_slot(net) == 11 * PER_EPOCH - closing
    # The clock of bars, vesting and evidence: something became final in each epoch after that of the genesis.
    assert net.world.state.finality.epochs == 10
    assert net.world.state.finality.epochs == net.world.state.epoch


def test_a_rating_window_that_nobody_takes_part_in_has_two_borders(make_world: Any) -> None:
    """Its announcement and the end of commitments, each with the blocks that make it final; its epochs have
    their heartbeats besides.
    """
    net = Net(make_world(params=DEMO))
    net.run_to(8 * PER_EPOCH - 1)
    per_epoch = Counter(slot // PER_EPOCH for slot in net.blocks)
    assert per_epoch == {0: 6, 1: 3, 2: 3, 3: 6, 4: 6, 5: 3, 6: 3, 7: 6}
    assert [slot for slot in net.blocks if 3 <= slot // PER_EPOCH <= 4] == [
        56, 57, 58, 61, 62, 63, 73, 74, 75, 77, 78, 79,
    ]  # fmt: skip


def test_an_idle_network_hardly_votes(net: Net) -> None:
    net.run_to(11 * PER_EPOCH - 1)
    voters = len(net.world.validators)
    # Until the second block after the heartbeat is there; that one is not voted for.
    per_heartbeat = net.world.genesis.params.checkpoint_slots + 1
    expected = {epoch: voters * per_heartbeat * (2 if epoch == 0 else 1) for epoch in range(11)}
    assert Counter(vote.slot // PER_EPOCH for vote in net.votes) == expected


@pytest.mark.parametrize("at", range(5 * PER_EPOCH + 2, 5 * PER_EPOCH + 9))
def test_a_lone_transaction_is_final_as_soon_as_on_a_busy_chain(net: Net, make_world: Any, at: int) -> None:
    busy = Net(make_world(params=net.world.genesis.params), idle=False, silent=False)
    waits = []
    for each in (net, busy):
        each.run_to(at - 1)
        each.submit(each.world.transfer(0, 1, 1000))
        each.run_to(at)
        assert each.blocks[-1] == at
        assert not len(each.pool)
        waits.append(each.run_until(lambda each=each: final_slot(each) >= at))
    assert waits[0] == waits[1] <= 4
    assert len([slot for slot in net.blocks if slot >= at]) == 3
    net.run_to(6 * PER_EPOCH - closing_slots(net.world.genesis.params) - 1)
    assert len([slot for slot in net.blocks if slot >= at]) == 3, "and then it is silent again"


def test_every_slot_has_a_block_where_something_always_waits(net: Net) -> None:
    for slot in range(1, 3 * PER_EPOCH):
        net.submit(net.world.transfer(0, 1, 10))
        net.run_to(slot)
    drawn = [slot for slot in range(1, 3 * PER_EPOCH) if slot in net.blocks]
    assert len(drawn) >= 3 * PER_EPOCH - 3  # a slot's three ranks may all be one key's, which has the lowest
    assert final_slot(net) >= 3 * PER_EPOCH - 5


def test_a_heartbeat_is_made_up_for_in_the_next_slot_that_has_a_leader(net: Net) -> None:
    net.run_to(3 * PER_EPOCH)
    due = heartbeat_slot(net.world.state)
    net.away = {0, 1, 2}
    net.run_to(due + 6)
    assert net.blocks[-1] < due
    net.away = set()
    net.run_to(due + 12)
    assert next(slot for slot in net.blocks if slot >= due) == due + 7
    assert final_slot(net) >= due + 7


def test_without_a_quorum_only_heartbeats_come_and_all_is_final_soon_after_it_is_back(net: Net) -> None:
    net.run_to(2 * PER_EPOCH)
    net.away = {2}  # two of three equal voters are just two thirds
    net.submit(net.world.transfer(0, 1, 1000))
    net.run_to(net.slot + 6)
    assert not unsettled(net.world.state, net.world.chain.content_slot())
    net.away = {1, 2}
    net.submit(net.world.transfer(0, 1, 1000))
    net.run_until(lambda: not len(net.pool), 30)
    begun, content = net.slot, net.world.chain.content_slot()
    net.run_to(begun + 4 * PER_EPOCH)
    since = [slot for slot in net.blocks if slot > begun]
    # Votes without a quorum are no reason for a block; each epoch has a heartbeat.
    assert 3 <= len(since) <= 5
    assert final_slot(net) < content
    net.away = set()
    net.run_until(lambda: final_slot(net) >= content, 6)
    net.run_until(lambda: not wants_vote(net.world.chain), 6)


def test_votes_that_justify_only_what_lies_below_the_content_bring_nothing(make_world: Any) -> None:
    net = Net(make_world(params=EVERY_SECOND))
    at = 3 * PER_EPOCH + 5  # odd: the votes of this slot are about the checkpoint before it
    net.run_to(at - 1)
    net.submit(net.world.transfer(0, 1, 1000))
    net.run_to(at)
    state, known = net.world.state, net.world.chain.votes
    below = [vote for vote in net.votes if vote.slot == at]
    assert len(below) == 3
    assert all(vote.link.target.number * 2 < at for vote in below)
    assert not brings_forward(state, at + 1, known, at)
    net.run_to(at + 1)
    assert net.blocks[-1] == at
    assert brings_forward(state, at + 2, known, at)
    net.run_to(at + 2)
    assert net.blocks[-1] == at + 2


def test_what_makes_earlier_content_final_is_worth_a_block_whatever_came_later(net: Net) -> None:
    at = 3 * PER_EPOCH + 2
    net.run_to(at - 1)
    net.submit(net.world.transfer(0, 1, 1000))
    step = net.world.genesis.params.checkpoint_slots
    net.run_to(at + step)  # with the votes from the block's checkpoint to the next
    state, known = net.world.state, net.world.chain.votes
    assert state.finality.final_slot < at
    assert brings_forward(state, at + step + 1, known, content_slot=at + 5)
    before = [vote for vote in known if vote.slot < at + step]
    assert not brings_forward(state, at + step + 1, before, content_slot=at + 5)


def test_what_a_vote_only_block_brings_counts_by_the_quorum(net: Net) -> None:
    net.run_to(2 * PER_EPOCH)
    at = net.slot + 2
    net.run_to(at - 1)
    net.submit(net.world.transfer(0, 1, 1000))
    net.away = {1, 2}  # whoever leads, at most one votes
    net.run_until(lambda: not len(net.pool), 30)
    at = net.slot
    assert wants_vote(net.world.chain)
    assert not brings_forward(net.world.state, at + 1, net.world.chain.votes, at)
    assert not wants_block(net.world.chain, net.pool, at + 1)


def test_a_job_that_is_due_moves_on_without_anybodys_transaction(net: Net) -> None:
    net.run_to(2 * PER_EPOCH)
    requester = net.world.users[0]
    before = net.world.balance(requester.public)
    deadline = net.slot + 10
    opening = net.world.tx(requester, JobOpen(b"\x09" * 20, b"\x01" * 32, 3, 100, 10**8, deadline))
    net.submit(opening)
    net.run_to(deadline)
    assert net.blocks[-1] < deadline
    net.run_to(deadline + 1)
    job = net.world.state.job(opening.id)
    assert job.status is JobStatus.CHALLENGE
    assert net.world.chain.content_slot() == deadline + 1
    net.run_to(job.challenge_end + 1)
    assert net.world.state.job(opening.id).status is JobStatus.REFUNDED
    assert net.world.balance(requester.public) == before - opening.fee
    closed = net.world.chain.content_slot()
    assert closed == net.blocks[-1] == job.challenge_end + 1
    net.run_until(lambda: final_slot(net) >= closed)


def test_evidence_is_a_reason_until_a_block_has_it(net: Net) -> None:
    net.run_to(2 * PER_EPOCH)
    world, keys = net.world, net.world.validators[2]
    honest = next(vote for vote in reversed(net.votes) if vote.voter == keys.public)
    other = Link(honest.link.source, Checkpoint(honest.link.target.number, b"\x07" * 32))
    assert not wants_block(world.chain, net.pool, net.slot + 1)
    lie = sign_vote(keys.keypair, world.genesis.chain_id, honest.slot, other, honest.head)
    world.chain.on_vote(lie, world.genesis.slot_start_ms(net.slot + 1))
    assert wants_block(world.chain, net.pool, net.slot + 1)
    net.away = {2}
    net.run_until(lambda: world.state.validator(keys.public).rating == 0)
    block = world.chain.block(world.chain.head.id)
    assert block.body.evidence
    assert has_content(world.chain.state(block.prev), block)
    net.run_until(lambda: not wants_vote(world.chain))
    assert not wants_block(world.chain, net.pool, net.slot + 1)


def test_votes_of_who_is_never_silent_are_no_reason_where_all_is_final(net: Net) -> None:
    net.silent = False
    net.run_to(4 * PER_EPOCH - 1)
    assert len(net.votes) > 3 * (4 * PER_EPOCH - 5)
    assert Counter(slot // PER_EPOCH for slot in net.blocks) == {0: 6, 1: 3, 2: 3, 3: 3}


def test_a_round_record_is_a_reason(job_world: Any) -> None:
    job = job_world
    net = Net(job.world)
    net.slot = job.world.state.slot
    net.run_until(lambda: not wants_vote(job.world.chain))
    assert not wants_block(job.world.chain, net.pool, net.slot + 1)
    net.pool.add_record(job.record(0, [job.receipt(0, 0)]), job.world.state)
    assert wants_block(job.world.chain, net.pool, net.slot + 1)
    net.run_to(net.slot + 1)
    assert job.world.chain.content_slot() == net.slot
    assert not net.pool.records()


def test_a_transaction_that_cannot_be_included_is_no_reason(net: Net) -> None:
    net.run_to(2 * PER_EPOCH)
    net.submit(net.world.transfer(0, 1, 1000, nonce=3))
    assert len(net.pool) == 1
    assert not wants_block(net.world.chain, net.pool, net.slot + 1)
    net.submit(net.world.transfer(1, 0, 1000, until=net.slot + 1))
    assert wants_block(net.world.chain, net.pool, net.slot + 1)
    assert not wants_block(net.world.chain, net.pool, net.slot + 2)  # it has expired


def test_epochs_without_any_block_keep_seed_and_table(net: Net) -> None:
    net.run_to(4 * PER_EPOCH)
    net.away = {0, 1, 2}
    net.run_to(9 * PER_EPOCH)
    before = net.world.state
    assert before.epoch < 4
    net.away = set()
    expected = [(before.seed(epoch), before.table(epoch)) for epoch in (9, 10)]
    net.run_until(lambda: net.world.state.epoch == 9)
    after = net.world.state
    assert [(after.seed(epoch), after.table(epoch)) for epoch in (9, 10)] == expected
    net.run_until(lambda: final_slot(net) >= 9 * PER_EPOCH)
    assert after.finality.epochs == before.finality.epochs
    assert net.world.state.finality.epochs == before.finality.epochs + 1
