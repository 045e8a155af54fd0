"""One stream to one peer: bytes, or framed messages, with deadlines and with one family of errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import trio
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.stream_muxer.exceptions import MuxedStreamEOF

from p2pml.net import wire
from p2pml.net.cancelsafe import uninterrupted, wait_readable, wait_writable
from p2pml.net.errors import Closed, Malformed, RemoteError, TimedOut, Unreachable
from p2pml.net.transports import cancels_safely
from p2pml.net.yamux.muxed_stream import MuxedStream

__all__ = ["Closed", "Malformed", "RemoteError", "Stream", "TimedOut", "Unreachable"]

WRITE_BYTES = 256 * 1024
READ_BYTES = 256 * 1024
_CLOSE_STALL_S = 10.0


class Stream:
    """A libp2p stream whose operations can be cancelled at any time without harm to the connection.

    Args:
        raw: the libp2p `NetStream`, on a yamux connection of either transport.
        on_end: called once, when the stream is closed or reset.

    Attributes:
        peer: the peer's id, base58.
    """

    def __init__(self, raw: Any, on_end: Callable[[], None] | None = None) -> None:
        self._raw = raw
        self._on_end = on_end
        self._ended = False
        # Our muxer's streams are used directly: libp2p's wrapper only adds locks, each a turn of the loop.
        self._own: MuxedStream | None = raw.muxed_stream if cancels_safely(raw) else None
        self.peer: str = raw.muxed_conn.peer_id.to_base58()

    async def read_some(self, max_bytes: int = READ_BYTES) -> bytes:
        """What is there, 1 to `max_bytes` bytes, waiting for the first; empty at the end of the stream.

        A peer that was killed looks like one that ended its stream: length-prefix or hash what matters.

        Raises:
            Closed: the stream was reset, or ended by us.
        """
        if self._ended:
            raise Closed("the stream was closed on this side")
        data: bytes
        try:
            if self._own is not None:
                with _foreign_errors():
                    data = await self._own.read(max_bytes)
            else:
                await wait_readable(self._raw)
                with _foreign_errors():
                    data = await uninterrupted(self._raw, lambda: self._raw.read(max_bytes))
        except _EndOfStream:
            return b""
        return data

    async def read_exact(self, count: int) -> bytes:
        """Exactly `count` bytes.

        Raises:
            Closed: the stream ended or was reset before.
        """
        parts = bytearray()
        while len(parts) < count:
            data = await self.read_some(min(count - len(parts), READ_BYTES))
            if not data:
                raise Closed(f"the stream ended {count - len(parts)} bytes early")
            parts += data
        return bytes(parts)

    async def write(self, data: bytes) -> None:
        """Write all of `data`, at the pace of the reader.

        Cancelled, it may have written a part: reset the stream then.

        Raises:
            Closed: the peer or this side ended the stream.
            TimedOut: the stock connection did not take a byte for a minute; it has been cut.
        """
        if self._ended:
            raise Closed("the stream was closed on this side")
        if self._own is not None:
            with _foreign_errors():
                await self._own.write(data)
            return
        view = memoryview(data)
        while view:
            room = await wait_writable(self._raw)
            part = bytes(view[: min(room, WRITE_BYTES)])
            with _foreign_errors():
                await uninterrupted(self._raw, lambda part=part: self._raw.write(part))  # type: ignore[misc]
            view = view[len(part) :]

    async def send(self, message: Any, deadline: float = 30.0) -> None:
        """Send one message (see `p2pml.net.wire`).

        Args:
            message: plain values only.
            deadline: seconds from now.

        Raises:
            RemoteError: `Closed`, or `TimedOut`.
            TypeError: the message has no form on the wire.
        """
        data = wire.frame(message)
        with _deadline(deadline, "the peer takes no data"):
            await self.write(data)

    async def recv(self, max_size: int, deadline: float = 30.0) -> Any:
        """Receive one message of at most `max_size` bytes.

        Args:
            max_size: bytes, checked before anything is read or decoded.
            deadline: seconds from now, for the whole message.

        Raises:
            RemoteError: `Closed`, `TimedOut` or `Malformed`.
        """
        with _deadline(deadline, "no answer from the peer"):
            size = int.from_bytes(await self.read_exact(wire.LENGTH_BYTES), "big")
            if size > max_size:
                raise Malformed(f"a message of {size} bytes where at most {max_size} are allowed")
            data = await self.read_exact(size)
        return wire.decode(data)

    async def close(self) -> None:
        """End the stream in good order: what was written arrives. Never raises for the peer's sake."""
        await self._end(self._raw.close)

    async def reset(self) -> None:
        """Break the stream off: the peer's reads and writes fail."""
        await self._end(self._raw.reset)

    async def _end(self, operation: Callable[[], Any]) -> None:
        if self._ended:
            return
        self._ended = True
        try:
            with suppress(RemoteError), _foreign_errors():
                await uninterrupted(self._raw, operation, _CLOSE_STALL_S)
        finally:
            if self._on_end is not None:
                self._on_end()


class _EndOfStream(Exception):
    """The peer ended its side in good order."""


@contextmanager
def _deadline(seconds: float, complaint: str) -> Iterator[None]:
    with trio.move_on_after(seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise TimedOut(f"{complaint} within {seconds:g} s")


class _foreign_errors:
    """Around calls into libp2p only, so whatever is raised came from the other side or the way to it. A
    class, because `contextmanager` takes twice as long, and this is around every read and write.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Exception):
            return
        if isinstance(error, StreamEOF | MuxedStreamEOF):
            raise _EndOfStream from error
        if isinstance(error, trio.TooSlowError):
            raise TimedOut("the connection stalled and was cut") from error
        raise Closed(f"the stream ended: {type(error).__name__} {error}".rstrip()) from error
