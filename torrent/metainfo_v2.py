"""The v2 half of a hybrid metainfo file (BEP 52): file tree, roots and piece layers, checked against the v1
half.

Both halves must tell of the same files in the same order, and every file that holds data must begin on the
piece on which v2 puts it, so that a piece has the same bytes in both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torrent import merkle
from torrent.bencode import Value
from torrent.errors import MetainfoError
from torrent.files import File
from torrent.geometry import BLOCK, Geometry
from torrent.merkle import HASH
from torrent.metainfo_fields import attributes, field, file_length
from torrent.paths import decode_path

META_VERSION = 2


@dataclass(frozen=True, slots=True)
class V2:
    """What the v2 half adds.

    ``info_hash``: 32 bytes, SHA-256 of the raw ``info`` value. ``roots``: by index into
    ``Metainfo.files``, ``None`` for pad files and empty ones. ``hashes``: 32 bytes per piece, joined.
    """

    info_hash: bytes
    roots: tuple[bytes | None, ...]
    hashes: bytes

    def piece_hash(self, index: int) -> bytes:
        return self.hashes[index * HASH : (index + 1) * HASH]


class _Leaf(NamedTuple):
    path: tuple[str, ...]
    length: int
    root: bytes | None


def is_hybrid(info: dict[bytes, Value]) -> bool:
    """Whether there is a v2 half. Raises ``MetainfoError`` for a version that is not known."""
    if b"meta version" not in info:
        if b"file tree" in info:
            raise MetainfoError("a file tree without 'meta version'")
        return False
    version = field(info, b"meta version", int)
    if version != META_VERSION:
        raise MetainfoError(f"meta version {version}, only {META_VERSION} is known")
    return True


def parse_v2(
    outer: dict[bytes, Value],
    info: dict[bytes, Value],
    raw_info: bytes | memoryview,
    files: tuple[File, ...],
    geometry: Geometry,
) -> V2:
    """The v2 half of a hybrid whose v1 half is checked already. Raises ``MetainfoError``."""
    length = geometry.piece_length
    if length < BLOCK or length & (length - 1):
        raise MetainfoError(f"piece length {length} is not a power of two from 16 KiB up, as v2 needs")
    leaves = list(_leaves(field(info, b"file tree", dict), ()))
    _check_agreement(files, leaves, geometry)
    layers = field(outer, b"piece layers", dict) if b"piece layers" in outer else {}
    hashes = b"".join(_piece_hashes(leaf, layers, length) for leaf in leaves)
    needed = {leaf.root for leaf in leaves if leaf.length > length}
    if len(layers) != len(needed):
        raise MetainfoError("a piece layer that belongs to no file")
    found = iter(leaves)
    roots = tuple(None if file.pad else next(found).root for file in files)
    return V2(hashlib.sha256(raw_info).digest(), roots, hashes)


def _leaves(folder: dict[bytes, Value], above: tuple[bytes, ...]) -> Iterator[_Leaf]:
    """The files of a tree in its order, symbolic links left out; as deep as bencoding may nest."""
    if not folder:
        raise MetainfoError("an empty folder in the file tree")
    for name, node in folder.items():
        if not isinstance(node, dict):
            raise MetainfoError("an entry of the file tree is not a dictionary")
        if not name:
            if len(folder) > 1:
                raise MetainfoError("an entry of the file tree is both a file and a folder")
            path = decode_path(above)
            if b"l" not in attributes(node):
                yield _leaf(path, node)
        else:
            yield from _leaves(node, (*above, name))


def _leaf(path: tuple[str, ...], node: dict[bytes, Value]) -> _Leaf:
    length = file_length(node)
    if not length:
        if b"pieces root" in node:
            raise MetainfoError("an empty file with a 'pieces root'")
        return _Leaf(path, 0, None)
    root = field(node, b"pieces root", bytes)
    if len(root) != HASH:
        raise MetainfoError(f"a 'pieces root' of {len(root)} bytes")
    return _Leaf(path, length, root)


def _check_agreement(files: Sequence[File], leaves: Sequence[_Leaf], geometry: Geometry) -> None:
    real = [file for file in files if not file.pad]
    if [(file.path, file.length) for file in real] != [(leaf.path, leaf.length) for leaf in leaves]:
        raise MetainfoError("the v1 and v2 halves name different files")
    piece = 0
    for file in real:
        if file.length:
            if file.offset != piece * geometry.piece_length:
                raise MetainfoError(f"{'/'.join(file.path)!r} does not begin on piece {piece} as in v2")
            piece += -(-file.length // geometry.piece_length)
    if piece != geometry.piece_count:
        raise MetainfoError(f"{geometry.piece_count} pieces in the v1 half, {piece} in the v2 half")


def _piece_hashes(leaf: _Leaf, layers: dict[bytes, Value], piece_length: int) -> bytes:
    if leaf.root is None:
        return b""
    if leaf.length <= piece_length:
        return leaf.root
    layer = layers.get(leaf.root)
    name = "/".join(leaf.path)
    if not isinstance(layer, bytes):
        raise MetainfoError(f"no piece layer for {name!r}")
    count = -(-leaf.length // piece_length)
    if len(layer) != count * HASH:
        raise MetainfoError(f"a piece layer of {len(layer)} bytes for the {count} pieces of {name!r}")
    if merkle.file_root(layer, piece_length) != leaf.root:
        raise MetainfoError(f"the piece layer of {name!r} does not lead to its 'pieces root'")
    return layer


def build(
    files: Sequence[File], piece_length: int, hashes: bytes
) -> tuple[dict[bytes, Value], dict[bytes, Value]]:
    """The file tree and the piece layers of files that ``plan`` laid out aligned.

    ``hashes``: 32 bytes per piece in the order of the stream, see ``merkle.piece_width``.
    """
    tree: dict[bytes, Value] = {}
    layers: dict[bytes, Value] = {}
    for file in files:
        if file.pad:
            continue
        node: dict[bytes, Value] = {b"length": file.length}
        if file.length:
            first = file.offset // piece_length
            count = -(-file.length // piece_length)
            layer = hashes[first * HASH : (first + count) * HASH]
            root = layer if count == 1 else merkle.file_root(layer, piece_length)
            node[b"pieces root"] = root
            if count > 1:
                layers[root] = layer
        folder = tree
        for part in file.path:
            # a name that is no text stays what it is here and is refused when the result is checked
            below = folder.setdefault(part.encode("utf-8", "surrogateescape"), {})
            assert isinstance(below, dict)
            folder = below
        folder[b""] = node
    return tree, layers
