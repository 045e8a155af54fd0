"""Block and body as they travel and are stored; `chain.header` has what stands above the body."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from chain import merkle
from chain.codec import Item, array, items, pack, split_pair, unpack
from chain.crypto import H
from chain.errors import DecodeError
from chain.evidence import Evidence, read_evidence
from chain.header import Leaf0, SealedHeader
from chain.rating.items import RatingItem, Ruling, read_rating_item
from chain.training_records import RoundRecord
from chain.transactions import Tx
from chain.votes import Vote

MAX_BLOCK_BYTES = 8 * 1024 * 1024 + 4096
"""Hard limit of the decoder; the chain's own limit is `ChainParams.max_body_bytes`."""
MAX_SECTION_ITEMS = 4096
_PAIR = b"\x92"
"""A block is an array of two: sealed header and body."""
PAIR_BYTES = len(_PAIR)


@dataclass(frozen=True)
class Body:
    """The sections."""

    txs: tuple[Tx, ...] = ()
    ratings: tuple[RatingItem, ...] = ()
    records: tuple[RoundRecord, ...] = ()
    votes: tuple[Vote, ...] = ()
    evidence: tuple[Evidence, ...] = ()

    @property
    def rulings(self) -> tuple[Ruling, ...]:
        """Those in the rating section. They come first there: what they judge stands in earlier blocks."""
        return tuple(item for item in self.ratings if isinstance(item, Ruling))

    @cached_property
    def section_roots(self) -> tuple[bytes, ...]:
        """Leaves 1 to 5: transactions, ratings, training records, votes, evidence."""
        return (
            merkle.root([tx.encoded for tx in self.txs]),
            merkle.root([entry.encoded for entry in self.ratings]),
            merkle.root([record.encode() for record in self.records]),
            merkle.root([vote.encoded for vote in self.votes]),
            merkle.root([entry.encoded for entry in self.evidence]),
        )

    def leaves(self, leaf0: Leaf0) -> tuple[bytes, ...]:
        """All six leaves of the block's tree."""
        return (leaf0.encode(), *self.section_roots)

    @cached_property
    def encoded(self) -> bytes:
        """Canonical bytes."""
        return pack(self.to_item())

    def encode(self) -> bytes:
        """Canonical bytes."""
        return self.encoded

    @classmethod
    def decode(cls, data: bytes, max_size: int = MAX_BLOCK_BYTES) -> Body:
        """Raises DecodeError."""
        body = cls.from_item(unpack(data, max_size))
        # The encoding is canonical, so these bytes are what `encoded` would compute.
        body.__dict__["encoded"] = bytes(data)
        return body

    def to_item(self) -> tuple[Item, ...]:
        return (
            tuple(tx.to_item() for tx in self.txs),
            tuple(entry.to_item() for entry in self.ratings),
            tuple(record.to_item() for record in self.records),
            tuple(vote.to_item() for vote in self.votes),
            tuple(entry.to_item() for entry in self.evidence),
        )

    @classmethod
    def from_item(cls, item: Item) -> Body:
        """Raises DecodeError."""
        txs, ratings, records, votes, evidence = array(item, 5, "body")
        return cls(
            txs=tuple(Tx.from_item(tx) for tx in items(txs, MAX_SECTION_ITEMS, "txs")),
            ratings=tuple(read_rating_item(r) for r in items(ratings, MAX_SECTION_ITEMS, "ratings")),
            records=tuple(RoundRecord.from_item(r) for r in items(records, MAX_SECTION_ITEMS, "records")),
            votes=tuple(Vote.from_item(vote) for vote in items(votes, MAX_SECTION_ITEMS, "votes")),
            evidence=tuple(read_evidence(entry) for entry in items(evidence, MAX_SECTION_ITEMS, "evidence")),
        )


@dataclass(frozen=True)
class Block:
    """A sealed header and the body under it."""

    sealed: SealedHeader
    body: Body

    @property
    def block_id(self) -> bytes:
        """32 bytes."""
        return self.sealed.block_id

    @property
    def prev(self) -> bytes:
        """32-byte id of the parent."""
        return self.sealed.prev

    @property
    def height(self) -> int:
        """Blocks since genesis."""
        return self.sealed.height

    @cached_property
    def encoded(self) -> bytes:
        """Canonical bytes."""
        return pack(self.to_item())

    @cached_property
    def fingerprint(self) -> bytes:
        """Hash of all bytes, seal and body included; the id covers neither seal nor a wrong body."""
        return H("block", self.encoded)

    def encode(self) -> bytes:
        """Canonical bytes."""
        return self.encoded

    @classmethod
    def decode(cls, data: bytes, max_size: int = MAX_BLOCK_BYTES) -> Block:
        """Raises DecodeError."""
        block = cls.from_item(unpack(data, max_size))
        block.__dict__["encoded"] = bytes(data)  # as for a body
        return block

    @classmethod
    def join(cls, sealed: SealedHeader, body: bytes, max_size: int = MAX_BLOCK_BYTES) -> Block:
        """A block of a decoded header and an encoded body, of at most `max_size` bytes together.

        Raises DecodeError.
        """
        data = _PAIR + sealed.encoded + body
        if len(data) > max_size:
            raise DecodeError(f"{len(data)} bytes are more than the allowed {max_size}")
        block = cls(sealed, Body.decode(body, max_size))
        block.__dict__["encoded"] = data
        return block

    def to_item(self) -> tuple[Item, ...]:
        return (self.sealed.to_item(), self.body.to_item())

    @classmethod
    def from_item(cls, item: Item) -> Block:
        """Raises DecodeError."""
        sealed, body = array(item, 2, "block")
        return cls(SealedHeader.from_item(sealed), Body.from_item(body))

    def root_ok(self) -> bool:
        """Whether the header's root is that of leaf 0 and this very body."""
        return merkle.root(self.body.leaves(self.sealed.leaf0)) == self.sealed.header.merkle_root


def split(encoded: bytes) -> tuple[bytes, bytes]:
    """Sealed header and body of an encoded block of our own, both encoded; the body may be cut off.

    Raises DecodeError.
    """
    return split_pair(encoded)
