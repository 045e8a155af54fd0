"""Gossip between hosts of ours, on either transport, and rust-libp2p's gossipsub."""

# ruff: noqa: ASYNC110  (a test polls what has no event)
from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio

from p2pml.net.gossip import Gossip, Verdict
from p2pml.net.host import Host

# Not of the fixtures: the first one waits for cargo, for minutes where nothing was built before.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(150, func_only=True)]

PATIENCE_S = 60.0
VERDICTS = {
    b"bad": Verdict.REJECT,
    b"late": Verdict.IGNORE,
    b"good": Verdict.ACCEPT,
    b"long" * 100_000: Verdict.ACCEPT,
}


@dataclass
class Node:
    """A host of ours that subscribes to `news`, with what it judged and what was delivered to it."""

    host: Host
    gossip: Gossip
    judged: list[bytes] = field(default_factory=list)
    delivered: list[tuple[str, bytes]] = field(default_factory=list)

    def judge(self, data: bytes) -> Verdict:
        self.judged.append(data)
        return VERDICTS[data]

    def take(self, origin: str, data: bytes) -> None:
        self.delivered.append((origin, data))


@asynccontextmanager
async def two_nodes(transport: str) -> AsyncIterator[tuple[Node, Node]]:
    async with trio.open_nursery() as nursery:
        nodes = []
        for index in range(2):
            host = Host(bytes([0x60 + index]) * 32, transport=transport)
            await nursery.start(host.run)
            node = Node(host, Gossip(host, bytes(32), heartbeat=0.2))
            node.gossip.subscribe("news", node.judge, node.take)
            await nursery.start(node.gossip.run)
            nodes.append(node)
        yield nodes[0], nodes[1]
        nursery.cancel_scope.cancel()


async def meshed(rust: Any, *nodes: Node) -> str:
    """Let rust subscribe, and wait until its mesh is these nodes; returns the topic's full name."""
    topic = nodes[0].gossip.topic("news")
    await rust.call("subscribe", topic=topic)
    with trio.fail_after(PATIENCE_S):
        while set(await rust.call("mesh", topic=topic)) != {node.host.peer_id for node in nodes}:
            await trio.sleep(0.02)
    return topic


async def until(condition: Callable[[], Any]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not condition():
            await trio.sleep(0.02)


async def test_what_rust_publishes_is_judged_delivered_and_passed_on(transport: str, rust: Any) -> None:
    async with two_nodes(transport) as (near, far):
        await rust.meet(near.host, rust_dials=True)
        await far.host.connect(near.host.addrs()[0])
        topic = await meshed(rust, near)
        await until(lambda: len(near.gossip.peers("news")) == 2 and far.gossip.peers("news"))
        for data in VERDICTS:
            await rust.call("publish", topic=topic, payload=data.decode())
        await until(lambda: len(far.delivered) == 2)
        good = [(rust.peer, data) for data, verdict in VERDICTS.items() if verdict is Verdict.ACCEPT]
        assert sorted(near.judged) == sorted(VERDICTS)
        assert sorted(near.delivered) == sorted(far.delivered) == sorted(good)
        assert sorted(far.judged) == sorted(data for _, data in good)


async def test_what_we_publish_reaches_rust_and_passes_through_it(transport: str, rust: Any) -> None:
    async with two_nodes(transport) as (one, other):
        for node in (one, other):
            await rust.meet(node.host)
        await meshed(rust, one, other)
        await until(lambda: one.gossip.peers("news") and other.gossip.peers("news"))
        for sender, receiver, data in ((one, other, b"good"), (other, one, b"long" * 100_000)):
            await sender.gossip.publish("news", data)
            heard = await rust.event("message", origin=sender.host.peer_id)
            assert heard["forwarder"] == sender.host.peer_id
            assert heard["content"]["sha256"] == hashlib.sha256(data).hexdigest()
            await until(lambda receiver=receiver: receiver.delivered)
            assert receiver.delivered == [(sender.host.peer_id, data)]
