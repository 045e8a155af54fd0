"""What blocks and votes earn, when it can be spent, and how it is lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chain import rewards
from chain.draft import Draft
from chain.entries import Vesting, vesting_key
from chain.errors import InvalidTransaction
from chain.mempool import Mempool
from chain.params import DEMO, TOKEN, ChainParams
from chain.state import State, genesis_state
from chain.transactions import Transfer
from chain.transition import apply_tx, check_tx

POOL = TOKEN * 40 // 100
PERIOD = DEMO.evidence_epochs


def aged(state: State, epochs: int) -> Draft:
    """A draft for the block after so many finalized epochs."""
    draft = Draft(state)
    draft.epochs = epochs
    return draft


def held(world: Any, number: int) -> int:
    amount: int = world.state.vesting(world.validators[number].public).held
    return amount


def test_voters_share_the_pool_by_weight(make_world: Any) -> None:
    world = make_world(ratings=(10, 20, 70))
    world.mine()
    before = [held(world, number) for number in range(3)]
    world.all_vote()
    block = world.mine()
    gained = [held(world, number) - before[number] for number in range(3)]
    proposer = next(i for i, keys in enumerate(world.validators) if keys.public == block.sealed.proposer)
    gained[proposer] -= POOL
    assert gained == [POOL * 10 // 100, POOL * 20 // 100, POOL * 70 // 100]
    assert world.state.supply().issued == 3 * POOL
    assert world.state.supply_ok()


def test_what_nobody_earns_is_not_issued(make_world: Any) -> None:
    world = make_world(ratings=(10, 20, 70))
    world.mine()
    world.cast(world.vote(1))
    world.mine()
    assert world.state.supply().issued == 2 * POOL + POOL * 20 // 100


def test_a_vote_is_paid_once(world: Any) -> None:
    world.mine()
    world.all_vote()
    world.mine()
    issued = world.state.supply().issued
    world.mine()
    assert world.state.supply().issued == issued + POOL


def test_two_checkpoints_in_one_block_pay_one_pool(world: Any) -> None:
    world.mine()
    world.all_vote()
    world.mine()
    vote = world.vote(0)
    world.cast(vote)
    twice = rewards.voter_rewards([vote, replace(vote, slot=vote.slot + 1)], DEMO, world.state.table)
    assert twice == {vote.voter: POOL * 10 // 30}


def test_who_is_barred_earns_nothing(world: Any) -> None:
    draft = Draft(world.state)
    founder = draft.validator(world.validators[0].public)
    assert founder is not None
    draft.put_validator(replace(founder, barred_until=1))
    rewards.issue(draft, founder.public, [], world.state.table)
    assert draft.books.issued == 0
    draft.epochs = 1
    rewards.issue(draft, founder.public, [], world.state.table)
    assert draft.books.issued == POOL


def test_a_reward_vests_linearly_and_is_spent_with_a_transaction(world: Any) -> None:
    proposer = world.mine().sealed.proposer
    keys = world.by_public[proposer].keypair
    for epochs, free in ((0, 0), (1, POOL // PERIOD), (PERIOD // 2, POOL // 2), (PERIOD, POOL), (99, POOL)):
        assert abs(rewards.vested(world.state, epochs, proposer) - free) <= 1
        assert rewards.epochs_left(world.state, epochs, proposer) == max(PERIOD - epochs, 0)
    tx = world.tx(keys, Transfer(world.users[0].public, POOL // 4))
    with pytest.raises(InvalidTransaction, match="fee"):
        check_tx(world.state, tx, 9)
    draft = aged(world.state, PERIOD // 2)
    with pytest.raises(InvalidTransaction, match="transfer"):
        apply_tx(draft, world.tx(keys, Transfer(world.users[0].public, POOL // 2)), 9, 9, bytes(32))
    assert draft.vesting(proposer).held == POOL  # a transaction that fails releases nothing
    apply_tx(draft, tx, 9, 9, bytes(32))
    assert draft.vesting(proposer).held == POOL // 2
    assert draft.account(proposer).balance == POOL // 2 - POOL // 4 - DEMO.min_fee
    books = draft.books
    assert books.balances + books.vesting == world.genesis.supply + books.issued


def test_rewards_that_have_vested_count_as_means_in_the_pool(world: Any) -> None:
    proposer = world.mine().sealed.proposer
    keys = world.by_public[proposer].keypair
    tx = world.tx(keys, Transfer(world.users[0].public, 1))
    pool = Mempool()
    with pytest.raises(InvalidTransaction, match="cost"):
        pool.add(tx, world.state, world.state.slot + 1)
    later = world.state
    later.finality = replace(later.finality, epochs=PERIOD)
    assert pool.add(tx, later, later.slot + 1)


def test_what_has_vested_is_kept_and_the_rest_is_lost(world: Any) -> None:
    proposer = world.mine().sealed.proposer
    draft = aged(world.state, PERIOD // 4)
    assert rewards.forfeit(draft, proposer) == POOL - POOL // 4
    assert draft.account(proposer).balance == POOL // 4
    assert draft.vesting(proposer) == Vesting()
    assert draft.books.vesting == 0


LONG = replace(DEMO, evidence_epochs=1000, bar_epochs=3000)


def test_rewards_of_a_twelfth_of_the_period_vest_together_from_its_end(make_world: Any) -> None:
    world = make_world(params=LONG)
    draft, public = Draft(world.state), world.validators[0].public
    width = LONG.evidence_epochs // 12
    for epochs in (5, 40, width):
        draft.epochs = epochs
        rewards.issue(draft, public, [], world.state.table)
        assert draft.vesting(public).held == draft.books.issued
    assert [(grant.start, grant.amount) for grant in draft.vesting(public).grants] == [(width, 3 * POOL)]
    draft.epochs = width + LONG.evidence_epochs // 2
    rewards.release(draft, public)
    assert draft.account(public).balance == 3 * POOL // 2


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    params=st.sampled_from([DEMO, LONG]),
    steps=st.lists(st.tuples(st.integers(0, 90), st.booleans()), min_size=1, max_size=60),
)
def test_nothing_vests_early_and_nothing_is_lost(
    make_world: Any, params: ChainParams, steps: list[tuple[int, bool]]
) -> None:
    world = make_world(params=params)
    draft, public = Draft(genesis_state(world.genesis)), world.validators[0].public
    period, earned = params.evidence_epochs, []
    for pause, earns in steps:
        draft.epochs += pause
        if earns:
            rewards.issue(draft, public, [], world.state.table)
            earned.append(draft.epochs)
        else:
            rewards.release(draft, public)
        free = draft.account(public).balance
        assert free + draft.vesting(public).held == draft.books.issued == POOL * len(earned)
        linear = sum(POOL * min(draft.epochs - epoch, period) / period for epoch in earned)
        late = sum(
            POOL * min(max(draft.epochs - epoch - period // 12, 0), period) / period for epoch in earned
        )
        if not earns:
            assert late - 1 <= free <= linear + len(earned)
        assert len(draft.vesting(public).grants) <= 14
    draft.epochs += period + period // 12
    rewards.release(draft, public)
    assert draft.account(public).balance == POOL * len(earned)
    assert draft.entry(vesting_key(public)) in (None, Vesting())
