"""The sealed header: what is sealed, drawn and checked of a block before its body is fetched.

The header is Satoshi's without the nonce: `[prev, timestamp_ms, target, merkle_root]`. Its Merkle tree
(RFC 6962) has six leaves: leaf 0 with the proposer's data, then the roots of the body's sections, so that
`SealedHeader` (header, leaf 0, its path, seal) can be checked without the body.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from chain import merkle
from chain.codec import Item, array, items, octets, pack, uint, unpack
from chain.crypto import H, verify_once
from chain.vrf import PROOF_BYTES

VERSION = 1
LEAVES = 6
MAX_SEALED_BYTES = 4096


def seal_message(chain_id: bytes, block_id: bytes) -> bytes:
    """What the proposer signs."""
    return H("seal", chain_id, block_id)


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
        return cls.from_item(unpack(data, MAX_SEALED_BYTES))

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

    def seal_ok(self, chain_id: bytes) -> bool:
        """Whether the proposer sealed it, on this chain."""
        return verify_once(self.proposer, seal_message(chain_id, self.block_id), self.seal)
