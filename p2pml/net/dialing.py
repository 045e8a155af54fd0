"""Connecting to a peer: one dial at a time, its addresses in turn, best first, and when to try again."""

from __future__ import annotations

import random
from typing import Any

import trio

from p2pml.net import addresses
from p2pml.net.admission import outbound
from p2pml.net.backoff import Backoff
from p2pml.net.errors import TimedOut, Unreachable
from p2pml.net.gate import Limits
from p2pml.net.raw_host import alive, to_raw_peer
from p2pml.net.standing import Standing

ADDRESS_S = 4.0
"""Seconds for one of a peer's addresses, so that a dead one leaves time for the next."""


class Dialing:
    """Dials for one host.

    Whoever dials on its own initiative asks `rest` first; who needs the peer now dials in any case.

    Args:
        raw: libp2p's host.
        standing: who is banned, and where peers are.
        limits: how many connections this host may open.
        rest: how long to leave a peer that could not be reached alone.
        settle: seconds that a new connection is left alone before it is used.
    """

    def __init__(
        self, raw: Any, standing: Standing, limits: Limits, rest: Backoff[str], settle: float = 0.0
    ) -> None:
        self._raw, self._network, self._limits = raw, raw.get_network(), limits
        self._standing = standing
        self.rest, self._settle = rest, settle
        self._locations: Backoff[tuple[str, str]] = Backoff(rng=random.Random())
        self._under_way: dict[str, trio.Event] = {}

    async def connect(self, peer: str, deadline: float) -> None:
        """Have a connection to a peer within `deadline` seconds.

        Raises:
            RemoteError: `Unreachable` or `TimedOut`.
        """
        with trio.move_on_after(deadline) as scope:
            while peer in self._under_way:  # two dials at once would make two connections
                await self._under_way[peer].wait()
            if alive(self._network.get_connections(to_raw_peer(peer))):
                return
            self._under_way[peer] = trio.Event()
            try:
                await self._dial(peer)
            finally:
                self._under_way.pop(peer).set()
        if scope.cancelled_caught:
            self.rest.failed(peer, trio.current_time())
            raise TimedOut(f"{peer} did not answer the dial within {deadline:g} s")

    async def _dial(self, peer: str) -> None:
        ban = self._standing.banned(peer)
        if ban is not None:
            raise Unreachable(f"{peer} is banned: {ban.reason}")
        known = self._standing.book.get(peer)
        if peer == self._raw.get_id().to_base58() or not known:
            raise Unreachable(f"no address of {peer} is known")
        if outbound(self._network) >= self._limits.outbound:
            raise Unreachable(f"{self._limits.outbound} connections are open already")
        target, last = to_raw_peer(peer), ""
        for dead in self._network.get_connections(target):
            self._network.remove_conn(dead)  # still closing: libp2p would take it for a connection
        for location in self._in_order(peer, known):
            problem = await self._try(target, peer, location)
            if problem is None:
                self._locations.worked((peer, location))
                self.rest.worked(peer)
                self._standing.book.met(peer, self._standing.wall(), location)
                return
            self._locations.failed((peer, location), trio.current_time())
            last = f"{location}: {problem}"
        self.rest.failed(peer, trio.current_time())
        raise Unreachable(f"cannot reach {peer} at {last}")

    def _in_order(self, peer: str, known: list[str]) -> list[str]:
        """What failed lately last, and before it what needs a relay; all of them when all have failed."""
        now = trio.current_time()
        return sorted(
            known,
            key=lambda where: (not self._locations.ready((peer, where), now), addresses.is_circuit(where)),
        )

    async def _try(self, target: Any, peer: str, location: str) -> str | None:
        """Dial one address. Returns what went wrong; None for nothing."""
        # Not by `dial_peer`: of the addresses it knows it dials one, a quarter of a second late, and then
        # refuses the peer for a minute.
        try:
            with trio.move_on_after(ADDRESS_S) as scope:
                await self._network.dial_addr(addresses.multiaddr(f"{location}/p2p/{peer}"), target)
                await trio.sleep(self._settle)
        except Exception as error:
            return f"{error.__cause__ or error}"
        return "no answer" if scope.cancelled_caught else None
