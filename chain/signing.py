"""What a validator has signed so far, so that it never signs what would be punished.

The record is on disk before a vote or a block leaves the node: a node that is killed and started again
then knows what it may have sent. Pure; the caller stores it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from chain.codec import Item, array, octets_upto, pack, uint, unpack
from chain.errors import DecodeError
from chain.votes import Checkpoint, Link, Vote

_MAX_BYTES = 256


@dataclass(frozen=True, slots=True)
class SigningRecord:
    """The highest of everything signed.

    Args:
        sealed_slot: slot of the last sealed block; 0 for none (no block has slot 0).
        voted_slot: slot of the last vote; 0 for none.
        link: the last vote's link.
    """

    sealed_slot: int = 0
    voted_slot: int = 0
    link: Link | None = None

    @classmethod
    def unknown(cls, slot: int, checkpoint_slots: int) -> SigningRecord:
        """For a validator whose record is lost and that may have signed anything up to `slot`.

        It votes again once a checkpoint after that is justified: with such a source no vote can surround an
        earlier one or repeat its target.
        """
        number = slot // checkpoint_slots + 1
        return cls(slot, slot, Link(Checkpoint(number, bytes(32)), Checkpoint(number + 1, bytes(32))))

    def may_seal(self, slot: int) -> bool:
        """Whether a block for `slot` may be sealed: one per slot, never backwards."""
        return slot > self.sealed_slot

    def may_vote(self, vote: Vote) -> bool:
        """Whether this vote conflicts with none that may have been sent."""
        if vote.slot <= self.voted_slot:
            return False
        if self.link is None or vote.link == self.link:
            return True
        forward = vote.link.target.number > self.link.target.number
        return forward and vote.link.source.number >= self.link.source.number

    def sealed(self, slot: int) -> SigningRecord:
        """With a block sealed for `slot`."""
        return replace(self, sealed_slot=max(slot, self.sealed_slot))

    def voted(self, vote: Vote) -> SigningRecord:
        """With this vote signed."""
        return replace(self, voted_slot=max(vote.slot, self.voted_slot), link=vote.link)

    def encode(self) -> bytes:
        """Canonical bytes."""
        return pack((self.sealed_slot, self.voted_slot, b"" if self.link is None else _pack_link(self.link)))

    @classmethod
    def decode(cls, data: bytes) -> SigningRecord:
        """Raises DecodeError."""
        sealed, voted, link = array(unpack(data, _MAX_BYTES), 3, "signing record")
        packed = octets_upto(link, _MAX_BYTES, "link")
        return cls(uint(sealed, "sealed slot"), uint(voted, "voted slot"), _unpack_link(packed))


def _pack_link(link: Link) -> bytes:
    return pack((link.source.to_item(), link.target.to_item()))


def _unpack_link(data: bytes) -> Link | None:
    if not data:
        return None
    item: Item = unpack(data, _MAX_BYTES)
    source, target = array(item, 2, "link")
    found = Link(Checkpoint.from_item(source), Checkpoint.from_item(target))
    if found.source.number >= found.target.number:
        raise DecodeError("a link leads upwards")
    return found
