"""What made a block final, in a form that outlives the blocks that held it: the votes behind two links.

Checkpoint n is final when it is justified, by a counted link to it, and a link from it to checkpoint n + 1 is
counted (`chain.finality`). A certificate has both links with votes of two thirds of the weight behind each,
and is checked by the weight tables of the state after the checkpoint's block. Who would forge one needs the
keys of two thirds of the voters of that time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from chain.codec import array, items, pack, unpack
from chain.errors import InvalidVote
from chain.finality import quorum
from chain.state import State
from chain.types import Block
from chain.votes import MAX_VOTE_BYTES, Link, Vote
from chain.weights import MAX_VOTERS

MAX_CERTIFICATE_BYTES = 4 * MAX_VOTERS * MAX_VOTE_BYTES
"""Each link may have the voters of two epochs."""


@dataclass(frozen=True)
class Certificate:
    """Votes for one link to a checkpoint, and votes for one link from it to the next."""

    justifying: tuple[Vote, ...]
    finalizing: tuple[Vote, ...]

    @cached_property
    def encoded(self) -> bytes:
        """Canonical bytes."""
        parts = (self.justifying, self.finalizing)
        return pack(tuple(tuple(vote.to_item() for vote in part) for part in parts))

    @classmethod
    def decode(cls, data: bytes) -> Certificate:
        """Raises DecodeError."""
        parts = array(unpack(data, MAX_CERTIFICATE_BYTES), 2, "certificate")
        justifying, finalizing = (
            tuple(Vote.from_item(vote) for vote in items(part, 2 * MAX_VOTERS, "votes")) for part in parts
        )
        return cls(justifying, finalizing)

    def check(self, state: State) -> None:
        """Whether this makes the block of `state` final. Raises InvalidVote."""
        to, onward = _link(self.justifying), _link(self.finalizing)
        if to.target != onward.source or to.target.id != state.block_id:
            raise InvalidVote("the votes are not for the block of the certificate")
        if onward.target.number != onward.source.number + 1 or to.source.number >= to.target.number:
            raise InvalidVote("the votes' links make nothing final")
        for link, votes in ((to, self.justifying), (onward, self.finalizing)):
            voters = frozenset(vote.voter for vote in votes)
            if not quorum(voters, link, state.genesis.params, state.table):
                raise InvalidVote("the voters of the certificate have not two thirds of the weight")
        if not all(vote.signed_for(state.genesis.chain_id) for vote in (*self.justifying, *self.finalizing)):
            raise InvalidVote("a signature in the certificate does not hold")


def certify(state: State, after: Iterable[Block]) -> Certificate | None:
    """The certificate for the block of `state`, from the votes in the blocks after it, oldest first.

    None where those blocks do not make the block final as a checkpoint that is itself the source of a link:
    if only one of its descendants is.
    """
    to: dict[Link, dict[bytes, Vote]] = {}
    onward: dict[Link, dict[bytes, Vote]] = {}
    for block in after:
        for vote in block.body.votes:
            source, target = vote.link.source, vote.link.target
            if target.id == state.block_id and source.id != state.block_id:
                to.setdefault(vote.link, {})[vote.voter] = vote
            if source.id == state.block_id and target.number == source.number + 1:
                onward.setdefault(vote.link, {})[vote.voter] = vote
        found = _pair(state, to, onward)
        if found is not None:
            return found
    return None


def _pair(
    state: State, to: dict[Link, dict[bytes, Vote]], onward: dict[Link, dict[bytes, Vote]]
) -> Certificate | None:
    for last, finalizing in onward.items():
        for first, justifying in to.items():
            certificate = Certificate(tuple(justifying.values()), tuple(finalizing.values()))
            counted = all(
                quorum(frozenset(votes), link, state.genesis.params, state.table)
                for link, votes in ((first, justifying), (last, finalizing))
            )
            if first.target == last.source and counted:
                return certificate
    return None


def _link(votes: tuple[Vote, ...]) -> Link:
    """The one link that all these votes are for. Raises InvalidVote."""
    links = {vote.link for vote in votes}
    if len(links) != 1:
        raise InvalidVote("the votes of a certificate are for one link to a checkpoint and one from it")
    return links.pop()
