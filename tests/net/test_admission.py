"""The gate at real hosts: who is let in, who stays, and what a ban does."""

# ruff: noqa: ASYNC110  (a test polls what has no event)
from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from p2pml.net import addresses
from p2pml.net.errors import Malformed, RemoteError, Unreachable
from p2pml.net.gate import Bounds, Limits
from p2pml.net.host import Host
from p2pml.net.keepalive import KeepAlive
from p2pml.net.raw_host import to_raw_peer
from p2pml.net.scores import Deed

ECHO = "/test/echo/1.0.0"


async def echo(peer: str, message: object) -> object:
    return message


async def hear_end(stream: trio.SocketStream) -> bytes:
    """What a stranger is sent until the other side closes."""
    data = b""
    async with stream:
        with trio.fail_after(5), suppress(trio.BrokenResourceError):
            while part := await stream.receive_some(4096):
                data += part
    return data


async def socket_to(host: Host, websocket: bool = False) -> trio.SocketStream:
    port = next(port for kind, port in host.ports() if kind == ("ws" if websocket else "tcp"))
    return await trio.open_tcp_stream("127.0.0.1", port)


def bounded(**local: Any) -> Limits:
    return Limits(
        local=Bounds(**{"connections": 100, "half_open": 100, "burst": 100, "per_s": 100.0, **local})
    )


@pytest.mark.slow
@pytest.mark.parametrize("websocket", [False, True], ids=["tcp", "ws"])
async def test_handshakes_under_way_are_bounded_and_free_their_place(websocket: bool) -> None:
    async with Host(b"\x61" * 32, limits=bounded(half_open=2), websocket_port=0).running() as host:
        held = [await socket_to(host, websocket) for _ in range(2)]
        await trio.sleep(0.1)
        late = await socket_to(host, websocket)
        assert await hear_end(late) == b""
        for stream in held:
            await stream.aclose()
        async with Host(b"\x62" * 32).running() as honest:
            host.serve(ECHO, echo)
            with trio.fail_after(10):
                while not honest.is_connected(host.peer_id):
                    try:
                        await honest.connect(host.addrs()[0])
                    except Unreachable:
                        await trio.sleep(0.05)
            assert await honest.request(host.peer_id, ECHO, 1) == 1


@pytest.mark.slow
async def test_new_connections_of_one_address_are_paced() -> None:
    async with Host(b"\x61" * 32, limits=bounded(burst=3, per_s=0.001)).running() as host:
        for _ in range(3):
            await (await socket_to(host)).aclose()
        assert await hear_end(await socket_to(host)) == b""
        async with Host(b"\x62" * 32).running() as other:
            with pytest.raises(Unreachable):
                await other.connect(host.addrs()[0])


@pytest.mark.slow
async def test_a_finished_handshake_makes_room_for_the_next() -> None:
    async with (
        Host(b"\x61" * 32, limits=bounded(half_open=1)).running() as host,
        Host(b"\x62" * 32).running() as first,
        Host(b"\x63" * 32).running() as second,
    ):
        await first.connect(host.addrs()[0])
        with trio.fail_after(10):
            while not host.is_connected(first.peer_id):
                await trio.sleep(0.02)
        await second.connect(host.addrs()[0])
        assert first.is_connected(host.peer_id)


@pytest.mark.slow
async def test_connections_that_ended_count_no_more() -> None:
    async with (
        Host(b"\x61" * 32, limits=bounded(connections=1)).running() as host,
        Host(b"\x62" * 32).running() as one,
        Host(b"\x63" * 32).running() as two,
    ):
        await one.connect(host.addrs()[0])
        with pytest.raises(Unreachable):
            await two.connect(host.addrs()[0])
        await one.disconnect(host.peer_id)
        with trio.fail_after(10):
            while not two.is_connected(host.peer_id):
                try:
                    await two.connect(host.addrs()[0])
                except Unreachable:
                    await trio.sleep(0.05)


@pytest.mark.slow
async def test_a_host_opens_no_more_connections_than_it_may() -> None:
    async with (
        Host(b"\x61" * 32, limits=Limits(outbound=1)).running() as host,
        Host(b"\x62" * 32).running() as one,
        Host(b"\x63" * 32).running() as two,
    ):
        await host.connect(one.addrs()[0])
        with pytest.raises(Unreachable, match="1 connections are open"):
            await host.connect(two.addrs()[0])
        await two.connect(host.addrs()[0])  # others may still come


