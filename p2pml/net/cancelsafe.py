"""Cancellation that cannot damage a connection that other streams share.

libp2p's noise layer numbers a record before it is written: a write that is cancelled half way leaves the
two sides with different counters, and every stream of the connection dies. A yamux read writes too (it
returns window). So waiting is done here, where it can be cancelled, and what touches the wire runs
shielded, bounded by a stall limit after which the whole connection is cut.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import trio

T = TypeVar("T")

STALL_S = 60.0
"""Seconds that one shielded read or write may take before the connection is cut."""
_WINDOW_POLL_S = 0.01


async def wait_readable(raw: Any) -> None:
    """Wait until a read of this libp2p stream returns or raises at once. Safe to cancel."""
    muxed = raw.muxed_stream
    conn, stream_id = muxed.conn, muxed.stream_id
    while True:
        ended = muxed.recv_closed or muxed.closed or muxed.reset_received
        if ended or conn.event_shutting_down.is_set() or conn.stream_buffers.get(stream_id):
            await trio.lowlevel.checkpoint()
            return
        event = conn.stream_events.get(stream_id)
        if event is None:
            await trio.lowlevel.checkpoint()
            return
        await event.wait()
        if conn.stream_events.get(stream_id) is event:  # an event is spent once seen, as in yamux itself
            conn.stream_events[stream_id] = trio.Event()


async def wait_writable(raw: Any) -> int:
    """Wait for room in the peer's receive window. Safe to cancel.

    Stock yamux gives up on a reader that pauses for five seconds; here a slow reader is only slow.

    Returns:
        Bytes that can be written now; 1 when the stream has ended, so that the write reports it.
    """
    muxed = raw.muxed_stream
    await trio.lowlevel.checkpoint()
    while not (muxed.closed or muxed.send_closed or muxed.conn.event_shutting_down.is_set()):
        if muxed.send_window > 0:
            return int(muxed.send_window)
        await trio.sleep(_WINDOW_POLL_S)
    return 1


async def uninterrupted(raw: Any, operation: Callable[[], Awaitable[T]], stall: float = STALL_S) -> T:
    """Run a libp2p operation to its end, whatever is cancelled around it.

    Raises:
        trio.TooSlowError: it took longer than `stall` seconds; the connection has been cut.
    """
    result: list[T] = []
    with trio.CancelScope(shield=True, deadline=trio.current_time() + stall):
        result.append(await operation())
    if not result:
        await cut(raw.muxed_conn)
        raise trio.TooSlowError
    return result[0]


async def cut(muxed_conn: Any) -> None:
    """Close the socket under a connection without a farewell: it works when the peer is frozen and the
    connection's own locks are held by writers that wait for it.
    """
    # Everything above the socket then ends by itself: the muxer's reader sees the end and cleans up.
    with trio.CancelScope(shield=True, deadline=trio.current_time() + 5), suppress(Exception):
        await muxed_conn.secured_conn.close()
