"""The messages of `/p2pml/sync/2.0.0`, one request and one response per exchange.

A request is `[kind, ...]`, canonical msgpack: GET_STATUS `[0]`, GET_HEADERS `[1, locator, max_headers]`,
GET_BODIES `[2, block_ids]`, GET_BLOCK `[3, block_id]`.
A response is STATUS `[0, chain_id, head_id, height, weight, justified, lowest]`, HEADERS `[1, headers]`,
BODIES `[2, bodies]` or BLOCK `[3, block]`. Sealed headers, bodies and blocks are byte strings of their own
encoding, a weight is 32 bytes, big-endian, `justified` the number of a checkpoint. An empty byte string
stands for a body or block that the peer does not have.
"""

from __future__ import annotations

from dataclasses import dataclass

from chain.codec import Item, array, items, octets, octets_upto, pack, uint, unpack
from chain.errors import DecodeError
from chain.header import MAX_SEALED_BYTES
from chain.types import MAX_BLOCK_BYTES

PROTOCOL = "/p2pml/sync/2.0.0"
MAX_LOCATOR = 128
MAX_HEADERS = 256
MAX_BODIES = 32
MAX_REQUEST_BYTES = 8192
HEADERS_BYTES = 256 * 1024
"""A response takes sealed headers until it has this many bytes; one is always sent."""
BODIES_BYTES = 256 * 1024
"""The same for bodies."""
_FRAMING = 4096
STATUS_BYTES = 256
HEADERS_RESPONSE_BYTES = HEADERS_BYTES + MAX_SEALED_BYTES + _FRAMING
MAX_RESPONSE_BYTES = MAX_BLOCK_BYTES + BODIES_BYTES + _FRAMING


@dataclass(frozen=True, slots=True)
class GetStatus:
    """Ask for the peer's head."""


@dataclass(frozen=True, slots=True)
class GetHeaders:
    """Ask for the sealed headers after the first id of `locator` that is on the peer's best branch."""

    locator: tuple[bytes, ...]
    max_headers: int = MAX_HEADERS


@dataclass(frozen=True, slots=True)
class GetBodies:
    """Ask for the bodies of these blocks, of any branch."""

    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class GetBlock:
    """Ask for one block by id."""

    id: bytes


@dataclass(frozen=True, slots=True)
class Status:
    """A peer's head as it claims it.

    Args:
        chain_id, head: 32 bytes.
        height, weight: of the head.
        justified: the number of the highest checkpoint that the blocks up to the head justify.
        lowest: the lowest height whose body the peer serves; 1 if it has all of them.
    """

    chain_id: bytes
    head: bytes
    height: int
    weight: int
    justified: int = 0
    lowest: int = 1


@dataclass(frozen=True, slots=True)
class HeaderList:
    """Encoded sealed headers, oldest first; none if the peer has nothing to give."""

    headers: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class BodyList:
    """Encoded bodies of the first blocks asked for, in that order; empty for one that is not there."""

    bodies: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class OneBlock:
    """One encoded block; empty if the peer does not have it."""

    block: bytes


Request = GetStatus | GetHeaders | GetBodies | GetBlock
Response = Status | HeaderList | BodyList | OneBlock


def encode_request(request: Request) -> bytes:
    """Canonical bytes."""
    match request:
        case GetStatus():
            return pack((0,))
        case GetHeaders():
            return pack((1, request.locator, request.max_headers))
        case GetBodies():
            return pack((2, request.ids))
        case GetBlock():
            return pack((3, request.id))


def decode_request(data: bytes) -> Request:
    """Raises DecodeError."""
    kind, fields = _kind(unpack(data, MAX_REQUEST_BYTES), "request")
    if kind == 0:
        array(fields, 0, "status request")
        return GetStatus()
    if kind == 1:
        locator, count = array(fields, 2, "headers request")
        return GetHeaders(
            _ids(locator, MAX_LOCATOR, "locator"), uint(count, "max_headers", low=1, high=MAX_HEADERS)
        )
    if kind == 2:
        (ids,) = array(fields, 1, "bodies request")
        return GetBodies(_ids(ids, MAX_BODIES, "block ids"))
    if kind == 3:
        (block_id,) = array(fields, 1, "block request")
        return GetBlock(octets(block_id, 32, "block id"))
    raise DecodeError(f"request kind {kind} is not known")


def encode_response(response: Response) -> bytes:
    """Canonical bytes."""
    match response:
        case Status():
            weight = response.weight.to_bytes(32, "big")
            return pack(
                (
                    0, response.chain_id, response.head, response.height, weight, response.justified,
                    response.lowest,
                )
            )  # fmt: skip
        case HeaderList():
            return pack((1, response.headers))
        case BodyList():
            return pack((2, response.bodies))
        case OneBlock():
            return pack((3, response.block))


def decode_response(data: bytes) -> Response:
    """Raises DecodeError."""
    kind, fields = _kind(unpack(data, MAX_RESPONSE_BYTES), "response")
    if kind == 0:
        return _status(fields)
    if kind == 1:
        (headers,) = array(fields, 1, "headers")
        return HeaderList(_strings(headers, MAX_HEADERS, MAX_SEALED_BYTES, "headers"))
    if kind == 2:
        (bodies,) = array(fields, 1, "bodies")
        return BodyList(_strings(bodies, MAX_BODIES, MAX_BLOCK_BYTES, "bodies"))
    if kind == 3:
        (block,) = array(fields, 1, "block")
        return OneBlock(octets_upto(block, MAX_BLOCK_BYTES, "block"))
    raise DecodeError(f"response kind {kind} is not known")


def response_bytes(request: Request, max_block: int) -> int:
    """The size of the largest honest response.

    Args:
        max_block: bytes of the largest block of this chain.
    """
    match request:
        case GetStatus():
            return STATUS_BYTES
        case GetHeaders():
            return HEADERS_RESPONSE_BYTES
        case GetBodies():
            return max_block + BODIES_BYTES + _FRAMING
        case GetBlock():
            return max_block + _FRAMING


def _status(fields: tuple[Item, ...]) -> Status:
    chain_id, head, height, weight, justified, lowest = array(fields, 6, "status")
    return Status(
        octets(chain_id, 32, "chain_id"),
        octets(head, 32, "head"),
        uint(height, "height"),
        int.from_bytes(octets(weight, 32, "weight"), "big"),
        uint(justified, "justified", high=2**53),
        uint(lowest, "lowest", low=1),
    )


def _ids(item: Item, most: int, what: str) -> tuple[bytes, ...]:
    return tuple(octets(block_id, 32, "block id") for block_id in items(item, most, what))


def _strings(item: Item, most: int, max_bytes: int, what: str) -> tuple[bytes, ...]:
    return tuple(octets_upto(each, max_bytes, what) for each in items(item, most, what))


def _kind(item: Item, what: str) -> tuple[int, tuple[Item, ...]]:
    if not isinstance(item, tuple) or not item:
        raise DecodeError(f"a {what} is an array that begins with its kind")
    return uint(item[0], f"{what} kind"), item[1:]
