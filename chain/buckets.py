"""The hash tree under the state root: 4,096 buckets of entries below three levels of sixteen children.

The tree is persistent: an update makes new nodes on the touched paths only and shares all others with
the trees before it, so every kept block can have its own tree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from chain.codec import pack
from chain.crypto import H

BUCKETS = 4096
_FAN = 16
_LEVELS = 3


@dataclass(frozen=True, slots=True)
class Bucket:
    """Sorted (key, SHA-256 of the encoded entry) pairs."""

    pairs: tuple[tuple[bytes, bytes], ...]
    hash: bytes

    @classmethod
    def of(cls, pairs: tuple[tuple[bytes, bytes], ...]) -> Bucket:
        # Hashed pair by pair: a list would meet the codec's cap on items some day.
        flat = b"".join(pack(pair) for pair in pairs)
        return cls(pairs, H("bucket", flat))


@dataclass(frozen=True, slots=True)
class Node:
    """Sixteen children and the hash over theirs."""

    children: tuple[Node | Bucket, ...]
    hash: bytes

    @classmethod
    def of(cls, children: tuple[Node | Bucket, ...]) -> Node:
        return cls(children, H("buckets", b"".join(child.hash for child in children)))


def bucket_of(key: bytes) -> int:
    """0..4095: the first twelve bits of the key's hash."""
    return int.from_bytes(hashlib.sha256(key).digest()[:2], "big") >> 4


def updated(tree: Node, changes: Mapping[bytes, bytes]) -> Node:
    """The tree after entries changed: key -> encoded entry. Entries are never removed."""
    by_bucket: dict[int, dict[bytes, bytes]] = {}
    for key, encoded in changes.items():
        by_bucket.setdefault(bucket_of(key), {})[key] = hashlib.sha256(encoded).digest()
    node = _update(tree, by_bucket, _LEVELS)
    assert isinstance(node, Node)
    return node


def _update(node: Node | Bucket, changes: dict[int, dict[bytes, bytes]], level: int) -> Node | Bucket:
    if isinstance(node, Bucket):
        (change,) = changes.values()
        return Bucket.of(tuple(sorted({**dict(node.pairs), **change}.items())))
    shift = 4 * (level - 1)
    below: dict[int, dict[int, dict[bytes, bytes]]] = {}
    for index, change in changes.items():
        below.setdefault(index >> shift & 15, {})[index] = change
    children = list(node.children)
    for position, part in below.items():
        children[position] = _update(children[position], part, level - 1)
    return Node.of(tuple(children))


def _empty() -> Node:
    node: Node | Bucket = Bucket.of(())
    for _ in range(_LEVELS):
        node = Node.of((node,) * _FAN)
    assert isinstance(node, Node)
    return node


EMPTY = _empty()
