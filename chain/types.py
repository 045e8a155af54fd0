"""Block, header and body as they travel and are stored.

The header is Satoshi's without the nonce: `[prev, timestamp_ms, target, merkle_root]`. The Merkle
tree (RFC 6962) has six leaves: leaf 0 with the proposer's data, then the roots of the body's sections,
so that `SealedHeader` (header, leaf 0, its path, seal) can be checked without the body.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from chain import merkle
from chain.codec import Item, array, items, octets, pack, uint, unpack
from chain.crypto import H
from chain.errors import DecodeError
from chain.training_records import RoundRecord
from chain.transactions import Tx
from chain.votes import Vote
from chain.vrf import PROOF_BYTES

VERSION = 1
MAX_BLOCK_BYTES = 8 * 1024 * 1024 + 4096
"""Hard limit of the decoder; the chain's own limit is `ChainParams.max_body_bytes`."""
MAX_SECTION_ITEMS = 4096
LEAVES = 6


@dataclass(frozen=True)
class Header:
    """What the block id covers.

    Args:
        prev: 32-byte id of the parent; the chain id for the first block.
        timestamp_ms: Unix time in ms of the start of the block's slot.
        target: floor(2^256 / W), W the sum of all ratings.
        merkle_root: root over leaf 0 and the section roots.
    """

    prev: bytes
    timestamp_ms: int
    target: int
    merkle_root: bytes

    @cached_property
    def block_id(self) -> bytes:
        """`H("hdr" ‖ header)`."""
        return H("hdr", pack(self.to_item()))

    def to_item(self) -> tuple[Item, ...]:
        return (self.prev, self.timestamp_ms, self.target.to_bytes(32, "big"), self.merkle_root)

    @classmethod
    def from_item(cls, item: Item) -> Header:
        """Raises DecodeError."""
        prev, timestamp, target, root = array(item, 4, "header")
        return cls(
            octets(prev, 32, "prev"),
            uint(timestamp, "timestamp_ms"),
            int.from_bytes(octets(target, 32, "target"), "big"),
            octets(root, 32, "merkle_root"),
        )


@dataclass(frozen=True)
class Leaf0:
    """The proposer's data, first leaf of the body's tree."""

    height: int
    proposer: bytes
    rank: int
    vrf_proof: bytes
    parent_state_root: bytes
    version: int = VERSION

    def encode(self) -> bytes:
        """Canonical bytes."""
        return pack(self.to_item())

    def to_item(self) -> tuple[Item, ...]:
        return (
            self.version, self.height, self.proposer, self.rank, self.vrf_proof, self.parent_state_root,
        )  # fmt: skip

    @classmethod
    def from_item(cls, item: Item) -> Leaf0:
        """Raises DecodeError."""
        version, height, proposer, rank, proof, root = array(item, 6, "leaf 0")
        uint(version, "version", low=VERSION, high=VERSION)
        return cls(
            uint(height, "height"),
            octets(proposer, 32, "proposer"),
            uint(rank, "rank", high=255),
            octets(proof, PROOF_BYTES, "vrf_proof"),
            octets(root, 32, "parent_state_root"),
        )


@dataclass(frozen=True)
class SealedHeader:
    """Checkable alone: draw, VRF, seal, target and time need no body."""

    header: Header
    leaf0: Leaf0
    path: tuple[bytes, ...]
    seal: bytes

    @property
    def block_id(self) -> bytes:
        """32 bytes."""
        return self.header.block_id

    @property
    def prev(self) -> bytes:
        """32-byte id of the parent."""
        return self.header.prev

    @property
    def height(self) -> int:
        """Blocks since genesis, which has height 0."""
        return self.leaf0.height

    @property
    def proposer(self) -> bytes:
        """32-byte account of the proposer."""
        return self.leaf0.proposer

    @property
    def rank(self) -> int:
        """0 for the slot's first choice."""
        return self.leaf0.rank

    @property
    def timestamp_ms(self) -> int:
        """Unix time of the slot in milliseconds."""
        return self.header.timestamp_ms

    @cached_property
    def encoded(self) -> bytes:
        """Canonical bytes."""
        return pack(self.to_item())

    def encode(self) -> bytes:
        """Canonical bytes."""
        return self.encoded

    @classmethod
    def decode(cls, data: bytes) -> SealedHeader:
        """Raises DecodeError."""
        return cls.from_item(unpack(data, 4096))

    def to_item(self) -> tuple[Item, ...]:
        return (self.header.to_item(), self.leaf0.to_item(), self.path, self.seal)

    @classmethod
    def from_item(cls, item: Item) -> SealedHeader:
        """Raises DecodeError."""
        header, leaf0, path, seal = array(item, 4, "sealed header")
        return cls(
            Header.from_item(header),
            Leaf0.from_item(leaf0),
            tuple(octets(node, 32, "path node") for node in items(path, 8, "path")),
            octets(seal, 64, "seal"),
        )

    def path_ok(self) -> bool:
        """Whether leaf 0 is the first leaf under the header's root."""
        return merkle.verify_path(self.leaf0.encode(), 0, LEAVES, self.path, self.header.merkle_root)


@dataclass(frozen=True)
class Body:
    """The sections. Rating points and evidence are reserved and must be empty in this version."""

    txs: tuple[Tx, ...] = ()
    ratings: tuple[Item, ...] = ()
    records: tuple[RoundRecord, ...] = ()
    votes: tuple[Vote, ...] = ()
    evidence: tuple[Item, ...] = ()

    @cached_property
    def section_roots(self) -> tuple[bytes, ...]:
        """Leaves 1 to 5: transactions, ratings, training records, votes, evidence."""
        return (
            merkle.root([tx.encoded for tx in self.txs]),
            merkle.root([pack(entry) for entry in self.ratings]),
            merkle.root([record.encode() for record in self.records]),
            merkle.root([vote.encoded for vote in self.votes]),
            merkle.root([pack(entry) for entry in self.evidence]),
        )

    def leaves(self, leaf0: Leaf0) -> tuple[bytes, ...]:
        """All six leaves of the block's tree."""
        return (leaf0.encode(), *self.section_roots)

    def encode(self) -> bytes:
        """Canonical bytes."""
        return pack(self.to_item())

    @classmethod
    def decode(cls, data: bytes, max_size: int = MAX_BLOCK_BYTES) -> Body:
        """Raises DecodeError."""
        return cls.from_item(unpack(data, max_size))

    def to_item(self) -> tuple[Item, ...]:
        return (
            tuple(tx.to_item() for tx in self.txs),
            self.ratings,
            tuple(record.to_item() for record in self.records),
            tuple(vote.to_item() for vote in self.votes),
            self.evidence,
        )

    @classmethod
    def from_item(cls, item: Item) -> Body:
        """Raises DecodeError."""
        txs, ratings, records, votes, evidence = array(item, 5, "body")
        for name, section in (("ratings", ratings), ("evidence", evidence)):
            if section != ():
                raise DecodeError(f"the section {name} must be empty in blocks of version {VERSION}")
        return cls(
            txs=tuple(Tx.from_item(tx) for tx in items(txs, MAX_SECTION_ITEMS, "txs")),
            records=tuple(RoundRecord.from_item(r) for r in items(records, MAX_SECTION_ITEMS, "records")),
            votes=tuple(Vote.from_item(vote) for vote in items(votes, MAX_SECTION_ITEMS, "votes")),
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
        # The encoding is canonical, so these bytes are what `encoded` would compute.
        block.__dict__["encoded"] = bytes(data)
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
