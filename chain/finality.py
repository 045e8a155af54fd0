"""Justified and final checkpoints of one branch, computed from the votes in its blocks.

A link counts once at least two thirds of the voters' weight of its source's epoch, and of its target's
epoch, are behind it. A counted link justifies its target; a counted link from checkpoint n to n + 1 makes n
final. Every node that has the same blocks finds the same. Source: Casper FFG, see `chain.votes`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from chain.codec import pack
from chain.crypto import H
from chain.errors import InvalidBlock, InvalidVote
from chain.params import ChainParams
from chain.votes import Checkpoint, Link, Vote
from chain.weights import WeightTable

WINDOW_EPOCHS = 2
"""A vote is counted in blocks of at most so many epochs after it."""

TableOf = Callable[[int], WeightTable]


@dataclass(frozen=True)
class Finality:
    """What a branch knows about its own finality after a block. Immutable.

    Args:
        params: the chain's rules.
        final: the highest final checkpoint.
        justified: justified checkpoints from `final` on, ascending.
        branch: (slot, id) of the latest ancestors, oldest first, without the block itself.
        tallies: per link the accounts behind it.
        epochs: in how many epochs something became final: the clock of bars and of evidence.
    """

    params: ChainParams
    final: Checkpoint
    justified: tuple[Checkpoint, ...]
    branch: tuple[tuple[int, bytes], ...] = ()
    tallies: dict[Link, frozenset[bytes]] = field(default_factory=dict)
    epochs: int = 0

    @classmethod
    def at_genesis(cls, params: ChainParams, chain_id: bytes) -> Finality:
        """The genesis is checkpoint 0 and final."""
        root = Checkpoint(0, chain_id)
        return cls(params, root, (root,))

    @property
    def highest(self) -> Checkpoint:
        """The highest justified checkpoint: the source of the next vote."""
        return self.justified[-1]

    @property
    def hash(self) -> bytes:
        """32 bytes, part of the state root."""
        counted = tuple(
            (link.source.to_item(), link.target.to_item(), b"".join(sorted(voters)))
            for link, voters in sorted(self.tallies.items())
        )
        digests = b"".join(H("tally", pack(row)) for row in counted)
        justified = tuple(point.to_item() for point in self.justified)
        branch = b"".join(slot.to_bytes(8, "big") + block_id for slot, block_id in self.branch)
        return H(
            "finality", H("branch", branch), pack((self.final.to_item(), self.epochs, justified, digests))
        )

    @property
    def final_slot(self) -> int:
        """Blocks of this branch up to this slot are final."""
        return self.final.number * self.params.checkpoint_slots

    @property
    def final_epoch(self) -> int:
        """The epoch of the final checkpoint."""
        return epoch_of(self.final, self.params)

    def checkpoint(self, number: int) -> Checkpoint | None:
        """Checkpoint `number` among the ancestors; None below what is remembered."""
        place = bisect_right(self.branch, number * self.params.checkpoint_slots, key=lambda entry: entry[0])
        return Checkpoint(number, self.branch[place - 1][1]) if place else None

    def next_link(self, slot: int, block_slot: int, block_id: bytes) -> Link | None:
        """The link that a voter of `slot` votes for when the head is this block, whose state this is.

        None where there is nothing to vote for yet.
        """
        number = slot // self.params.checkpoint_slots
        if block_slot <= number * self.params.checkpoint_slots:
            target: Checkpoint | None = Checkpoint(number, block_id)
        else:
            target = self.checkpoint(number)
        # The target may be justified already, by votes that came sooner than this one.
        source = next((point for point in reversed(self.justified) if point.number < number), None)
        return None if target is None or source is None else Link(source, target)

    def after(self, slot: int, block_id: bytes, next_slot: int) -> Finality:
        """With the block of `slot` as an ancestor, for a block in `next_slot`."""
        oldest = next_slot - WINDOW_EPOCHS * self.params.slots_per_epoch
        branch = (*self.branch, (slot, block_id))
        keep = max(bisect_right(branch, oldest, key=lambda entry: entry[0]) - 1, 0)
        tallies = {
            link: voters
            for link, voters in self.tallies.items()
            if link.target.number * self.params.checkpoint_slots >= oldest
        }
        justified = tuple(
            point
            for point in self.justified
            if point in (self.final, self.highest) or point.number * self.params.checkpoint_slots >= oldest
        )
        return replace(self, branch=branch[keep:], tallies=tallies, justified=justified)

    def check(self, vote: Vote, slot: int, table_of: TableOf) -> None:
        """Whether a block of `slot` may hold this vote; the signature is not looked at.

        Raises InvalidVote.
        """
        link, step = vote.link, self.params.checkpoint_slots
        if not slot - WINDOW_EPOCHS * self.params.slots_per_epoch <= vote.slot < slot:
            raise InvalidVote("the vote is too old, or not before the block")
        if link.target.number != vote.slot // step or link.source.number >= link.target.number:
            raise InvalidVote("the vote's link does not lead to the checkpoint of its slot")
        if link.target.number <= self.final.number:
            raise InvalidVote("the target is final, or was passed over")
        if link.source not in self.justified:
            raise InvalidVote("the source is not justified")
        if self.checkpoint(link.target.number) != link.target:
            raise InvalidVote("the target is not on this branch")
        ends = (link.source, link.target)
        if not any(table_of(epoch_of(end, self.params)).voice(vote.voter) for end in ends):
            raise InvalidVote("this account has no vote")
        for other, voters in self.tallies.items():
            if other.target.number == link.target.number and vote.voter in voters:
                raise InvalidVote("the account has voted for a checkpoint of this number")

    def counted(self, vote: Vote, table_of: TableOf) -> Finality:
        """With a vote that was checked."""
        voters = self.tallies.get(vote.link, frozenset()) | {vote.voter}
        counted = replace(self, tallies={**self.tallies, vote.link: voters})
        if not quorum(voters, vote.link, self.params, table_of):
            return counted
        return counted._justify(vote.link)

    def _justify(self, link: Link) -> Finality:
        justified = tuple(sorted({*self.justified, link.target}))
        final = self.final
        if link.target.number == link.source.number + 1 and link.source.number > final.number:
            final = link.source
        moved = epoch_of(final, self.params) > self.final_epoch
        return replace(
            self,
            epochs=self.epochs + moved,
            final=final,
            justified=tuple(point for point in justified if point.number >= final.number),
            tallies={
                other: voters for other, voters in self.tallies.items() if other.target.number > final.number
            },
        )


def quorum(voters: frozenset[bytes], link: Link, params: ChainParams, table_of: TableOf) -> bool:
    """Whether these accounts have two thirds of the weight in both epochs that the link touches."""
    for end in (link.source, link.target):
        table = table_of(epoch_of(end, params))
        if 3 * sum(map(table.voice, voters)) < 2 * table.voices:
            return False
    return True


def epoch_of(point: Checkpoint, params: ChainParams) -> int:
    """The epoch of a checkpoint's slot."""
    return point.number * params.checkpoint_slots // params.slots_per_epoch


def apply_votes(
    finality: Finality,
    votes: tuple[Vote, ...],
    slot: int,
    table_of: TableOf,
    chain_id: bytes,
    verify_votes: bool,
) -> Finality:
    """The finality after a block's votes. Raises InvalidBlock."""
    for index, vote in enumerate(votes):
        try:
            finality.check(vote, slot, table_of)
        except InvalidVote as error:
            raise InvalidBlock(f"vote {index}: {error}") from None
        if verify_votes and not vote.signed_for(chain_id):
            raise InvalidBlock(f"vote {index}: the signature does not hold")
        finality = finality.counted(vote, table_of)
    return finality
