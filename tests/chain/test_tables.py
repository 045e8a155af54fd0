"""Which weight table holds when: the lag, the freeze while nothing is final, and what is forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from chain.codec import MAX_ITEMS
from chain.tables import LOOKAHEAD, Tables
from chain.weights import Weight, WeightTable


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def table(*ratings: int) -> WeightTable:
    return WeightTable(tuple(Weight(key(i), key(i), rating) for i, rating in enumerate(ratings, 1) if rating))


def rated(tables: Tables, slot: int, **ratings: int) -> Tables:
    """With the rating of `v1` and so on from the block of that slot on."""
    entries = {key(int(name[1:])): rating for name, rating in ratings.items()}
    return tables.rated(slot, {who: Weight(who, who, rating) for who, rating in entries.items()})


@pytest.fixture
def founded() -> Tables:
    return Tables.at_genesis(table(10, 10, 10, 10))


def test_a_rating_holds_three_epochs_after_the_one_whose_blocks_made_it_final(founded: Tables) -> None:
    changed = rated(founded, 20, v1=70)
    assert changed.closed(1, final_slot=19) == changed  # not final yet
    closed = changed.closed(1, final_slot=20)
    assert LOOKAHEAD == 3
    assert [closed.table(epoch).total for epoch in range(6)] == [40, 40, 40, 40, 100, 100]


def test_what_never_became_final_never_holds(founded: Tables) -> None:
    changed = rated(founded, 20, v1=0, v2=0)
    for epoch in range(1, 1000):
        changed = changed.closed(epoch, final_slot=19)
    assert changed.table(2000) == table(10, 10, 10, 10)


def test_the_table_that_was_final_is_taken_and_not_a_later_one(founded: Tables) -> None:
    changed = rated(rated(founded, 20, v1=70), 25, v1=0)
    closed = changed.closed(1, final_slot=22)
    assert closed.table(4).total == 100
    again = closed.closed(2, final_slot=30)
    assert [again.table(epoch).total for epoch in (3, 4, 5, 99)] == [40, 100, 30, 30]


@pytest.mark.parametrize("gone", [("v1", "v2"), ("v1", "v2", "v3", "v4")])
def test_fewer_than_three_keys_are_not_taken(founded: Tables, gone: tuple[str, ...]) -> None:
    emptied = rated(founded, 20, **dict.fromkeys(gone, 0))
    assert emptied.closed(1, final_slot=20).table(4).total == 40
    three = rated(founded, 20, v1=0)
    assert three.closed(1, final_slot=20).table(4).total == 30


def test_only_what_may_still_be_asked_for_is_kept(founded: Tables) -> None:
    tables = founded
    for number in range(1, 10):
        tables = rated(tables, 16 * number, v1=10 + number).closed(number, final_slot=16 * number)
    assert len(tables.adopted) == len(tables.ratings) == 10
    pruned = tables.pruned(final_slot=16 * 8 + 3, final_epoch=8)
    assert [slot for slot, _ in pruned.ratings] == [128, 144]
    assert [epoch for epoch, _ in pruned.adopted] == [8, 9, 10, 11, 12]
    for epoch in range(8, 14):
        assert pruned.table(epoch) == tables.table(epoch)
    assert pruned.closed(10, final_slot=131) == pruned.closed(10, final_slot=140)


def test_the_hash_tells_ratings_from_what_is_adopted(founded: Tables) -> None:
    changed = rated(founded, 20, v1=70)
    assert len({founded.hash, changed.hash, changed.closed(1, final_slot=20).hash}) == 3
    assert rated(founded, 20, v1=10) == founded


def test_a_state_says_the_table_of_epochs_far_ahead(world: Any) -> None:
    """A block after a long silence is drawn by the table that its parent's branch decides on."""
    world.mine()
    state = world.state
    for epoch in (0, 1, 2, 3, 50):
        assert state.table(epoch) == state.tables.latest


def test_neither_long_tables_nor_many_of_them_are_too_much_for_the_hash() -> None:
    """Anybody can register, and while nothing becomes final every change is kept."""
    many = WeightTable(tuple(Weight(key(i), key(i), 1) for i in range(MAX_ITEMS + 2)))
    assert many.hash != many.changed({key(0): Weight(key(0), key(0), 0)}).hash
    short = table(1, 1, 1)
    stalled = Tables(tuple((slot, short) for slot in range(MAX_ITEMS + 2)), ((0, short),))
    assert stalled.hash != Tables(stalled.ratings[:-1], stalled.adopted).hash
