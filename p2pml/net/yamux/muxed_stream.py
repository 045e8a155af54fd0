"""A stream as libp2p uses it: waits where the state machine only says how much fits.

Reads and writes may be cancelled at any time: bytes reach the socket from the muxer's one writing task only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
from libp2p.abc import IMuxedStream
from libp2p.stream_muxer.exceptions import MuxedStreamClosed, MuxedStreamEOF, MuxedStreamReset

from p2pml.net.errors import Closed
from p2pml.net.yamux.stream import StreamState

if TYPE_CHECKING:
    from p2pml.net.yamux.muxer import Muxer

READ_BYTES = 256 * 1024
FLUSH_S = 5.0
"""Seconds that closing a stream waits for a slow socket."""


class MuxedStream(IMuxedStream):  # type: ignore[misc]
    """One stream of a `Muxer`.

    Args:
        muxer: its connection.
        state: its state there.
    """

    def __init__(self, muxer: Muxer, state: StreamState) -> None:
        self.muxed_conn = muxer
        self.stream_id = state.id
        self.state = state
        self._muxer = muxer
        self._changed = trio.Event()
        self._write_lock = trio.Lock()
        state.changed = self._on_changed

    @property
    def closed(self) -> bool:
        """Whether nothing more can be sent or received."""
        state = self.state
        return state.ended is not None or (state.finishing and (state.abandoned or state.at_end))

    async def read(self, n: int | None = None) -> bytes:
        """1 to `n` received bytes, waiting for the first; without `n` up to 256 KiB.

        Cancelled, it has taken nothing.

        Raises:
            MuxedStreamEOF: the peer ended its side and everything was read.
            MuxedStreamReset: the stream or the connection ended before its time.
        """
        most = READ_BYTES if n is None or n < 0 else n
        if self.state.readable or not most:
            await trio.lowlevel.checkpoint()
        else:
            await self._wait()
        while True:
            try:
                data = self.state.take(most)
            except Closed as error:
                raise MuxedStreamReset(str(error)) from error
            if data or not most:
                return data
            if self.state.at_end or self.state.abandoned:
                raise MuxedStreamEOF("the stream has ended")
            await self._wait()

    async def write(self, data: bytes) -> None:
        """Hand over all of `data`, at the pace of the peer and the socket.

        What was handed over is sent whole, later, whatever happens to the caller. Cancelled, a part of
        `data` may have been handed over: the stream's content is then incomplete, the connection is not.

        Raises:
            MuxedStreamClosed: this side was closed.
            MuxedStreamReset: the stream or the connection ended.
        """
        view = memoryview(data if isinstance(data, bytes) else bytes(data))
        async with self._write_lock:
            try:
                while view:
                    count = self.state.send(view)
                    view = view[count:]
                    if not count:
                        await self._wait()
            except Closed as error:
                kind = MuxedStreamReset if self.state.ended is not None else MuxedStreamClosed
                raise kind(str(error)) from error
            except trio.Cancelled:
                self.state.own_queued()
                raise

    async def close(self) -> None:
        """End the stream: what was written goes out, what was not read is dropped.

        Returns when the last byte and the end of the stream were given to the socket, or after `FLUSH_S`: on
        a slow link they follow by themselves.
        """
        self._muxer.connection.close(self.state)
        with trio.move_on_after(FLUSH_S):
            await self._muxer.flushed(self.state)

    async def close_write(self) -> None:
        """End our side; reading goes on."""
        self._muxer.connection.finish(self.state)
        await self._muxer.flushed(self.state)

    async def reset(self) -> None:
        """Break the stream off, here and at the peer."""
        self._muxer.connection.reset(self.state)
        await trio.lowlevel.checkpoint()

    def set_deadline(self, ttl: int) -> None:
        """Deadlines are trio's: `with trio.fail_after(…)` around a read or write.

        Raises:
            ValueError: always.
        """
        raise ValueError("put the read or write into trio.fail_after() for a deadline")

    def get_remote_address(self) -> Any:
        """`(host, port)` of the peer, or None."""
        return self._muxer.get_remote_address()

    async def __aenter__(self) -> MuxedStream:
        """The stream, closed at the end of the block."""
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _on_changed(self) -> None:
        self._changed.set()

    async def _wait(self) -> None:
        """Until the state changes; the caller looks before and after."""
        if self._changed.is_set():
            self._changed = trio.Event()
        await self._changed.wait()
