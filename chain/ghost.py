"""The fork choice by votes: LMD-GHOST, the heaviest observed subtree by each voter's latest message.

A memory of votes and of subtrees; `chain.forkchoice` owns the blocks. Source: Sompolinsky and Zohar, "Secure
High-Rate Transaction Processing in Bitcoin" (2015); Buterin et al., "Combining GHOST and Casper" (2020).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from chain.votes import Vote, conflict

REMEMBERED = 64
"""Votes kept per voter: for blocks to include, and to catch those that contradict each other."""


class _Said:
    """What one voter said lately."""

    def __init__(self) -> None:
        self.votes: dict[bytes, Vote] = {}
        """By encoding, in the order in which they came."""
        self._highest: Vote | None = None
        """The vote with the highest target."""
        self._slot = -1

    def add(self, vote: Vote) -> None:
        """Remember a vote, and forget the one that came first if there are too many."""
        if len(self.votes) == REMEMBERED:
            del self.votes[next(iter(self.votes))]
        self.votes[vote.encoded] = vote
        if self._highest is None or vote.link.target.number > self._highest.link.target.number:
            self._highest = vote
        self._slot = max(self._slot, vote.slot)

    def contradicted_by(self, vote: Vote) -> Vote | None:
        """An earlier vote that no honest voter makes beside this one."""
        highest = self._highest
        onwards = highest is not None and vote.link.target.number >= highest.link.target.number
        if highest is not None and onwards and vote.slot > self._slot:
            # In a new slot and below no target: were it to surround an earlier link, it would surround the
            # highest one too, which does not surround that link, or be a second link to the same target.
            return highest if conflict(highest, vote) else None
        return next((earlier for earlier in self.votes.values() if conflict(earlier, vote)), None)


class LatestVotes:
    """What every voter said last, and who has said two things that cannot both be honest."""

    def __init__(self) -> None:
        self._said: dict[bytes, _Said] = {}
        self._latest: dict[bytes, Vote] = {}
        self.convicted: dict[bytes, tuple[Vote, Vote]] = {}
        """Voters who made two votes that cannot both be honest, each with the two."""
        self._silenced: set[bytes] = set()

    def has(self, vote: Vote) -> bool:
        """Whether this vote is remembered."""
        said = self._said.get(vote.voter)
        return said is not None and vote.encoded in said.votes

    def add(self, vote: Vote) -> bool:
        """Take a checked vote; False when it is known."""
        said = self._said.setdefault(vote.voter, _Said())
        if vote.encoded in said.votes:
            return False
        if vote.voter not in self.convicted:
            liar = said.contradicted_by(vote)
            if liar is not None:
                self.convicted[vote.voter] = (liar, vote)
        said.add(vote)
        latest = self._latest.get(vote.voter)
        if latest is None or vote.slot > latest.slot:
            self._latest[vote.voter] = vote
        return True

    def silence(self, voter: bytes) -> None:
        """Its word counts no more: a block holds evidence against it."""
        self._silenced.add(voter)

    def __iter__(self) -> Iterator[Vote]:
        """All remembered votes, in no order that matters."""
        return (vote for said in self._said.values() for vote in said.votes.values())

    def heads(self) -> Iterator[tuple[bytes, bytes]]:
        """Each voter whose word counts, and the head of its latest vote."""
        return ((voter, vote.head) for voter, vote in self._latest.items() if self.counts(voter))

    def head_of(self, voter: bytes) -> bytes:
        """The head of a voter's latest vote; empty without one."""
        latest = self._latest.get(voter)
        return b"" if latest is None else latest.head

    def counts(self, voter: bytes) -> bool:
        """Whether the word of this voter counts: nothing convicts it."""
        return voter not in self.convicted and voter not in self._silenced


Preference = tuple[int, int, bytes, bytes]
"""Orders blocks where the votes are equal, smaller first: -weight, rank, hash of the VRF output, id."""


@dataclass(slots=True, eq=False)
class _Place:
    """A block below the root, what its subtree weighs, and the best block in it."""

    id: bytes
    above: _Place | None
    depth: int
    best: Preference
    total: int = 0
    below: list[_Place] = field(default_factory=list)


class Subtree:
    """The blocks below one root with the support of each subtree, kept as votes and blocks come.

    A vote that moves from a block to its descendant changes only what lies between them, so a vote costs its
    distance, not the size of the tree: the root may be thousands of blocks back while nothing becomes final.

    Args:
        root: id of the block at which the choice begins.
        preference: the root's.
    """

    def __init__(self, root: bytes, preference: Preference) -> None:
        self._root = _Place(root, None, 0, preference)
        self._places = {root: self._root}
        self._backed: dict[bytes, tuple[bytes, int]] = {}
        self._own: Counter[bytes] = Counter()

    def grow(self, block: bytes, parent: bytes, preference: Preference) -> None:
        """Take a block; nothing happens if its parent does not descend from the root."""
        above = self._places.get(parent)
        if above is None or block in self._places:
            return
        place = _Place(block, above, above.depth + 1, preference)
        above.below.append(place)
        self._places[block] = place
        up: _Place | None = above
        while up is not None and preference < up.best:
            up.best, up = preference, up.above
        if self._own[block]:  # votes may come before their block
            _add(place, self._own[block], None)

    def back(self, who: bytes, head: bytes, support: int) -> None:
        """`who` now supports `head`, known or not, with so much, and what it supported before no more."""
        old, before = self._backed.get(who, (head, 0))
        if (old, before) == (head, support):
            return
        self._backed[who] = (head, support)
        self._own[old] -= before
        self._own[head] += support
        for block in {old, head}:
            if not self._own[block]:
                del self._own[block]
        left, right = self._places.get(old), self._places.get(head)
        meet = _meeting(left, right) if before == support else None
        if left is not None:
            _add(left, -before, meet)
        if right is not None:
            _add(right, support, meet)

    def tip(self) -> bytes:
        """Walk from the root to a leaf, always into the subtree with the most support."""
        place = self._root
        while place.below:
            below = place.below
            place = below[0] if len(below) == 1 else min(below, key=lambda kid: (-kid.total, kid.best))
        return place.id


def _add(place: _Place | None, support: int, end: _Place | None) -> None:
    """Change the totals from `place` up to, not including, `end`; to the root if that is None."""
    while place is not None and place is not end:
        place.total += support
        place = place.above


def _meeting(left: _Place | None, right: _Place | None) -> _Place | None:
    """The lowest place above or at both; None if there is none."""
    while left is not right and left is not None and right is not None:
        if left.depth >= right.depth:
            left = left.above
        else:
            right = right.above
    return left if left is right else None
