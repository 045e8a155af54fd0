"""Peers that nobody can dial are met through a relay: libp2p's circuit relay v2, secured end to end.

A node with `relays` keeps a place reserved at each of them and tells their circuit addresses
(`/ip4/…/tcp/…/p2p/<relay>/p2p-circuit`); one with `relay` forwards for others, within limits. The relay sees
bytes that noise has sealed between the two ends. Hole punching is not used, see docs/guide/network.md.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import trio
from libp2p.relay.circuit_v2.protocol import PROTOCOL_ID
from libp2p.tools.anyio_service.context import background_trio_service

from p2pml.net import addresses
from p2pml.net.cancelsafe import uninterrupted
from p2pml.net.errors import RemoteError, Unreachable
from p2pml.net.host import Host
from p2pml.net.raw_host import to_raw_peer

log = logging.getLogger(__name__)

AGAIN_S = 600.0
"""Between two renewals of a reservation."""
LOOK_S = 2.0
RESERVE_S = 15.0


class Relays:
    """Forwards for others, or keeps places at relays.

    Args:
        host: running while this runs.
        serve: whether to forward.
        relays: addresses of relays to be reached through.
    """

    def __init__(self, host: Host, serve: bool = False, relays: Sequence[str] = ()) -> None:
        self._host, self._relays = host, tuple(relays)
        self._transport = host.raw.circuits
        self._transport.protocol.allow_hop = serve
        self._runs = serve or bool(relays)
        self._held: dict[str, str] = {}

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; nothing when there is nothing to do."""
        if not self._runs:
            task_status.started()
            return
        async with background_trio_service(self._transport.protocol), trio.open_nursery() as nursery:
            await self._transport.protocol.event_started.wait()
            for address in self._relays:
                nursery.start_soon(self._keep, address)
            task_status.started()
            await trio.sleep_forever()

    async def _keep(self, address: str) -> None:
        """Hold a place at one relay, and say so while it is held."""
        location, relay = addresses.split(address)
        renewed = -math.inf
        while True:
            if not self._host.is_connected(relay):
                self._tell(address, None)
                renewed = -math.inf
            if trio.current_time() - renewed > AGAIN_S:
                try:
                    await self._host.connect(address)
                    await self._reserve(relay)
                    renewed = trio.current_time()
                    self._tell(address, f"{location}/p2p/{relay}{addresses.CIRCUIT}")
                except RemoteError as error:
                    log.debug("no place at the relay %s: %s", address, error)
            await trio.sleep(LOOK_S)

    async def _reserve(self, relay: str) -> None:
        stream = await self._host.open(relay, PROTOCOL_ID)
        raw = stream._raw
        try:
            kept = await uninterrupted(
                raw, lambda: self._transport.reserve(raw, to_raw_peer(relay)), RESERVE_S
            )
        except trio.TooSlowError as error:
            raise Unreachable(f"the relay {relay} does not answer") from error
        finally:
            await stream.reset()
        if not kept:
            raise Unreachable(f"the relay {relay} gives no place")

    def _tell(self, address: str, circuit: str | None) -> None:
        if circuit is None:
            self._held.pop(address, None)
        else:
            self._held[address] = circuit
        self._host.relayed = tuple(self._held.values())
