"""The fork choice by votes: LMD-GHOST, the heaviest observed subtree by each voter's latest message.

Pure functions and a small memory; `chain.forkchoice` owns the tree. Source: Sompolinsky and Zohar, "Secure
High-Rate Transaction Processing in Bitcoin" (2015); Buterin et al., "Combining GHOST and Casper" (2020).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from chain.votes import Vote, conflict

REMEMBERED = 64
"""Votes kept per voter: for blocks to include, and to catch those that contradict each other."""


class LatestVotes:
    """What every voter said last, and who has said two things that cannot both be honest."""

    def __init__(self) -> None:
        self._votes: dict[bytes, deque[Vote]] = {}
        self._latest: dict[bytes, Vote] = {}
        self.convicted: dict[bytes, tuple[Vote, Vote]] = {}
        """Voters whose word counts no more, each with the two votes that show why."""

    def has(self, vote: Vote) -> bool:
        """Whether this vote is remembered."""
        return vote in self._votes.get(vote.voter, ())

    def add(self, vote: Vote) -> bool:
        """Take a checked vote; False when it is known."""
        known = self._votes.setdefault(vote.voter, deque(maxlen=REMEMBERED))
        if vote in known:
            return False
        if vote.voter not in self.convicted:
            liar = next((earlier for earlier in known if conflict(earlier, vote)), None)
            if liar is not None:
                self.convicted[vote.voter] = (liar, vote)
        known.append(vote)
        latest = self._latest.get(vote.voter)
        if latest is None or vote.slot > latest.slot:
            self._latest[vote.voter] = vote
        return True

    def __iter__(self) -> Iterator[Vote]:
        """All remembered votes, in no order that matters."""
        return (vote for votes in self._votes.values() for vote in votes)

    def heads(self) -> Iterator[tuple[bytes, bytes]]:
        """Each voter whose word counts, and the head of its latest vote."""
        for voter, vote in self._latest.items():
            if voter not in self.convicted:
                yield voter, vote.head


def heaviest(
    root: bytes,
    children: Mapping[bytes, Collection[bytes]],
    support: Counter[bytes],
    preference: Callable[[bytes], Any],
) -> bytes:
    """Walk from `root` to a leaf, always into the subtree with the most support.

    Args:
        root: id of the block to begin at.
        children: of each block that has any.
        support: votes for each block itself.
        preference: orders blocks where the support is equal, smaller first: the subtree with the best block.
    """
    below = _descendants(root, children)
    total: dict[bytes, int] = {}
    best: dict[bytes, Any] = {}
    for block in reversed(below):
        kids = children.get(block, ())
        total[block] = support[block] + sum(total[kid] for kid in kids)
        best[block] = min([preference(block), *(best[kid] for kid in kids)])
    tip = root
    while ahead := children.get(tip):
        tip = min(ahead, key=lambda kid: (-total[kid], best[kid]))
    return tip


def _descendants(root: bytes, children: Mapping[bytes, Collection[bytes]]) -> list[bytes]:
    """The subtree, every block after its parent."""
    order, at = [root], 0
    while at < len(order):
        order += children.get(order[at], ())
        at += 1
    return order
