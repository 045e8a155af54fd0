"""Sides of a yamux connection without IO, and bytes carried between them."""

from __future__ import annotations

from p2pml.net.yamux import frames
from p2pml.net.yamux.connection import CHUNK_BYTES, Connection
from p2pml.net.yamux.limits import Budget, Limits
from p2pml.net.yamux.stream import StreamState

SMALL = Limits(inbound_streams=4, outbound_streams=4, keepalive=10, keepalive_timeout=20, linger=60)


def a_side(dialled: bool = False, limits: Limits = SMALL, budget: Budget | None = None) -> Connection:
    return Connection(dialled, limits, budget or Budget(), 0.0)


def output(side: Connection) -> bytes:
    return b"".join(iter(side.next_chunk, None))


def headers(data: bytes) -> list[frames.Header]:
    return [each for each in frames.FrameReader().feed(data) if isinstance(each, frames.Header)]


def exchange(one: Connection, other: Connection, now: float = 0.0) -> None:
    """Carry bytes until both are quiet."""
    quiet = False
    while not quiet:
        quiet = True
        for source, target in ((one, other), (other, one)):
            for chunk in iter(source.next_chunk, None):
                assert len(chunk) <= CHUNK_BYTES
                target.receive(chunk, now)
                quiet = False


def opened_pair() -> tuple[Connection, StreamState, Connection, StreamState]:
    a, b = a_side(True), a_side()
    ours = a.open()
    exchange(a, b)
    return a, ours, b, b.arrived.popleft()


def carry(a: Connection, ours: StreamState, b: Connection, theirs: StreamState, data: bytes) -> bytes:
    """Send all of `data` from `ours`, read at the other end as it comes."""
    view, got = memoryview(data), bytearray()
    while view or ours.queued:
        view = view[ours.send(view) :] if view else view
        exchange(a, b)
        while part := theirs.take(1 << 20):
            got += part
        exchange(a, b)
    return bytes(got)
