"""Finding out that a peer is gone: a frozen process keeps its connection open for hours unless it is asked.

Also keeps bootstrap peers dialled, with back-off.
"""

from __future__ import annotations

import logging
import os
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from p2pml.net.errors import RemoteError

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
        redial_first: wait after the first failed dial of a bootstrap peer; it doubles up to `redial_most`.
        redial_most: the longest wait.
        rtt: last round trip of each connected peer.
    """

    interval: float = 15.0
    deadline: float = 20.0
    misses: int = 2
    redial_first: float = 1.0
    redial_most: float = 30.0
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
        except RemoteError as error:
            self._missed[peer] += 1
            log.debug("%s misses a ping (%d): %s", peer, self._missed[peer], error)
            if self._missed[peer] >= self.misses:
                log.info("disconnecting %s: it does not answer", peer)
                await host.disconnect(peer)

    async def redial(self, host: Host, addr: str) -> None:
        """Keep the peer at `addr` connected, for ever."""
        delay = self.redial_first
        while True:
            try:
                await host.connect(addr)
            except RemoteError as error:
                log.debug("bootstrap: %s", error)
                await trio.sleep(delay * random.uniform(0.75, 1.25))
                delay = min(delay * 2, self.redial_most)
                continue
            delay = self.redial_first
            await trio.sleep(self.redial_first)


async def ping(host: Host, peer: str, deadline: float) -> float:
    """The round trip to a connected peer in seconds, by libp2p's ping protocol.

    Raises:
        RemoteError: no answer within `deadline` seconds, or a wrong one.
    """
    from p2pml.net.errors import Malformed, TimedOut

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
