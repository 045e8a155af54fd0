"""The entries of a state, under the state root: 4,096 buckets below three levels of sixteen children.

The tree is persistent: an update makes new nodes on the touched paths only and shares all others with
the trees before it, so every kept block can have its own tree.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from chain.codec import pack
from chain.crypto import H
from chain.entries import Entry

BUCKETS = 4096
_FAN = 16
_LEVELS = 3

_Rows = dict[bytes, tuple[bytes, Entry]]


@dataclass(frozen=True, slots=True)
class Bucket:
    """Sorted keys, and for each the SHA-256 of the encoded entry and the entry."""

    keys: tuple[bytes, ...]
    digests: tuple[bytes, ...]
    entries: tuple[Entry, ...]
    hash: bytes

    @classmethod
    def of(cls, rows: Mapping[bytes, tuple[bytes, Entry]]) -> Bucket:
        keys = tuple(sorted(rows))
        digests = tuple(rows[key][0] for key in keys)
        return cls(
            keys, digests, tuple(rows[key][1] for key in keys), bucket_hash(zip(keys, digests, strict=True))
        )


@dataclass(frozen=True, slots=True)
class Node:
    """Sixteen children and the hash over theirs."""

    children: tuple[Node | Bucket, ...]
    hash: bytes

    @classmethod
    def of(cls, children: tuple[Node | Bucket, ...]) -> Node:
        return cls(children, H("buckets", b"".join(child.hash for child in children)))


def bucket_hash(rows: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The 32-byte hash of a bucket: of its keys in order, each with the SHA-256 of its encoded entry."""
    # Hashed pair by pair: a list would meet the codec's cap on items some day.
    return H("bucket", b"".join(map(pack, rows)))


def bucket_of(key: bytes) -> int:
    """0..4095: the first twelve bits of the key's hash."""
    return int.from_bytes(hashlib.sha256(key).digest()[:2], "big") >> 4


def get(tree: Node, key: bytes) -> Entry | None:
    """The entry under a key."""
    index = bucket_of(key)
    node: Node | Bucket = tree
    for shift in (8, 4, 0):
        assert isinstance(node, Node)
        node = node.children[index >> shift & 15]
    assert isinstance(node, Bucket)
    place = bisect_left(node.keys, key)
    return node.entries[place] if place < len(node.keys) and node.keys[place] == key else None


def walk(tree: Node | Bucket) -> Iterator[tuple[bytes, Entry]]:
    """All keys and entries, bucket by bucket."""
    if isinstance(tree, Bucket):
        yield from zip(tree.keys, tree.entries, strict=True)
        return
    for child in tree.children:
        yield from walk(child)


def leaves(tree: Node | Bucket) -> Iterator[Bucket]:
    """All 4,096 buckets in order."""
    if isinstance(tree, Bucket):
        yield tree
        return
    for child in tree.children:
        yield from leaves(child)


def tree_of(found: Sequence[Bucket]) -> Node:
    """The tree over all 4,096 buckets."""
    level: Sequence[Node | Bucket] = found
    for _ in range(_LEVELS):
        level = [Node.of(tuple(level[at : at + _FAN])) for at in range(0, len(level), _FAN)]
    (node,) = level
    assert isinstance(node, Node)
    return node


def hash_over(hashes: Sequence[bytes]) -> bytes:
    """The hash of the tree over 4,096 buckets with these hashes."""
    level = hashes
    for _ in range(_LEVELS):
        level = [H("buckets", b"".join(level[at : at + _FAN])) for at in range(0, len(level), _FAN)]
    (found,) = level
    return found


def updated(tree: Node, changes: Mapping[bytes, Entry]) -> Node:
    """The tree after entries changed. Entries are never removed."""
    by_bucket: dict[int, _Rows] = {}
    for key, entry in changes.items():
        digest = hashlib.sha256(entry.encoded).digest()
        by_bucket.setdefault(bucket_of(key), {})[key] = (digest, entry)
    node = _update(tree, by_bucket, _LEVELS)
    assert isinstance(node, Node)
    return node


def _update(node: Node | Bucket, changes: dict[int, _Rows], level: int) -> Node | Bucket:
    if isinstance(node, Bucket):
        (change,) = changes.values()
        rows = zip(node.keys, zip(node.digests, node.entries, strict=True), strict=True)
        return Bucket.of({**dict(rows), **change})
    shift = 4 * (level - 1)
    below: dict[int, dict[int, _Rows]] = {}
    for index, change in changes.items():
        below.setdefault(index >> shift & 15, {})[index] = change
    children = list(node.children)
    for position, part in below.items():
        children[position] = _update(children[position], part, level - 1)
    return Node.of(tuple(children))


def _empty() -> Node:
    node: Node | Bucket = Bucket.of({})
    for _ in range(_LEVELS):
        node = Node.of((node,) * _FAN)
    assert isinstance(node, Node)
    return node


EMPTY = _empty()
