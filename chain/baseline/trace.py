"""The trace of a window: a leaf for every segment, in order, under one root.

Several processes train at a time, so that more than one episode may be unfinished when the window ends:
every leaf names its place, and the order is a rule that two neighbours prove or break.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from chain import merkle
from chain.baseline.net import Net
from chain.codec import array, octets, pack, uint, unpack
from chain.crypto import H
from chain.errors import InvalidRating

MAX_LEAF_BYTES = 64


@dataclass(frozen=True, slots=True, order=True)
class Leaf:
    """The commitment to the weights after a segment.

    Args:
        episode: any number; each may be used once.
        segment: from 0.
        digest: 32 bytes, `state_digest`.
    """

    episode: int
    segment: int
    digest: bytes

    def encode(self) -> bytes:
        """Canonical bytes: the data of a leaf of the tree."""
        return pack((self.episode, self.segment, self.digest))

    @classmethod
    def decode(cls, data: bytes) -> Leaf:
        """Raises DecodeError."""
        episode, segment, digest = array(unpack(data, MAX_LEAF_BYTES), 3, "leaf")
        return cls(uint(episode, "episode"), uint(segment, "segment", high=63), octets(digest, 32, "digest"))


def state_digest(challenge: bytes, episode: int, segment: int, state: bytes) -> bytes:
    """The hash of a state: master weights as little-endian int32, the hidden layer's before the output's.

    Integers, never float bytes: those have a negative zero.
    """
    place = episode.to_bytes(8, "big") + segment.to_bytes(8, "big")
    return H("baseline-leaf", challenge, place, state)


def check_neighbours(net: Net, before: Leaf | None, after: Leaf) -> None:
    """Check the order of two neighbouring leaves; `before` is None for the first leaf.

    A segment follows its predecessor in the episode, or begins a later episode: so no work counts twice, and
    what is drawn for an audit can be replayed from its episode's beginning.

    Raises:
        InvalidRating: they break the rule.
    """
    if after.segment >= net.segments:
        raise InvalidRating(f"segment {after.segment} of an episode of {net.segments}")
    if before is not None and (after.episode, after.segment) == (before.episode, before.segment + 1):
        return
    if after.segment == 0 and (before is None or after.episode > before.episode):
        return
    where = "at the beginning" if before is None else f"after {before.episode}/{before.segment}"
    raise InvalidRating(f"leaf {after.episode}/{after.segment} cannot come {where}")


class Trace:
    """All leaves of a window.

    Args:
        leaves: in any order.

    Raises:
        InvalidRating: an episode that lacks a segment in its middle, or a segment that is there twice.
    """

    def __init__(self, net: Net, leaves: Iterable[Leaf]) -> None:
        self.leaves = tuple(sorted(leaves))
        for before, after in pairwise([None, *self.leaves]):
            if after is not None:
                check_neighbours(net, before, after)
        self._net = net

    def __len__(self) -> int:
        """The segments, what a commitment claims."""
        return len(self.leaves)

    @property
    def root(self) -> bytes:
        """32 bytes: RFC 6962 over the encoded leaves."""
        return merkle.root([leaf.encode() for leaf in self.leaves])

    @property
    def completed(self) -> tuple[int, ...]:
        """The episodes with all their segments, in order."""
        return tuple(leaf.episode for leaf in self.leaves if leaf.segment == self._net.segments - 1)

    def of_episode(self, episode: int) -> tuple[Leaf, ...]:
        """An episode's leaves, in order."""
        return tuple(leaf for leaf in self.leaves if leaf.episode == episode)
