"""Inbound connections of a libp2p swarm give their slot back when they end.

libp2p 0.8.1 keeps the task of each accepted connection, and the slot that it counts against the limit of 300,
until the host stops: after 300 connections in its life a node would turn away every new one.
"""

from __future__ import annotations

from typing import Any

from libp2p.io.exceptions import ConnectionClosedError


def free_ended_inbound(network: Any) -> None:
    """Let a swarm's task for an inbound connection last as long as the connection, and no longer."""
    upgrade = network.upgrade_inbound_raw_conn

    async def upgrade_and_stay(raw: Any, location: Any) -> None:
        muxed = await upgrade(raw, location)
        await muxed.event_shutting_down.wait()
        # The swarm's way out of this task: it closes the socket and frees the slot.
        raise ConnectionClosedError("the connection has ended")

    network.upgrade_inbound_raw_conn = upgrade_and_stay
