"""Presence: small networks end up fully connected, whatever node the others were told of."""

# ruff: noqa: ASYNC110  (a test polls what has no event)
from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import trio

from p2pml.net import wire
from p2pml.net.errors import RemoteError
from p2pml.net.gossip import Gossip
from p2pml.net.host import Host
from p2pml.net.keepalive import KeepAlive
from p2pml.net.presence import PROTOCOL, TOPIC, Facts, Presence, Timing

FAST = Timing(announce=0.5, expiry=1.75, look=0.05)


@dataclass
class Person:
    host: Host
    gossip: Gossip
    presence: Presence
    facts: Facts
    scope: trio.CancelScope


async def join(nursery: trio.Nursery, seed: int, bootstrap: list[str]) -> Person:
    quick = KeepAlive(redial_first=0.2)
    host = Host(bytes([seed]) * 32, bootstrap=bootstrap, keepalive=quick)
    gossip = Gossip(host, bytes(32), heartbeat=0.2)
    person: Person
    presence = Presence(host, gossip, lambda: person.facts, FAST)
    person = Person(host, gossip, presence, Facts(bytes([seed]) * 32, name=f"n{seed}"), trio.CancelScope())

    async def life(task_status: object = trio.TASK_STATUS_IGNORED) -> None:
        with person.scope:
            async with trio.open_nursery() as inner:
                for service in (host.run, gossip.run, presence.run):
                    await inner.start(service)
                task_status.started()  # type: ignore[attr-defined]

    await nursery.start(life)
    return person


async def until_all_connected(people: list[Person], seconds: float = 20) -> None:
    want = len(people) - 1
    with trio.fail_after(seconds):
        while any(len(p.host.connected()) < want or len(p.presence.peers()) < want for p in people):
            await trio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 5])
async def test_nodes_that_know_one_address_end_up_connected_to_each_other(count: int) -> None:
    async with trio.open_nursery() as nursery:
        people = [await join(nursery, 60, [])]
        for i in range(1, count):
            people.append(await join(nursery, 60 + i, [people[0].host.addrs()[0]]))
        await until_all_connected(people)
        for person in people:
            others = [other for other in people if other is not person]
            assert {p.peer_id: p.facts for p in person.presence.peers()} == {
                other.host.peer_id: other.facts for other in others
            }
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_a_line_of_nodes_becomes_a_mesh() -> None:
    async with trio.open_nursery() as nursery:
        people: list[Person] = []
        for i in range(4):
            people.append(await join(nursery, 70 + i, people[-1].host.addrs()[:1] if people else []))
        await until_all_connected(people)
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_a_change_is_heard_at_once_and_a_node_that_left_expires() -> None:
    async with trio.open_nursery() as nursery:
        a = await join(nursery, 80, [])
        b = await join(nursery, 81, a.host.addrs())
        await until_all_connected([a, b])
        b.facts = replace(b.facts, trainer=True, busy=True, height=7)
        b.presence.announce()
        with trio.fail_after(5):
            while a.presence.peers()[0].facts != b.facts:
                await a.presence.wait_change()
        assert [peer.peer_id for peer in a.presence.trainers()] == [b.host.peer_id]
        b.scope.cancel()
        with trio.fail_after(10):
            while a.presence.peers():
                await a.presence.wait_change()
        assert a.presence.trainers() == []
        again = await join(nursery, 81, a.host.addrs())
        await until_all_connected([a, again])
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_nobody_can_announce_in_anothers_name() -> None:
    async with trio.open_nursery() as nursery:
        a = await join(nursery, 90, [])
        b = await join(nursery, 91, a.host.addrs())
        await until_all_connected([a, b])
        liar = Host(b"\x5c" * 32)
        await nursery.start(liar.run)
        await liar.connect(a.host.addrs()[0])
        forged = [1, b.host.peer_id, [], b"\x00" * 32, b"", True, False, 0, 0, "forged"]
        with pytest.raises(RemoteError):
            await liar.request(a.host.peer_id, PROTOCOL, forged, 5)
        for garbage in ([], {"a": 1}, None, [1] * 10, [1, liar.peer_id, [1], b"", b"", 0, 0, 0, 0, ""]):
            with pytest.raises(RemoteError):
                await liar.request(a.host.peer_id, PROTOCOL, garbage, 5)
        gossip = Gossip(liar, bytes(32), heartbeat=0.2)
        await nursery.start(gossip.run)
        with trio.fail_after(5):
            while not gossip.peers(TOPIC):
                await trio.sleep(0.05)
        await gossip.publish(TOPIC, wire.encode(forged))
        await trio.sleep(0.3)
        assert [peer.name for peer in a.presence.peers()] == ["n91"]
        nursery.cancel_scope.cancel()
