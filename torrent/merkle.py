"""SHA-256 hash trees over 16 KiB blocks (BEP 52).

A file's tree has one leaf per block, padded to a power of two with leaves of 32 zero bytes. The hashes of
the layer at which one node covers one piece are the file's piece layer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from torrent.geometry import BLOCK

HASH = 32
_ZERO = bytes(HASH)


def width(leaves: int) -> int:
    """The smallest power of two that is not less than ``leaves`` (at least 1)."""
    return 1 << max(0, leaves - 1).bit_length()


def root(hashes: Iterable[bytes], size: int, pad: bytes = _ZERO) -> bytes:
    """The root of a tree of ``size`` leaves (a power of two); what is missing on the right is ``pad``."""
    layer = list(hashes)
    while size > 1:
        if len(layer) % 2:
            layer.append(pad)
        layer = [hashlib.sha256(layer[n] + layer[n + 1]).digest() for n in range(0, len(layer), 2)]
        pad = hashlib.sha256(pad + pad).digest()
        size //= 2
    return layer[0] if layer else pad


def data_root(data: bytes | bytearray | memoryview, size: int) -> bytes:
    """The root over the blocks of ``data`` in a tree of ``size`` leaves."""
    view = memoryview(data)
    return root((hashlib.sha256(view[at : at + BLOCK]).digest() for at in range(0, len(view), BLOCK)), size)


def piece_width(file_length: int, piece_length: int) -> int:
    """Leaves below the hash of one piece: a file of one piece has a tree that is only as wide as itself."""
    return width(-(-min(file_length, piece_length) // BLOCK))


def file_root(piece_hashes: bytes, piece_length: int) -> bytes:
    """A file's root (``pieces root``) from the hashes of its pieces, joined."""
    count = len(piece_hashes) // HASH
    layer = [piece_hashes[n * HASH : (n + 1) * HASH] for n in range(count)]
    return root(layer, width(count), root((), piece_length // BLOCK))
