"""Keeps the candidates of one swarm dialled, of one kind: libp2p's peers, or ordinary clients by TCP."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

import trio

from p2pml.net.dialer import Dialer
from p2pml.net.errors import RemoteError
from p2pml.net.piece_ports import PieceStream

log = logging.getLogger(__name__)

_LOOK_S = 5.0


class Swarming(Protocol):
    """What the dialling needs of its swarm."""

    def wants_peers(self) -> bool:
        """Whether anybody is to be dialled at all."""
        ...

    def linked(self, plain: bool) -> frozenset[str]:
        """Peers of a kind that have a link."""
        ...

    async def serve_dialled(self, stream: PieceStream) -> bool:
        """Run a stream to its end; whether the peer was of use."""
        ...


class Dialling:
    """Args:
    swarm: whom the streams are for.
    open_stream: connects to a candidate, or raises `RemoteError`.
    most: links of this kind beyond which nobody is dialled.
    plain: which kind it is.
    """

    def __init__(
        self,
        swarm: Swarming,
        open_stream: Callable[[str], Awaitable[PieceStream]],
        most: int,
        plain: bool = False,
    ) -> None:
        self._swarm, self._open, self._most, self._plain = swarm, open_stream, most, plain
        self._dialer = Dialer()
        self._under_way: set[str] = set()
        self._dial_now = trio.Event()

    def offer(self, peers: Iterable[str]) -> None:
        """Candidates."""
        new = [peer for peer in peers if self._dialer.add(peer)]
        if new:
            self._dial_now.set()

    def retry(self) -> None:
        """Forget back-offs."""
        self._dialer.retry_now()
        self._dial_now.set()

    def is_banned(self, peer: str) -> bool:
        return self._dialer.is_banned(peer)

    def ban(self, peer: str) -> bool:
        """Never dial a peer again; False when that was said before."""
        new = not self.is_banned(peer)
        self._dialer.ban(peer)
        return new

    async def run(self) -> None:
        """Dial while the swarm wants peers, for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                self._dial_now = trio.Event()
                now = trio.current_time()
                busy = self._swarm.linked(self._plain) | self._under_way
                if self._swarm.wants_peers():
                    for peer in self._dialer.ready(now, busy, max(self._most - len(busy), 0)):
                        self._under_way.add(peer)
                        nursery.start_soon(self._dial, peer)
                upcoming = self._dialer.next_time(busy | self._under_way)
                wait = _LOOK_S if upcoming is None else min(max(upcoming - now, 0.05), _LOOK_S)
                with trio.move_on_after(wait):
                    await self._dial_now.wait()

    async def _dial(self, peer: str) -> None:
        try:
            stream = await self._open(peer)
        except RemoteError as error:
            log.debug("no piece stream: %s", error)
            self._dialer.failed(peer, trio.current_time())
            return
        finally:
            self._under_way.discard(peer)
        if await self._swarm.serve_dialled(stream):
            self._dialer.worked(peer, trio.current_time())
        else:
            self._dialer.failed(peer, trio.current_time())
