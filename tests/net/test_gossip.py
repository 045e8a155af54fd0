"""Gossip among hosts on loopback."""

# ruff: noqa: ASYNC110  (a test polls what has no event)
from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

import pytest
import trio
import trio.testing
from libp2p.pubsub.pb.rpc_pb2 import RPC, Message
from libp2p.pubsub.rpc_queue import OutBoundQueueSize, RpcQueue

from p2pml.net.buffered import BufferedReads
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


async def test_a_sick_looking_network_keeps_its_heartbeat() -> None:
    gossip = Gossip(Host(bytes([90]) * 32), bytes(32), heartbeat=1.0)
    gossip._router.network_health_score = 0.1  # what libp2p thinks of two nodes
    gossip._router._adapt_gossip_parameters()
    assert gossip._router.heartbeat_interval == 1.0


async def test_messages_that_come_all_at_once_are_all_delivered() -> None:
    gossip, inbox, origin = Gossip(Host(bytes([91]) * 32), bytes(32)), Inbox(), Host(bytes([92]) * 32)
    gossip.subscribe("t", lambda data: Verdict.ACCEPT, inbox)
    check = gossip._validator("t")
    for i in range(100):
        assert check(origin.raw.get_id(), Message(data=b"%d" % i, from_id=origin.raw.get_id().to_bytes()))
    assert inbox.seen == [(origin.peer_id, b"%d" % i) for i in range(100)]


async def test_an_old_message_of_our_own_that_comes_back_is_dropped() -> None:
    host, other = Host(bytes([93]) * 32), Host(bytes([94]) * 32)
    gossip, inbox = Gossip(host, bytes(32)), Inbox()
    gossip.subscribe("t", lambda data: Verdict.ACCEPT, inbox)
    message = Message(data=b"x", from_id=host.raw.get_id().to_bytes())
    assert not gossip._validator("t")(other.raw.get_id(), message)
    assert inbox.seen == []


async def test_gossip_is_set_up_as_its_specification_says() -> None:
    """docs/spec/gossip.md: the library's scores stay off, whatever it counts; no adaptive mode."""
    router = Gossip(Host(bytes([98]) * 32), bytes(32))._router
    peer = Host(bytes([99]) * 32).raw.get_id()
    for _ in range(1000):
        router.scorer.on_invalid_message(peer, "t")
        router.scorer.on_first_delivery(peer, "t")
        router.scorer.penalize_behavior(peer)
        router.scorer.on_join_mesh(peer, "t")
        router.scorer.add_peer_ip(peer, "198.18.0.1")
    assert router.scorer.score(peer, ["t"]) == 0
    assert router.scorer.allow_publish(peer, ["t"])
    assert router.scorer.allow_gossip(peer, ["t"])
    assert not router.scorer.is_graylisted(peer, ["t"])
    assert (router.degree_low, router.degree, router.degree_high) == (4, 6, 8)
    assert router.heartbeat_interval == 1.0
    assert not router.adaptive_gossip_enabled
    assert not router.spam_protection_enabled
    assert not router.eclipse_protection_enabled


async def test_no_message_carries_the_addresses_of_its_sender() -> None:
    gossip = Gossip(Host(bytes([95]) * 32), bytes(32))
    peer = Host(bytes([96]) * 32).raw.get_id()
    queue = gossip._pubsub.peer_queues[peer] = RpcQueue()
    gossip._router.send_rpc(peer, RPC(publish=[Message(data=b"x")], senderRecord=b"signed"))
    sent = await queue.pop()
    assert sent is not None
    assert sent.publish[0].data == b"x"
    assert not sent.HasField("senderRecord")


async def test_buffered_reads_give_every_byte_once_and_pass_the_end_on() -> None:
    class Source:
        parts: ClassVar = [b"abcdef", b"g", b""]

        async def read(self, n: int) -> bytes:
            await trio.lowlevel.checkpoint()
            return self.parts.pop(0)

    reads = BufferedReads(Source())
    assert [await reads.read(n) for n in (1, 1, 10, 5, 1)] == [b"a", b"b", b"cdef", b"g", b""]


async def test_publishing_leaves_half_of_a_peers_queue_free(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    gossip, times = Gossip(Host(bytes([97]) * 32), bytes(32)), list[float]()

    async def publish(topic: str, data: bytes) -> None:
        times.append(trio.current_time())

    monkeypatch.setattr(gossip._pubsub, "publish", publish)
    for _ in range(100):
        await gossip.publish("t", b"x")
    assert times.count(times[0]) <= OutBoundQueueSize // 2
    assert times[-1] - times[0] >= 1.5
    await trio.sleep(10)
    first = trio.current_time()
    for _ in range(OutBoundQueueSize // 2):
        await gossip.publish("t", b"x")
    assert trio.current_time() == first
