"""One stream of a swarm: reads in one task, writes in another, both report to the swarm's owner."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

import trio

from p2pml.net.errors import RemoteError
from p2pml.net.piece_ports import PieceStream
from torrent import events
from torrent.messages import HANDSHAKE_BYTES

log = logging.getLogger(__name__)

_WRITE_BYTES = 256 * 1024


class Link:
    """A stream of a swarm, from its opening to its end.

    Args:
        stream: the stream, closed by `run`.
        dialled: whether this side opened it.
        post: called with what happened on it: `BytesReceived` and `BytesSent`.
        room: taken for each chunk that is read; the owner gives it back when it has dealt with the chunk.

    Attributes:
        received: bytes read so far.
        known: for the owner: whether it has looked at `remote_id`.
    """

    def __init__(
        self,
        stream: PieceStream,
        dialled: bool,
        post: Callable[[Link, events.Event], None],
        room: trio.Semaphore,
    ) -> None:
        self.stream = stream
        self.dialled = dialled
        self.received = 0
        self.known = False
        self._hello = b""
        self._post = post
        self._room = room
        self._scope = trio.CancelScope()
        self._outbox: deque[bytes] = deque()
        self._wake = trio.Event()

    @property
    def peer(self) -> str:
        """The peer's id, base58."""
        return self.stream.peer

    @property
    def remote_id(self) -> bytes:
        """The peer id of BEP 3 that the other side's handshake names, unproved; empty before it came."""
        return self._hello[48:] if len(self._hello) == HANDSHAKE_BYTES else b""

    def greeted(self, data: bytes) -> None:
        """Note what came first, for `remote_id`."""
        if len(self._hello) < HANDSHAKE_BYTES:
            self._hello = (self._hello + data[:HANDSHAKE_BYTES])[:HANDSHAKE_BYTES]

    def send(self, data: bytes) -> None:
        """Write `data` after what was given before; `BytesSent` tells when it went."""
        self._outbox.append(data)
        self._wake.set()

    def end(self) -> None:
        """End the stream, also when `run` has not begun."""
        self._scope.cancel()

    async def run(self) -> None:
        """Read and write until the peer or `end` ends it."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    await self._read()
                    nursery.cancel_scope.cancel()
        except* RemoteError as error:
            log.debug("a piece stream with %s ended: %s", self.peer, error.exceptions[0])
        finally:
            with trio.CancelScope(shield=True):
                await self.stream.reset()

    async def _read(self) -> None:
        while data := await self.stream.read_some():
            # Only now: a silent peer must not take the room of one that speaks.
            try:
                self._room.acquire_nowait()
            except trio.WouldBlock:
                await self._room.acquire()
            self.received += len(data)
            self.greeted(data)
            self._post(self, events.BytesReceived(self.peer, data))

    async def _write(self) -> None:
        while True:
            if not self._outbox:
                self._wake = trio.Event()
                await self._wake.wait()
            parts: list[bytes] = []
            size = 0
            while self._outbox and size < _WRITE_BYTES:
                parts.append(self._outbox.popleft())
                size += len(parts[-1])
            await self.stream.write(b"".join(parts))
            self._post(self, events.BytesSent(self.peer, size))
