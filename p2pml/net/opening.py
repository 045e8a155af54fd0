"""Opening streams: so many to a peer, and no harm to a connection when who waits for one gives up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from p2pml.net.errors import Unreachable
from p2pml.net.raw_host import to_raw_peer
from p2pml.net.streams import Stream

STREAMS_PER_PEER = 128
"""Streams that we hold open to one peer: yamux blocks without a word at 256, and gossip needs a few."""
_MOST_PEERS = 1000


class Opening:
    """Opens streams of one host.

    Args:
        raw: libp2p's host.
    """

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._slots: dict[str, trio.Semaphore] = {}

    async def open(self, nursery: trio.Nursery, peer: str, protocol: str) -> Stream:
        """A stream to a connected peer.

        Args:
            nursery: of the host; the negotiation runs there, since cancelled half way it would damage the
                connection.

        Raises:
            Unreachable: the peer is gone, or does not speak the protocol.
        """
        slots = self._slots_of(peer)
        await slots.acquire()
        pending = _PendingOpen()
        nursery.start_soon(self._negotiate, peer, protocol, pending, slots.release)
        try:
            await pending.done.wait()
        except trio.Cancelled:
            pending.abandoned = True
            if pending.stream is not None:
                await pending.stream.reset()
            raise
        if pending.stream is None:
            raise Unreachable(pending.problem)
        return pending.stream

    def _slots_of(self, peer: str) -> trio.Semaphore:
        if len(self._slots) > _MOST_PEERS:
            in_use = {name: slots for name, slots in self._slots.items() if slots.value < STREAMS_PER_PEER}
            self._slots = in_use
        return self._slots.setdefault(peer, trio.Semaphore(STREAMS_PER_PEER))

    async def _negotiate(
        self, peer: str, protocol: str, pending: _PendingOpen, release: Callable[[], None]
    ) -> None:
        try:
            raw = await self._raw.new_stream(to_raw_peer(peer), [protocol])
        except Exception as error:
            pending.problem = f"{peer} opened no {protocol} stream: {error.__cause__ or error}"
            release()
        else:
            pending.stream = Stream(raw, release)
            if pending.abandoned:
                await pending.stream.reset()
        finally:
            pending.done.set()


class _PendingOpen:
    """What a waiting `open` and its negotiating task share."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.stream: Stream | None = None
        self.problem = ""
        self.abandoned = False
