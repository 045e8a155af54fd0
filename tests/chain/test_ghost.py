"""The incremental subtree weights against the definition, on random trees with random votes."""

from __future__ import annotations

import random

import pytest

from chain.ghost import Preference, Subtree


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
