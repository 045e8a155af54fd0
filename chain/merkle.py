"""Merkle tree of RFC 6962, section 2.1.

Leaves and inner nodes have different prefixes and a lone right subtree is promoted, not duplicated:
Bitcoin's tree, which duplicates it, gives two bodies one root (CVE-2012-2459).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    """SHA-256(0x00 ‖ leaf)."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The 32-byte root of the leaves' data; SHA-256 of nothing for no leaves."""
    return _root([leaf_hash(leaf) for leaf in leaves])


def path(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The audit path of leaf `index`, from the leaf's sibling up (RFC 6962, 2.1.1).

    Raises IndexError for an index outside the leaves.
    """
    if not 0 <= index < len(leaves):
        raise IndexError(f"leaf {index} of {len(leaves)}")
    return paths(leaves)[index]


def paths(leaves: Sequence[bytes]) -> tuple[tuple[bytes, ...], ...]:
    """The audit paths of all leaves, in time n log n."""
    return tuple(tuple(audit) for audit in _paths([leaf_hash(leaf) for leaf in leaves])[1])


def verify_path(leaf: bytes, index: int, size: int, audit: Sequence[bytes], expected: bytes) -> bool:
    """Whether `leaf` is leaf `index` of the tree of `size` leaves with root `expected`.

    The algorithm of RFC 9162, 2.1.3.2, on the same tree. A path of a wrong length never verifies.
    """
    if not 0 <= index < size:
        return False
    position, last, value = index, size - 1, leaf_hash(leaf)
    for sibling in audit:
        if last == 0:
            return False
        if position & 1 or position == last:
            value = node_hash(sibling, value)
            while position and not position & 1:
                position >>= 1
                last >>= 1
        else:
            value = node_hash(value, sibling)
        position >>= 1
        last >>= 1
    return last == 0 and value == expected


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << (count - 1).bit_length() - 1


def _root(hashes: list[bytes]) -> bytes:
    if not hashes:
        return EMPTY_ROOT
    if len(hashes) == 1:
        return hashes[0]
    split = _split(len(hashes))
    return node_hash(_root(hashes[:split]), _root(hashes[split:]))


def _paths(hashes: list[bytes]) -> tuple[bytes, list[list[bytes]]]:
    """The root, and each leaf's path from its sibling up."""
    if len(hashes) <= 1:
        return _root(hashes), [[] for _ in hashes]
    split = _split(len(hashes))
    left, left_paths = _paths(hashes[:split])
    right, right_paths = _paths(hashes[split:])
    for audit in left_paths:
        audit.append(right)
    for audit in right_paths:
        audit.append(left)
    return node_hash(left, right), left_paths + right_paths
