"""Answering what a peer asks about the chain: the other side of `chain.sync`.

First `locate`, which only looks at the tree of blocks; then `Located.read`, which may wait for a disk and
touches nothing of the tree, so it can run in a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chain.errors import DecodeError
from chain.forkchoice import Chain
from chain.sync_messages import (
    BODIES_BYTES,
    HEADERS_BYTES,
    MAX_BODIES,
    MAX_HEADERS,
    BodyList,
    GetBlock,
    GetBodies,
    GetHeaders,
    GetStatus,
    HeaderList,
    OneBlock,
    Request,
    Response,
    Status,
)
from chain.types import split

Stored = Callable[[bytes], bytes | None]
Row = tuple[bytes, bytes | None]
"""A block's id, and its bytes if memory has them."""


@dataclass(frozen=True, slots=True)
class Located:
    """Which blocks answer a request, in its order."""

    request: Request
    rows: tuple[Row, ...]

    def read(self, block: Stored, sealed: Stored) -> Response:
        """What is asked of these blocks, as many as fit, the missing ones from storage.

        Args:
            block, sealed: an encoded block, and an encoded sealed header, by the block's id. They may wait
                for a disk: call this in a thread.
        """
        match self.request:
            case GetHeaders():
                return HeaderList(self._headers(sealed))
            case GetBodies():
                return BodyList(self._bodies(block))
            case _:
                return OneBlock(next((_block(row, block) for row in self.rows), b""))

    def _headers(self, stored: Stored) -> tuple[bytes, ...]:
        found: list[bytes] = []
        size = 0
        for block_id, kept in self.rows:
            sealed = split(kept)[0] if kept else stored(block_id) or b""
            size += len(sealed)
            if not sealed or (found and size > HEADERS_BYTES):
                break
            found.append(sealed)
        return tuple(found)

    def _bodies(self, stored: Stored) -> tuple[bytes, ...]:
        found: list[bytes] = []
        size = 0
        for row in self.rows:
            body = _body(_block(row, stored))
            size += len(body)
            if found and size > BODIES_BYTES:
                break
            found.append(body)
        return tuple(found)


def locate(request: Request, chain: Chain, lowest: int = 1) -> Status | Located:
    """The server's side, as far as memory goes.

    Args:
        lowest: the lowest height whose body this node serves.
    """
    match request:
        case GetStatus():
            head = chain.head
            justified = chain.state().finality.highest.number
            return Status(chain.genesis.chain_id, head.id, head.height, head.weight, justified, lowest)
        case GetBlock():
            return Located(request, (_kept(request.id, chain),))
        case GetBodies():
            return Located(request, tuple(_kept(block_id, chain) for block_id in request.ids[:MAX_BODIES]))
        case GetHeaders():
            common = chain.common_height(request.locator)
            first = chain.head.height + 1 if common is None else common + 1
            heights = range(first, first + min(request.max_headers, MAX_HEADERS))
            ids = (chain.canonical_id(height) for height in heights)
            return Located(request, tuple(_kept(block_id, chain) for block_id in ids if block_id is not None))


def answer(request: Request, chain: Chain, stored: Stored, lowest: int = 1) -> Response:
    """The server's side, where storage does not make anybody wait.

    Args:
        stored: an encoded block by id.
        lowest: see `locate`.
    """

    def sealed(block_id: bytes) -> bytes | None:
        block = stored(block_id)
        return None if block is None else split(block)[0]

    found = locate(request, chain, lowest)
    return found.read(stored, sealed) if isinstance(found, Located) else found


def _kept(block_id: bytes, chain: Chain) -> Row:
    block = chain.block(block_id)
    return block_id, None if block is None else block.encoded


def _block(row: Row, stored: Stored) -> bytes:
    block_id, kept = row
    return kept or stored(block_id) or b""


def _body(block: bytes) -> bytes:
    """The body of an encoded block; what is stored may have been damaged, then there is none."""
    try:
        return split(block)[1] if block else b""
    except DecodeError:
        return b""
