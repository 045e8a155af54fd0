"""Evidence: two things that one key signed and no honest validator signs both.

Anybody can check it without knowing the chain's history, so it convicts on every branch. What it costs is
said in `chain.validators`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from chain.codec import Item, array, pack, uint
from chain.errors import DecodeError, InvalidEvidence
from chain.header import SealedHeader
from chain.votes import Vote, conflict

SEALS = 1
VOTES = 2


@dataclass(frozen=True)
class TwoSeals:
    """Two blocks that one proposer sealed for one slot."""

    one: SealedHeader
    other: SealedHeader

    @property
    def offender(self) -> bytes:
        """32-byte account."""
        return self.one.proposer

    @property
    def timestamp_ms(self) -> int:
        """Unix time of the slot in which both blocks would be."""
        return self.one.timestamp_ms

    @cached_property
    def encoded(self) -> bytes:
        """Canonical bytes."""
        return pack(self.to_item())

    def to_item(self) -> tuple[Item, ...]:
        return (SEALS, self.one.to_item(), self.other.to_item())

    def check(self, chain_id: bytes) -> None:
        """Raises InvalidEvidence unless it holds."""
        one, other = self.one, self.other
        if (one.proposer, one.timestamp_ms) != (other.proposer, other.timestamp_ms):
            raise InvalidEvidence("the seals are not of one proposer for one slot")
        if one.block_id == other.block_id:
            raise InvalidEvidence("both seals are of the same block")
        if not all(sealed.path_ok() and sealed.seal_ok(chain_id) for sealed in (one, other)):
            raise InvalidEvidence("a seal does not hold")


@dataclass(frozen=True)
class TwoVotes:
    """Two votes of one voter that contradict each other, see `chain.votes.conflict`."""

    one: Vote
    other: Vote

    @property
    def offender(self) -> bytes:
        """32-byte account."""
        return self.one.voter

    @property
    def slot(self) -> int:
        """The slot of the later vote: only it made the earlier one a lie."""
        return max(self.one.slot, self.other.slot)

    @cached_property
    def encoded(self) -> bytes:
        """Canonical bytes."""
        return pack(self.to_item())

    def to_item(self) -> tuple[Item, ...]:
        return (VOTES, self.one.to_item(), self.other.to_item())

    def check(self, chain_id: bytes) -> None:
        """Raises InvalidEvidence unless it holds."""
        if not conflict(self.one, self.other):
            raise InvalidEvidence("the votes do not contradict each other")
        if not all(vote.signed_for(chain_id) for vote in (self.one, self.other)):
            raise InvalidEvidence("a vote's signature does not hold")


Evidence = TwoSeals | TwoVotes


def read_evidence(item: Item) -> Evidence:
    """Raises DecodeError."""
    kind, one, other = array(item, 3, "evidence")
    if uint(kind, "kind") == SEALS:
        return TwoSeals(SealedHeader.from_item(one), SealedHeader.from_item(other))
    if kind == VOTES:
        return TwoVotes(Vote.from_item(one), Vote.from_item(other))
    raise DecodeError(f"evidence of kind {kind!r} is not known")
