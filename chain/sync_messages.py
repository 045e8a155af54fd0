"""The messages of `/p2pml/sync/1.0.0`, one request and one response per exchange.

A request is `[kind, ...]`, canonical msgpack:
GET_STATUS `[0]`, GET_BLOCKS `[1, locator, max_blocks]`, GET_BLOCK `[2, block_id]`.
A response is STATUS `[0, chain_id, head_id, height, weight]` or BLOCKS `[1, blocks]`, where a block is
a byte string and a weight is 32 bytes, big-endian.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chain.codec import Item, array, items, octets, octets_upto, pack, uint, unpack
from chain.errors import DecodeError
from chain.forkchoice import Chain
from chain.types import MAX_BLOCK_BYTES

PROTOCOL = "/p2pml/sync/1.0.0"
MAX_LOCATOR = 128
MAX_BLOCKS = 64
MAX_REQUEST_BYTES = 8192
ANSWER_BYTES = 1024 * 1024
"""A response takes blocks until it has this many bytes; one block is always sent, however large."""
MAX_RESPONSE_BYTES = MAX_BLOCK_BYTES + ANSWER_BYTES + 4096


@dataclass(frozen=True, slots=True)
class GetStatus:
    """Ask for the peer's head."""


@dataclass(frozen=True, slots=True)
class GetBlocks:
    """Ask for the blocks after the first id of `locator` that is on the peer's best branch."""

    locator: tuple[bytes, ...]
    max_blocks: int = MAX_BLOCKS


@dataclass(frozen=True, slots=True)
class GetBlock:
    """Ask for one block by id."""

    id: bytes


@dataclass(frozen=True, slots=True)
class Status:
    """A peer's head as it claims it."""

    chain_id: bytes
    head: bytes
    height: int
    weight: int


@dataclass(frozen=True, slots=True)
class Blocks:
    """Encoded blocks, oldest first; none if the peer has nothing to give."""

    blocks: tuple[bytes, ...]


Request = GetStatus | GetBlocks | GetBlock
Response = Status | Blocks


def encode_request(request: Request) -> bytes:
    """Canonical bytes."""
    match request:
        case GetStatus():
            return pack((0,))
        case GetBlocks():
            return pack((1, request.locator, request.max_blocks))
        case GetBlock():
            return pack((2, request.id))


def decode_request(data: bytes) -> Request:
    """Raises DecodeError."""
    kind, fields = _kind(unpack(data, MAX_REQUEST_BYTES), "request")
    if kind == 0:
        array(fields, 0, "status request")
        return GetStatus()
    if kind == 1:
        locator, count = array(fields, 2, "blocks request")
        ids = tuple(octets(i, 32, "block id") for i in items(locator, MAX_LOCATOR, "locator"))
        return GetBlocks(ids, uint(count, "max_blocks", low=1, high=MAX_BLOCKS))
    if kind == 2:
        (block_id,) = array(fields, 1, "block request")
        return GetBlock(octets(block_id, 32, "block id"))
    raise DecodeError(f"request kind {kind} is not known")


def encode_response(response: Response) -> bytes:
    """Canonical bytes."""
    match response:
        case Status():
            weight = response.weight.to_bytes(32, "big")
            return pack((0, response.chain_id, response.head, response.height, weight))
        case Blocks():
            return pack((1, response.blocks))


def decode_response(data: bytes) -> Response:
    """Raises DecodeError."""
    kind, fields = _kind(unpack(data, MAX_RESPONSE_BYTES), "response")
    if kind == 0:
        chain_id, head, height, weight = array(fields, 4, "status")
        return Status(
            octets(chain_id, 32, "chain_id"),
            octets(head, 32, "head"),
            uint(height, "height"),
            int.from_bytes(octets(weight, 32, "weight"), "big"),
        )
    if kind == 1:
        (blocks,) = array(fields, 1, "blocks")
        return Blocks(
            tuple(octets_upto(b, MAX_BLOCK_BYTES, "block") for b in items(blocks, MAX_BLOCKS, "blocks"))
        )
    raise DecodeError(f"response kind {kind} is not known")


def answer(
    request: Request,
    chain: Chain,
    by_height: Callable[[int], bytes | None],
    by_id: Callable[[bytes], bytes | None],
) -> Response:
    """The server's side.

    Args:
        request: what was asked.
        chain: blocks it still keeps are served from it.
        by_height: the encoded block of the best branch at a height, from storage.
        by_id: an encoded block from storage.
    """
    match request:
        case GetStatus():
            head = chain.head
            return Status(chain.genesis.chain_id, head.id, head.height, head.weight)
        case GetBlock():
            kept = chain.block(request.id)
            block = kept.encoded if kept else by_id(request.id)
            return Blocks(() if block is None else (block,))
        case GetBlocks():
            common = chain.common_height(request.locator)
            if common is None:
                return Blocks(())
            return Blocks(_after(common, min(request.max_blocks, MAX_BLOCKS), chain, by_height))


def _after(
    height: int, count: int, chain: Chain, by_height: Callable[[int], bytes | None]
) -> tuple[bytes, ...]:
    found: list[bytes] = []
    size = 0
    for next_height in range(height + 1, min(height + count, chain.head.height) + 1):
        block_id = chain.canonical_id(next_height)
        kept = chain.block(block_id) if block_id else None
        block = kept.encoded if kept else by_height(next_height)
        if block is None or (found and size + len(block) > ANSWER_BYTES):
            break
        found.append(block)
        size += len(block)
    return tuple(found)


def _kind(item: Item, what: str) -> tuple[int, tuple[Item, ...]]:
    if not isinstance(item, tuple) or not item:
        raise DecodeError(f"a {what} is an array that begins with its kind")
    return uint(item[0], f"{what} kind"), item[1:]
