"""The messages of `/p2pml/snapshot/1.0.0`, one request and one response per exchange.

A request is `[kind, block_id, ...]`, canonical msgpack: MANIFEST `[0, id]`, TABLES `[1, id]`,
FINALITY `[2, id]`, RUN `[3, id, first, count]`, for the state after the block of that 32-byte id. The
response is the part's bytes as `chain.snapshot` has them; none where that snapshot is not kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chain.buckets import BUCKETS
from chain.codec import array, octets, pack, uint, unpack
from chain.errors import ChainError, DecodeError
from chain.snapshot import MAX_MANIFEST_BYTES, MAX_PART_BYTES, Snapshot

PROTOCOL = "/p2pml/snapshot/1.0.0"
MAX_REQUEST_BYTES = 64
MAX_RESPONSE_BYTES = max(MAX_MANIFEST_BYTES, MAX_PART_BYTES)


@dataclass(frozen=True, slots=True)
class GetManifest:
    """Ask for the manifest."""

    id: bytes


@dataclass(frozen=True, slots=True)
class GetTables:
    """Ask for the weight tables."""

    id: bytes


@dataclass(frozen=True, slots=True)
class GetFinality:
    """Ask for the finality."""

    id: bytes


@dataclass(frozen=True, slots=True)
class GetRun:
    """Ask for `count` buckets from `first` on; the answer may have fewer."""

    id: bytes
    first: int
    count: int


PartRequest = GetManifest | GetTables | GetFinality | GetRun
_KINDS: tuple[type[PartRequest], ...] = (GetManifest, GetTables, GetFinality, GetRun)


def encode_part_request(request: PartRequest) -> bytes:
    """Canonical bytes."""
    match request:
        case GetManifest():
            return pack((0, request.id))
        case GetTables():
            return pack((1, request.id))
        case GetFinality():
            return pack((2, request.id))
        case GetRun():
            return pack((3, request.id, request.first, request.count))


def decode_part_request(data: bytes) -> PartRequest:
    """Raises DecodeError."""
    item = unpack(data, MAX_REQUEST_BYTES)
    if not isinstance(item, tuple) or not item:
        raise DecodeError("a request is an array that begins with its kind")
    kind = uint(item[0], "request kind", high=len(_KINDS) - 1)
    if kind < 3:
        _, block_id = array(item, 2, "request")
        return _KINDS[kind](octets(block_id, 32, "block id"))  # type: ignore[call-arg]
    _, block_id, first, count = array(item, 4, "request for buckets")
    start = uint(first, "first", high=BUCKETS - 1)
    return GetRun(octets(block_id, 32, "block id"), start, uint(count, "count", 1, BUCKETS - start))


def answer_part(request: PartRequest, found: Callable[[bytes], Snapshot | None]) -> bytes:
    """The server's side; it may take a while for a large part: call it in a thread.

    Args:
        found: the snapshot after a block, if it is kept.
    """
    snapshot = found(request.id)
    if snapshot is None:
        return b""
    match request:
        case GetManifest():
            return snapshot.manifest.encoded
        case GetTables():
            return snapshot.tables
        case GetFinality():
            return snapshot.finality
        case GetRun():
            try:
                return snapshot.run(request.first, request.count)
            except ChainError:
                return b""
