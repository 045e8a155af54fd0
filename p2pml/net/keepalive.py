"""Finding out that a peer is gone: a frozen process keeps its connection open for hours unless it is asked.

Also keeps bootstrap peers dialled, and finds the network again by peers of earlier runs, with back-off.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from p2pml.net import addresses
from p2pml.net.errors import Malformed, RemoteError, TimedOut

if TYPE_CHECKING:
    from p2pml.net.host import Host

log = logging.getLogger(__name__)

PING = "/ipfs/ping/1.0.0"
_PING_BYTES = 32


@dataclass
class KeepAlive:
    """Times in seconds.

    Attributes:
        interval: between two tests of a connection.
        deadline: for one answer; generous, since a peer that trains shares its processor.
        misses: unanswered tests in a row after which the connection is cut.
        redial_first: wait after the first failed dial of a peer; it doubles up to `redial_most`.
        redial_most: the longest wait.
        friends: connections below which peers of earlier runs are dialled.
        rtt: last round trip of each connected peer.
    """

    interval: float = 15.0
    deadline: float = 20.0
    misses: int = 2
    redial_first: float = 1.0
    redial_most: float = 60.0
    friends: int = 4
    rtt: dict[str, float] = field(default_factory=dict)
    _missed: Counter[str] = field(default_factory=Counter)

    async def watch(self, host: Host) -> None:
        """Test every connection, for ever."""
        while True:
            await trio.sleep(self.interval)
            peers = host.connected()
            for table in (self.rtt, self._missed):
                for gone in set(table) - set(peers):
                    del table[gone]
            async with trio.open_nursery() as nursery:
                for peer in peers:
                    nursery.start_soon(self._test, host, peer)

    async def _test(self, host: Host, peer: str) -> None:
        try:
            self.rtt[peer] = await ping(host, peer, self.deadline)
            self._missed[peer] = 0
            host.standing.book.met(peer, host.standing.wall())
        except RemoteError as error:
            self._missed[peer] += 1
            host.standing.note(peer, error)
            log.debug("%s misses a ping (%d): %s", peer, self._missed[peer], error)
            if self._missed[peer] >= self.misses:
                log.info("disconnecting %s: it does not answer", peer)
                await host.disconnect(peer)

    async def redial(self, host: Host, addr: str) -> None:
        """Keep the peer at `addr` connected, for ever."""
        peer = addresses.split(addr)[1]
        while True:
            await trio.sleep_until(max(host.dialing.rest.ready_at(peer), trio.current_time()))
            try:
                await host.connect(addr)
            except RemoteError as error:
                log.debug("bootstrap: %s", error)
            # A banned peer is refused before any dial, so nothing but this makes its turn come later.
            await trio.sleep(self.redial_first)

    async def find_friends(self, host: Host) -> None:
        """While hardly anybody is connected, dial those who were met before, the latest first, for ever."""
        while True:
            missing = self.friends - len(host.connected())
            if missing > 0:
                async with trio.open_nursery() as nursery:
                    for peer in self._absent(host)[:missing]:
                        nursery.start_soon(_try, host, peer)
            await trio.sleep(self.redial_first)

    def _absent(self, host: Host) -> list[str]:
        now, standing = trio.current_time(), host.standing
        return [
            entry.peer
            for entry in standing.book.friends(standing.wall())
            if entry.peer != host.peer_id
            and not host.is_connected(entry.peer)
            and not standing.banned(entry.peer)
            and host.dialing.rest.ready(entry.peer, now)
        ]


async def _try(host: Host, peer: str) -> None:
    try:
        await host.connect_peer(peer)
    except RemoteError as error:
        log.debug("an old acquaintance: %s", error)


async def ping(host: Host, peer: str, deadline: float) -> float:
    """The round trip to a connected peer in seconds, by libp2p's ping protocol.

    Raises:
        RemoteError: no answer within `deadline` seconds, or a wrong one.
    """
    stream = await host.open(peer, PING, deadline)
    try:
        payload = os.urandom(_PING_BYTES)
        begin = trio.current_time()
        with trio.move_on_after(deadline):
            await stream.write(payload)
            echo = await stream.read_exact(_PING_BYTES)
            if echo != payload:
                raise Malformed("a ping came back changed")
            await stream.close()
            return trio.current_time() - begin
        raise TimedOut(f"no ping from {peer} within {deadline:g} s")
    finally:
        await stream.reset()
