"""Gossip among hosts on loopback."""

# ruff: noqa: ASYNC110  (a test polls what has no event)
from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from p2pml.net.gossip import MAX_MESSAGE, Gossip, Verdict
from p2pml.net.host import Host

Nodes = list[tuple[Host, Gossip]]


@asynccontextmanager
async def gossips(
    count: int, chains: tuple[bytes, ...] = (bytes(32),)
) -> AsyncIterator[list[tuple[Host, Gossip]]]:
    """Hosts in a line, each connected to the next one only."""
    async with trio.open_nursery() as nursery:
        nodes: Nodes = []
        for i in range(count):
            host = Host(bytes([i + 40]) * 32)
            await nursery.start(host.run)
            gossip = Gossip(host, chains[i % len(chains)], heartbeat=0.2)
            nodes.append((host, gossip))
            await nursery.start(gossip.run)
            if i:
                await host.connect(nodes[i - 1][0].addrs()[0])
        yield nodes
        nursery.cancel_scope.cancel()


class Inbox:
    def __init__(self) -> None:
        self.seen: list[tuple[str, bytes]] = []

    def __call__(self, peer: str, data: bytes) -> None:
        self.seen.append((peer, data))


async def until_subscribed(nodes: Nodes, name: str) -> None:
    with trio.fail_after(10):
        while not all(gossip.peers(name) for _, gossip in nodes):
            await trio.sleep(0.05)


@pytest.mark.slow
async def test_messages_reach_every_host_of_a_line_of_four_and_not_the_sender() -> None:
    async with gossips(4) as nodes:
        inboxes = [Inbox() for _ in nodes]
        for (_, gossip), inbox in zip(nodes, inboxes, strict=True):
            gossip.subscribe("blocks", lambda data: Verdict.ACCEPT, inbox)
        await until_subscribed(nodes, "blocks")
        await trio.sleep(0.5)
        sent = [b"%d" % i + bytes(1000) for i in range(40)]
        for data in sent:
            await nodes[0][1].publish("blocks", data)
        with trio.fail_after(10):
            while not all(len(inbox.seen) == len(sent) for inbox in inboxes[1:]):
                await trio.sleep(0.05)
        assert inboxes[0].seen == []
        for inbox in inboxes[1:]:
            assert sorted(inbox.seen) == sorted((nodes[0][0].peer_id, data) for data in sent)


@pytest.mark.slow
async def test_what_a_validator_does_not_accept_is_not_passed_on() -> None:
    verdicts = {b"good": Verdict.ACCEPT, b"late": Verdict.IGNORE, b"bad": Verdict.REJECT}
    async with gossips(3) as nodes:
        inboxes = [Inbox() for _ in nodes]
        nodes[0][1].subscribe("t", lambda data: Verdict.ACCEPT, inboxes[0])
        nodes[1][1].subscribe("t", lambda data: verdicts[data], inboxes[1])
        nodes[2][1].subscribe("t", lambda data: Verdict.ACCEPT, inboxes[2])
        await until_subscribed(nodes, "t")
        await trio.sleep(0.5)
        for data in (b"bad", b"late", b"good"):
            await nodes[0][1].publish("t", data)
        with trio.fail_after(10):
            while not inboxes[2].seen:
                await trio.sleep(0.05)
        await trio.sleep(0.3)
        for inbox in inboxes[1:]:
            assert [data for _, data in inbox.seen] == [b"good"]


@pytest.mark.slow
async def test_a_peer_that_keeps_passing_on_invalid_messages_is_disconnected() -> None:
    async with gossips(2) as nodes:
        nodes[0][1].subscribe("t", lambda data: Verdict.ACCEPT, Inbox())
        nodes[1][1].subscribe("t", lambda data: Verdict.REJECT, Inbox())
        await until_subscribed(nodes, "t")
        with trio.fail_after(10):
            while nodes[1][0].connected():
                await nodes[0][1].publish("t", b"invalid")


@pytest.mark.slow
async def test_an_exception_in_a_validator_or_subscriber_loses_one_message_only() -> None:
    async with gossips(2) as nodes:
        inbox = Inbox()

        def validate(data: bytes) -> Verdict:
            if data == b"break the validator":
                raise RuntimeError("a mistake")
            return Verdict.ACCEPT

        def deliver(peer: str, data: bytes) -> None:
            if data == b"break the subscriber":
                raise RuntimeError("a mistake")
            inbox(peer, data)

        nodes[0][1].subscribe("t", lambda data: Verdict.ACCEPT, Inbox())
        nodes[1][1].subscribe("t", validate, deliver)
        await until_subscribed(nodes, "t")
        await trio.sleep(0.5)
        for data in (b"break the validator", b"break the subscriber", b"fine"):
            await nodes[0][1].publish("t", data)
        with trio.fail_after(10):
            while not inbox.seen:
                await trio.sleep(0.05)
        assert inbox.seen == [(nodes[0][0].peer_id, b"fine")]


@pytest.mark.slow
async def test_chains_do_not_mix() -> None:
    async with gossips(2, (b"\x01" * 32, b"\x02" * 32)) as nodes:
        inbox = Inbox()
        nodes[0][1].subscribe("t", lambda data: Verdict.ACCEPT, Inbox())
        nodes[1][1].subscribe("t", lambda data: Verdict.ACCEPT, inbox)
        await trio.sleep(0.8)
        await nodes[0][1].publish("t", b"x")
        await trio.sleep(0.5)
        assert inbox.seen == []
        assert nodes[0][1].peers("t") == []


@pytest.mark.slow
async def test_what_is_too_long_for_gossip_is_refused_at_once() -> None:
    async with gossips(1) as nodes:
        with pytest.raises(ValueError, match="too many for gossip"):
            await nodes[0][1].publish("t", bytes(MAX_MESSAGE + 1))
