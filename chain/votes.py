"""Votes: a validator's word for a head, and for a link between two checkpoints.

Checkpoint n of a branch is its latest block with a slot of at most n x `checkpoint_slots`; the genesis is
checkpoint 0. A vote of slot s names the checkpoint s // `checkpoint_slots` as its target and a justified
checkpoint below it as its source. Links are counted for finality (`chain.finality`), heads for the fork
choice (`chain.ghost`). Source: Buterin and Griffith, "Casper the Friendly Finality Gadget" (2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from chain.codec import Item, array, octets, pack, uint, unpack
from chain.crypto import PUBLIC_BYTES, SIGNATURE_BYTES, H, Keypair, verify_once

MAX_VOTE_BYTES = 320


@dataclass(frozen=True, slots=True, order=True)
class Checkpoint:
    """A block in its role as checkpoint `number` of its branch; a block may have several numbers."""

    number: int
    id: bytes

    def to_item(self) -> tuple[Item, ...]:
        return (self.number, self.id)

    @classmethod
    def from_item(cls, item: Item) -> Checkpoint:
        """Raises DecodeError."""
        number, block_id = array(item, 2, "checkpoint")
        return cls(uint(number, "checkpoint number", high=2**53), octets(block_id, 32, "checkpoint id"))


@dataclass(frozen=True, slots=True, order=True)
class Link:
    """`source` justified, so let `target` be justified: what a vote says about finality."""

    source: Checkpoint
    target: Checkpoint


@dataclass(frozen=True)
class Vote:
    """One signed vote.

    Args:
        voter: 32-byte account.
        slot: the slot at whose half it was made.
        link: from a justified checkpoint to the checkpoint of this slot.
        head: 32-byte id of the block that the voter took for the head.
        signature: 64 bytes over `signing_bytes`.
    """

    voter: bytes
    slot: int
    link: Link
    head: bytes
    signature: bytes = b""

    def signing_bytes(self, chain_id: bytes) -> bytes:
        """What the voter signs."""
        return H("vote", chain_id, self._unsigned)

    @cached_property
    def _unsigned(self) -> bytes:
        return pack(self.to_item()[:-1])

    def signed_for(self, chain_id: bytes) -> bool:
        """Whether the signature is the voter's, on this chain."""
        return verify_once(self.voter, self.signing_bytes(chain_id), self.signature)

    @cached_property
    def encoded(self) -> bytes:
        """Canonical bytes."""
        return pack(self.to_item())

    @classmethod
    def decode(cls, data: bytes) -> Vote:
        """Raises DecodeError."""
        return cls.from_item(unpack(data, MAX_VOTE_BYTES))

    def to_item(self) -> tuple[Item, ...]:
        source, target = self.link.source.to_item(), self.link.target.to_item()
        return (self.voter, self.slot, source, target, self.head, self.signature)

    @classmethod
    def from_item(cls, item: Item) -> Vote:
        """Raises DecodeError."""
        voter, slot, source, target, head, signature = array(item, 6, "vote")
        return cls(
            octets(voter, PUBLIC_BYTES, "voter"),
            uint(slot, "slot", high=2**53),
            Link(Checkpoint.from_item(source), Checkpoint.from_item(target)),
            octets(head, 32, "head"),
            octets(signature, SIGNATURE_BYTES, "signature"),
        )


def sign_vote(keypair: Keypair, chain_id: bytes, slot: int, link: Link, head: bytes) -> Vote:
    """A vote by `keypair`; ask `SigningRecord` first."""
    draft = Vote(keypair.public, slot, link, head)
    return Vote(keypair.public, slot, link, head, keypair.sign(draft.signing_bytes(chain_id)))


def conflict(one: Vote, other: Vote) -> str:
    """Why no honest voter makes both votes; empty when one may.

    A double vote has two links to targets of one number; a surround vote has a link that spans the other's;
    and nobody sees two heads in one slot.
    """
    if one.voter != other.voter:
        return ""
    first, second = one.link, other.link
    if first != second and first.target.number == second.target.number:
        return "double vote"
    if _surrounds(first, second) or _surrounds(second, first):
        return "surround vote"
    if one.slot == other.slot and one.head != other.head:
        return "two heads in one slot"
    return ""


def _surrounds(outer: Link, inner: Link) -> bool:
    return outer.source.number < inner.source.number and inner.target.number < outer.target.number
