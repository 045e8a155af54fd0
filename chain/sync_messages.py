"""The messages of `/p2pml/sync/1.1.0`, one request and one response per exchange.

A request is `[kind, ...]`, canonical msgpack:
GET_STATUS `[0]`, GET_BLOCKS `[1, locator, max_blocks]`, GET_BLOCK `[2, block_id]`.
A response is STATUS `[0, chain_id, head_id, height, weight, justified]` or BLOCKS `[1, blocks]`, where a
block is a byte string, a weight is 32 bytes, big-endian, and `justified` the number of a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chain.codec import Item, array, items, octets, octets_upto, pack, uint, unpack
from chain.errors import DecodeError
from chain.forkchoice import Chain
from chain.types import MAX_BLOCK_BYTES

PROTOCOL = "/p2pml/sync/1.1.0"
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
    """A peer's head as it claims it, and the highest checkpoint that the blocks up to it justify."""

    chain_id: bytes
    head: bytes
    height: int
    weight: int
    justified: int = 0


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
            return pack((0, response.chain_id, response.head, response.height, weight, response.justified))
        case Blocks():
            return pack((1, response.blocks))


def decode_response(data: bytes) -> Response:
    """Raises DecodeError."""
    kind, fields = _kind(unpack(data, MAX_RESPONSE_BYTES), "response")
    if kind == 0:
        chain_id, head, height, weight, justified = array(fields, 5, "status")
        return Status(
            octets(chain_id, 32, "chain_id"),
            octets(head, 32, "head"),
            uint(height, "height"),
            int.from_bytes(octets(weight, 32, "weight"), "big"),
            uint(justified, "justified", high=2**53),
        )
    if kind == 1:
        (blocks,) = array(fields, 1, "blocks")
        return Blocks(
            tuple(octets_upto(b, MAX_BLOCK_BYTES, "block") for b in items(blocks, MAX_BLOCKS, "blocks"))
        )
    raise DecodeError(f"response kind {kind} is not known")


@dataclass(frozen=True, slots=True)
class Located:
    """Which blocks answer a request, oldest first: each one's id, and its bytes if memory has them."""

    blocks: tuple[tuple[bytes, bytes | None], ...]

    def read(self, stored: Callable[[bytes], bytes | None]) -> Blocks:
        """The blocks, as many as fit, the missing ones from storage; touches nothing of the chain.

        Args:
            stored: an encoded block by id. It may wait for a disk: call this in a thread.
        """
        found: list[bytes] = []
        size = 0
        for block_id, kept in self.blocks:
            block = stored(block_id) if kept is None else kept
            if block is None or (found and size + len(block) > ANSWER_BYTES):
                break
            found.append(block)
            size += len(block)
        return Blocks(tuple(found))


def locate(request: Request, chain: Chain) -> Status | Located:
    """The server's side, as far as memory goes."""
    match request:
        case GetStatus():
            head = chain.head
            justified = chain.state().finality.highest.number
            return Status(chain.genesis.chain_id, head.id, head.height, head.weight, justified)
        case GetBlock():
            return Located((_kept(request.id, chain),))
        case GetBlocks():
            common = chain.common_height(request.locator)
            first = chain.head.height + 1 if common is None else common + 1
            heights = range(first, first + min(request.max_blocks, MAX_BLOCKS))
            ids = (chain.canonical_id(height) for height in heights)
            return Located(tuple(_kept(block_id, chain) for block_id in ids if block_id is not None))


def answer(request: Request, chain: Chain, stored: Callable[[bytes], bytes | None]) -> Response:
    """The server's side, where storage does not make anybody wait."""
    found = locate(request, chain)
    return found.read(stored) if isinstance(found, Located) else found


def _kept(block_id: bytes, chain: Chain) -> tuple[bytes, bytes | None]:
    block = chain.block(block_id)
    return block_id, None if block is None else block.encoded


def _kind(item: Item, what: str) -> tuple[int, tuple[Item, ...]]:
    if not isinstance(item, tuple) or not item:
        raise DecodeError(f"a {what} is an array that begins with its kind")
    return uint(item[0], f"{what} kind"), item[1:]