@pytest.mark.slow
async def test_dials_that_cross_leave_one_connection_the_same_on_both_sides() -> None:
    async with Host(b"\x61" * 32).running() as a, Host(b"\x62" * 32).running() as b:
        a.serve(ECHO, echo)
        b.serve(ECHO, echo)
        for _ in range(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(a.connect, b.addrs()[0])
                nursery.start_soon(b.connect, a.addrs()[0])
            with trio.fail_after(10):
                while not (conns(a, b) == conns(b, a) == 1):
                    await trio.sleep(0.01)
            assert await a.request(b.peer_id, ECHO, 1) == await b.request(a.peer_id, ECHO, 1) == 1
            assert direction(a, b) != direction(b, a)
            await a.disconnect(b.peer_id)
            with trio.fail_after(10):
                while a.connected() or b.connected():
                    await trio.sleep(0.01)


def conns(host: Host, other: Host) -> int:
    return len(host.raw.get_network().get_connections(to_raw_peer(other.peer_id)))


def direction(host: Host, other: Host) -> str:
    (conn,) = host.raw.get_network().get_connections(to_raw_peer(other.peer_id))
    return str(conn.direction.name)


@pytest.mark.slow
async def test_a_peer_that_connects_again_and_again_keeps_its_newest_connection() -> None:
    async with Host(b"\x61" * 32).running() as host, Host(b"\x62" * 32).running() as peer:
        host.serve(ECHO, echo)
        network, target = peer.raw.get_network(), to_raw_peer(host.peer_id)
        for _ in range(4):
            await network.dial_addr(addresses.multiaddr(host.addrs()[0]), target)
        with trio.fail_after(10):
            while conns(host, peer) != 1 or conns(peer, host) != 1:
                await trio.sleep(0.01)
        assert await peer.request(host.peer_id, ECHO, 1) == 1


@pytest.mark.slow
async def test_a_banned_peer_is_cut_kept_away_and_gets_a_fresh_chance() -> None:
    async with Host(b"\x61" * 32).running() as host, Host(b"\x62" * 32).running() as peer:
        await peer.connect(host.addrs()[0])
        await host.connect(peer.addrs()[0])
        host.report(peer.peer_id, Deed.LIED, "wrong blocks")
        with trio.fail_after(5):
            while host.connected() or peer.connected():
                await trio.sleep(0.01)
        for _ in range(3):
            with pytest.raises(RemoteError):
                await peer.connect(host.addrs()[0])
        assert host.connected() == []
        with pytest.raises(Unreachable, match="is banned: wrong blocks"):
            await host.connect(peer.addrs()[0])
        assert host.standing.unban(peer.peer_id)
        await host.connect(peer.addrs()[0])
        assert host.standing.score(peer.peer_id) == 0


@pytest.mark.slow
async def test_requests_that_are_no_messages_lead_to_a_ban_and_refusals_do_not() -> None:
    async def strict(peer: str, message: object) -> object:
        raise Malformed("never right")

    async with Host(b"\x61" * 32).running() as host, Host(b"\x62" * 32).running() as peer:
        host.serve("/test/strict/1.0.0", strict)
        await peer.connect(host.addrs()[0])
        with trio.fail_after(20):
            while host.standing.banned(peer.peer_id) is None:
                with pytest.raises(RemoteError):
                    await peer.request(host.peer_id, "/test/strict/1.0.0", 1, 2.0)
        assert "never right" in host.standing.bans()[0].reason


@pytest.mark.slow
async def test_a_node_whose_bootstrap_is_gone_finds_the_network_by_those_it_met(tmp_path: Path) -> None:
    quick, file = KeepAlive(redial_first=0.1), tmp_path / "peers.json"
    async with Host(b"\x61" * 32).running() as friend:
        async with Host(b"\x63" * 32).running() as bootstrap:
            lost = bootstrap.addrs()[0]
            async with Host(
                b"\x62" * 32, bootstrap=[lost], keepalive=quick, peers_file=file
            ).running() as node:
                with trio.fail_after(10):
                    while not node.is_connected(bootstrap.peer_id):
                        await trio.sleep(0.01)
                await node.connect(friend.addrs()[0])
        with trio.fail_after(10):
            while friend.connected():
                await trio.sleep(0.01)
        again = Host(b"\x62" * 32, bootstrap=[lost], keepalive=KeepAlive(redial_first=0.1), peers_file=file)
        async with again.running():
            with trio.fail_after(10):
                while not again.is_connected(friend.peer_id):
                    await trio.sleep(0.01)
