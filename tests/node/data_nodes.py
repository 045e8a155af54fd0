"""Nodes with nothing but the data layer, on real hosts on loopback."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import trio

from p2pml.home import Home
from p2pml.net.gossip import Gossip
from p2pml.net.host import Host
from p2pml.net.plain_port import PlainPort
from p2pml.net.presence import Facts, Presence, Timing
from p2pml.node.data_service import DataService
from p2pml.node.events import Events

CHAIN_ID = b"\x07" * 32


class Pace(NamedTuple):
    """How often a node gossips, in seconds, and tells of itself."""

    heartbeat: float
    presence: Timing


BRISK = Pace(0.3, Timing(announce=1.0, look=0.1))
"""So that tests need not wait."""
USUAL = Pace(1.0, Timing())
"""A node's own."""


@dataclass
class Node:
    host: Host
    data: DataService
    home: Home
    events: Events
    scope: trio.CancelScope
    plain: PlainPort | None = None

    @property
    def id(self) -> str:
        return self.host.peer_id

    @property
    def port(self) -> int:
        """Its port for BitTorrent clients."""
        assert self.plain is not None
        return self.plain.port

    def kinds(self) -> set[str]:
        return {event.kind for event in self.events.since(0)}


async def run_node(
    root: Path,
    number: int,
    bootstrap: list[str],
    quota: int | None,
    plain: bool,
    pace: Pace = BRISK,
    task_status: trio.TaskStatus[Node] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Be node `number`, below `root`, until cancelled."""
    seed = hashlib.sha256(f"data-service-test {number}".encode()).digest()
    host = Host(seed, bootstrap=bootstrap)
    home, events = Home(root / f"node{number}"), Events()
    home.create()
    gossip = Gossip(host, CHAIN_ID, heartbeat=pace.heartbeat)
    presence = Presence(host, gossip, lambda: Facts(bytes(32)), pace.presence)
    port = PlainPort("127.0.0.1", 0) if plain else None
    data = DataService(home, host, gossip, presence, events, quota, port)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(host.run)
            await nursery.start(gossip.run)
            await nursery.start(presence.run)
            await nursery.start(data.run)
            task_status.started(Node(host, data, home, events, scope, port))


@asynccontextmanager
async def nodes_up(
    root: Path, count: int, quota: int | None = None, plain: bool = False
) -> AsyncIterator[list[Node]]:
    """Nodes that know the first one; ready when all are connected to it. `plain`: with BitTorrent ports."""
    async with trio.open_nursery() as nursery:
        nodes: list[Node] = []
        for number in range(count):
            bootstrap = nodes[0].host.addrs()[:1] if nodes else []
            nodes.append(await nursery.start(run_node, root, number, bootstrap, quota, plain))
        if count > 1:
            await until(lambda: all(node.host.connected() for node in nodes), "the nodes connect")
        yield nodes
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    with trio.move_on_after(seconds) as scope:
        while not condition():  # noqa: ASYNC110 - what it waits for lies in several nodes
            await trio.sleep(0.02)
    assert not scope.cancelled_caught, f"waited {seconds} s in vain until {what}"


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)
