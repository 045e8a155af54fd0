"""Ratings end by the clock of finalized epochs; until then and after that everybody finds the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chain import buckets, ratings
from chain.draft import Draft
from chain.entries import Validator
from chain.errors import InvalidRating
from chain.forkchoice import Chain
from chain.ledger import Place
from chain.params import DEMO, TOKEN
from chain.roll import Roll
from chain.state import State, genesis_state
from chain.transactions import Register
from chain.transition import apply_tx, open_slot
from chain.voting import owed_vote
from tests.chain import test_finality

SHORT = replace(DEMO, slots_per_epoch=4, window_every_epochs=16)


def rating(state: State | Draft, keys: Any) -> int:
    found = state.validator(keys.public)
    assert found is not None
    return found.rating


def sealed(world: Any, draft: Draft) -> State:
    """The state after a block of which only this draft is known."""
    start = world.state
    place = Place(1, start.slot + 1, 0)
    return draft.seal(bytes(32), place, start.randomness, start.finality, start.tables)


def grow(world: Any, slots: int) -> None:
    """So many slots, in each of which everybody who has a voice proposes and votes."""
    for _ in range(slots):
        table = world.state.table_at(world.state.slot + 1)
        voters = [i for i, keys in enumerate(world.validators) if table.voice(keys.public)]
        test_finality.grow(world, 1, voters)


def at(world: Any, epochs: int) -> Draft:
    """A draft after so many finalized epochs."""
    draft = Draft(world.state)
    draft.epochs = epochs
    return draft


# -- how a rating ends -----------------------------------------------------------------------------------


def test_a_rating_ends_when_the_clock_is_there_and_the_table_follows(make_world: Any) -> None:
    world = make_world(ratings=(10, 20, 30, 40, 50), params=SHORT, rated_until=(2, 3, 0, 0, 0))
    first, second, *_ = world.validators
    ends: dict[int, tuple[int, int]] = {}
    weighed: dict[int, int] = {}
    while world.state.epoch < 10:
        before = world.state
        grow(world, 1)
        if world.state is not before:
            ends.setdefault(before.finality.epochs, (rating(world.state, first), rating(world.state, second)))
            weighed[world.state.epoch] = world.state.table(world.state.epoch).total
    assert [ends[epochs] for epochs in range(5)] == [(10, 20), (10, 20), (0, 20), (0, 0), (0, 0)]
    totals = [weighed[epoch] for epoch in sorted(weighed)]
    assert sorted(set(totals), reverse=True) == [150, 140, 120], "one after the other"
    assert totals == sorted(totals, reverse=True)
    assert world.state.tables.latest.total == 120
    assert world.state.roll.expiring == ()
    replayed = Chain(world.genesis)
    for block in reversed(list(world.chain.ancestors(world.chain.head.id))):
        replayed.on_block(block, world.time_of(block))
    assert replayed.state().root() == world.state.root()


def test_the_end_of_a_rating_is_part_of_the_state(make_world: Any) -> None:
    world = make_world()
    roots = set()
    for until in (5, 6):
        draft = Draft(world.state)
        ratings.rate(draft, world.validators[0].public, 10, until)
        roots.add(sealed(world, draft).root())
    assert len(roots) == 2
    founded = [genesis_state(make_world(rated_until=(until, 0, 0)).genesis) for until in (5, 6)]
    assert [state.roll.expiring[0][0] for state in founded] == [5, 6]


def test_two_thirds_may_end_at_once(make_world: Any) -> None:
    """The link into the first epoch of the new table needs them, who have no voice there any more."""
    world = make_world(ratings=(20, 20, 20, 10, 10, 10), params=SHORT, rated_until=(2, 2, 2, 0, 0, 0))
    for slot in range(1, 61):
        if world.drawn(slot):
            world.give(world.build(slot=slot))
        owed = [owed_vote(keys.keypair, world.state, slot, None) for keys in world.validators]
        world.cast(*filter(None, owed))
    assert world.state.table_at(60).total == 30
    assert len([vote for vote in owed if vote is not None]) == 3, "they leave when they are needed no more"
    assert world.state.finality.final.number >= 56


def test_when_every_rating_ends_the_last_table_stays_and_the_chain_goes_on(make_world: Any) -> None:
    world = make_world(ratings=(10, 10, 10), params=SHORT, rated_until=(1, 1, 1))
    grow(world, 60)
    assert [rating(world.state, keys) for keys in world.validators] == [0, 0, 0]
    assert world.state.tables.latest.total == 0
    assert world.state.table_at(world.state.slot + 100).total == 30
    assert world.state.slot >= 55
    assert world.state.finality.final.number >= world.state.slot - 5


def test_two_that_are_left_do_not_make_a_table(make_world: Any) -> None:
    world = make_world(ratings=(10, 10, 10, 10), params=SHORT, rated_until=(1, 1, 0, 0))
    grow(world, 40)
    assert world.state.tables.latest.total == 20
    assert world.state.table_at(world.state.slot).total == 40
    assert world.state.finality.final.number >= world.state.slot - 5


def test_no_block_walks_through_the_whole_state(make_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(ratings=(10, 10, 10, 10), params=SHORT, rated_until=(1, 2, 0, 0))
    monkeypatch.setattr(buckets, "walk", None)
    grow(world, 30)
    assert rating(world.state, world.validators[1]) == 0


# -- giving ratings --------------------------------------------------------------------------------------


def test_a_newer_rating_puts_off_the_end(make_world: Any) -> None:
    world = make_world(rated_until=(3, 3, 0))
    public = world.validators[0].public
    draft = at(world, 2)
    ratings.rate(draft, public, 77, 9)
    state = sealed(world, draft)
    assert state.tables.latest.get(public).rating == 77
    assert state.roll.expiring == ((3, world.validators[1].public), (9, public))
    for epochs, left in ((3, [77, 0, 10]), (8, [77, 0, 10]), (9, [0, 0, 10])):
        later = Draft(state)
        later.epochs = epochs
        ratings.expire(later)
        assert [rating(later, keys) for keys in world.validators] == left


def test_a_rating_of_nothing_has_no_end(world: Any) -> None:
    draft = Draft(world.state)
    ratings.rate(draft, world.validators[0].public, 0, 5)
    assert draft.roll.expiring == ()
    assert rating(draft, world.validators[0]) == 0


@pytest.mark.parametrize(
    ("given", "until", "says"),
    [
        (-1, 5, "rating must be"),
        (2**32, 5, "rating must be"),
        (10, 0, "ends after"),
        (10, 2, "ends after"),
        (10, 3 + DEMO.rating_epochs, "until epoch"),
    ],
)
def test_ratings_that_nobody_may_be_given(world: Any, given: int, until: int, says: str) -> None:
    draft = at(world, 2)
    public = world.validators[0].public
    with pytest.raises(InvalidRating, match=says):
        ratings.rate(draft, public, given, until)
    assert rating(draft, world.validators[0]) == 10
    ratings.rate(draft, public, 2**32 - 1, 2 + DEMO.rating_epochs)


def test_strangers_and_convicts_get_no_rating(world: Any) -> None:
    """A convict needs a new registration, with a bond, once its bar is over."""
    convict, sponsor = world.validators[0], world.users[0]
    with pytest.raises(InvalidRating, match="no validator"):
        ratings.rate(Draft(world.state), sponsor.public, 10, 5)
    draft = Draft(world.state)
    entry = draft.validator(convict.public)
    draft.put_validator(replace(entry, rating=0, barred_until=2))
    draft.epochs = 2
    with pytest.raises(InvalidRating, match="convicted"):
        ratings.rate(draft, convict.public, 10, 5)
    wish = Register(convict.public, convict.vrf_public, "again", TOKEN, 1)
    consent = convict.keypair.sign(wish.signing_bytes(world.genesis.chain_id, sponsor.public))
    apply_tx(draft, world.tx(sponsor, replace(wish, consent=consent)), 1, 1, sponsor.public)
    ratings.rate(draft, convict.public, 10, 5)
    assert rating(draft, convict) == 10


# -- the index -------------------------------------------------------------------------------------------

entry = st.builds(
    lambda number, rating, until: Validator(
        bytes([number]) * 32, bytes([number]) * 32, rating, rated_until=until
    ),
    st.integers(0, 5), st.integers(0, 2), st.integers(0, 4),
)  # fmt: skip


@given(st.lists(st.tuples(st.lists(entry, max_size=4), st.booleans()), max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_roll_is_what_the_entries_say(world: Any, trials: list[tuple[list[Validator], bool]]) -> None:
    draft = Draft(world.state)
    known = {found.public: found for found in world.state.validators()}
    for entries, kept in trials:
        trial = Draft(draft)
        for each in entries:
            trial.put_validator(each)
        if kept:
            trial.commit()
            known.update({each.public: each for each in entries})
        expected = sorted((e.rated_until, e.public) for e in known.values() if e.rating and e.rated_until)
        assert draft.roll == Roll(tuple(sorted(known)), tuple(expected))
    state = sealed(world, draft)
    assert state.roll == Roll.of(state.validators()) == draft.roll


def test_a_block_opens_with_what_ended(make_world: Any) -> None:
    """For the proposer, for who checks and for the mempool alike: they all begin with `open_slot`."""
    world = make_world(ratings=(10, 10, 10, 10), params=SHORT, rated_until=(1, 0, 0, 0))
    while world.state.finality.epochs < 1:
        grow(world, 1)
    assert rating(world.state, world.validators[0]) == 10
    assert rating(open_slot(world.state, world.state.slot + 1), world.validators[0]) == 0
