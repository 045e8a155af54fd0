"""Subtree weights and found liars, both kept incrementally, against their definitions on random input."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.ghost import LatestVotes, Preference, Subtree
from chain.votes import Checkpoint, Link, Vote, conflict


class Naive:
    """LMD-GHOST as it is written down: sums over the whole subtree at every look."""

    def __init__(self) -> None:
        self.parents: dict[bytes, bytes] = {}
        self.preference: dict[bytes, Preference] = {}
        self.votes: dict[bytes, tuple[bytes, int]] = {}

    def below(self, block: bytes) -> list[bytes]:
        kids = [kid for kid, parent in self.parents.items() if parent == block]
        return [block, *(b for kid in kids for b in self.below(kid))]

    def order(self, block: bytes) -> tuple[int, Preference]:
        subtree = self.below(block)
        support = sum(weight for head, weight in self.votes.values() if head in subtree)
        return -support, min(self.preference[b] for b in subtree)

    def tip(self, root: bytes) -> bytes:
        kids = [kid for kid, parent in self.parents.items() if parent == root]
        return self.tip(min(kids, key=self.order)) if kids else root


def name(number: int) -> bytes:
    return number.to_bytes(32, "big")


@pytest.mark.parametrize("seed", range(12))
def test_the_incremental_choice_is_the_defined_one(seed: int) -> None:
    """Votes for blocks that are not there yet, taken back, moved sideways, backwards and to other roots."""
    rng = random.Random(seed)
    naive, first = Naive(), (0, 0, b"", name(0))
    tree = Subtree(name(0), first)
    naive.preference[name(0)] = first
    size = 1
    for _ in range(120):
        if rng.random() < 0.25 and size < 24:
            block, parent = name(size), name(rng.randrange(max(0, size - 4), size))
            preference = (-rng.randrange(4), rng.randrange(3), b"", block)
            naive.parents[block], naive.preference[block] = parent, preference
            tree.grow(block, parent, preference)
            size += 1
        else:
            voter, head = bytes([rng.randrange(5)]), name(rng.randrange(30))
            support = rng.choice([0, 3, 3, 5])
            naive.votes[voter] = (head, support)
            tree.back(voter, head, support)
        assert tree.tip() == naive.tip(name(0))


def test_a_block_that_does_not_descend_from_the_root_is_not_chosen() -> None:
    tree = Subtree(name(1), (0, 0, b"", name(1)))
    tree.grow(name(3), name(2), (-9, 0, b"", name(3)))
    tree.back(b"v", name(3), 7)
    assert tree.tip() == name(1)


def test_a_vote_costs_its_distance_and_not_the_trees_size() -> None:
    """Totals beside the way from the old head to the new one are not touched: counted, not timed."""
    tree = Subtree(name(0), (0, 0, b"", name(0)))
    for number in range(1, 3000):
        tree.grow(name(number), name(number - 1), (-number, 0, b"", name(number)))
    tree.back(b"v", name(2990), 5)
    for place in tree._places.values():
        place.total = 0
    tree.back(b"v", name(2999), 5)
    touched = [key for key, place in tree._places.items() if place.total]
    assert touched == [name(number) for number in range(2991, 3000)]


_SAID = st.tuples(
    st.sampled_from((-1, 0, 1, 1, 1, 1)), st.integers(0, 4), st.integers(1, 3), st.booleans(), st.booleans()
)


@settings(max_examples=500)
@given(st.lists(_SAID, max_size=8))
def test_a_liar_is_found_as_by_comparing_every_pair(said: list[tuple[int, int, int, bool, bool]]) -> None:
    """The short cut for votes that go on from the earlier ones changes nothing."""
    known = LatestVotes()
    votes: list[Vote] = []
    slot = 1
    for step, source, up, branch, head in said:
        slot = max(slot + step, 0)
        link = Link(Checkpoint(source, b"\x01" * 32), Checkpoint(source + up, bytes([2 + branch]) * 32))
        vote = Vote(b"\x07" * 32, slot, link, bytes([4 + head]) * 32)
        lies = any(conflict(earlier, vote) for earlier in votes)
        before = bool(known.convicted)
        assert known.add(vote) == (vote not in votes)
        assert bool(known.convicted) == (before or lies)
        votes.append(vote)
    for pair in known.convicted.values():
        assert conflict(*pair)


def test_a_second_link_to_a_checkpoint_is_seen_in_the_next_slot() -> None:
    """Its source is no earlier, its slot is later: only the target has been voted for before."""
    memory = LatestVotes()
    for slot, branch in ((4, 1), (5, 2)):
        link = Link(Checkpoint(1, name(0)), Checkpoint(2, name(branch)))
        assert memory.add(Vote(b"v", slot, link, name(branch)))
    assert b"v" in memory.convicted
