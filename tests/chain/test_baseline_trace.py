"""Leaves, their order, their root."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain import merkle
from chain.baseline.net import MNIST
from chain.baseline.trace import Leaf, Trace, check_neighbours, state_digest
from chain.errors import DecodeError, InvalidRating

NET = replace(MNIST, segments=3)


def leaf(episode: int, segment: int) -> Leaf:
    return Leaf(episode, segment, bytes([episode, segment]) * 16)


DONE = [leaf(0, 0), leaf(0, 1), leaf(0, 2), leaf(1, 0), leaf(3, 0), leaf(3, 1), leaf(3, 2)]


def test_a_trace_is_its_leaves_in_order() -> None:
    trace = Trace(NET, reversed(DONE))
    assert trace.leaves == tuple(DONE)
    assert len(trace) == 7
    assert trace.completed == (0, 3)
    assert trace.of_episode(1) == (leaf(1, 0),)
    assert trace.root == merkle.root([item.encode() for item in DONE])
    assert trace.root != Trace(NET, DONE[:-1]).root


@pytest.mark.parametrize(
    "leaves",
    [
        [leaf(0, 1)],
        [leaf(0, 0), leaf(0, 2)],
        [leaf(0, 0), leaf(0, 0)],
        [leaf(0, 0), leaf(0, 1), leaf(0, 1)],
        [leaf(0, 0), leaf(1, 1)],
        [leaf(0, 0), leaf(0, 1), leaf(0, 2), leaf(0, 3)],
    ],
)
def test_work_that_would_count_twice_or_cannot_be_replayed_is_no_trace(leaves: list[Leaf]) -> None:
    with pytest.raises(InvalidRating):
        Trace(NET, leaves)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=8))
def test_neighbours_alone_keep_every_trace_in_order(places: list[tuple[int, int]]) -> None:
    """Whatever passes the check of neighbours is a list of beginnings of different episodes."""
    leaves = [leaf(*place) for place in places]
    try:
        for index, item in enumerate(leaves):
            check_neighbours(NET, leaves[index - 1] if index else None, item)
    except InvalidRating:
        lawful = False
    else:
        lawful = True
    episodes = sorted({episode for episode, _ in places})
    whole = [(e, s) for e in episodes for s in range(sum(1 for found, _ in places if found == e))]
    assert lawful == (places == whole and all(segment < 3 for _, segment in places))


def test_leaves_travel_in_one_encoding() -> None:
    item = Leaf(300, 2, b"d" * 32)
    assert Leaf.decode(item.encode()) == item
    for bad in (b"", item.encode()[:-1], item.encode() + b"\0", Leaf(1, 64, b"d" * 32).encode()):
        with pytest.raises(DecodeError):
            Leaf.decode(bad)


def test_a_digest_is_of_one_place_of_one_challenge() -> None:
    made = {
        state_digest(given, episode, segment, state)
        for given in (bytes(32), b"c" * 32)
        for episode in (0, 1)
        for segment in (0, 1)
        for state in (b"state", b"other")
    }
    assert len(made) == 16
