"""Peers that cannot be dialled are met through a relay."""

# ruff: noqa: ASYNC110  (a test polls what has no event)
from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from p2pml.net import addresses
from p2pml.net.errors import RemoteError
from p2pml.net.host import Host
from p2pml.net.reachability import PROTOCOL, Reachability
from p2pml.net.relay import Relays

ECHO = "/test/echo/1.0.0"


async def echo(peer: str, message: object) -> object:
    return [peer, message]


@asynccontextmanager
async def with_relay(serve: bool, transport: str = "fast") -> AsyncIterator[tuple[Host, Host, Host]]:
    """A relay, a node without any listener that asks for a place there, and another one."""
    async with (
        Host(b"r" * 32, transport=transport).running() as relay,
        Host(b"h" * 32, port=None, transport=transport).running() as hidden,
        Host(b"o" * 32, port=None, transport=transport).running() as other,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(Relays(relay, serve=serve).run)
        await nursery.start(Relays(hidden, relays=relay.addrs()).run)
        await nursery.start(Relays(other).run)
        yield relay, hidden, other
        nursery.cancel_scope.cancel()


async def until_told(hidden: Host) -> str:
    with trio.fail_after(20):
        while not hidden.addrs():
            await trio.sleep(0.01)
    (address,) = hidden.addrs()
    return address


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["stock", "fast"])
async def test_two_nodes_without_listeners_talk_through_a_relay(transport: str) -> None:
    async with with_relay(True, transport) as (relay, hidden, other):
        address = await until_told(hidden)
        assert address == f"{relay.addrs()[0]}/p2p-circuit/p2p/{hidden.peer_id}"
        hidden.serve(ECHO, echo, max_size=1 << 20)
        await other.connect(address)
        assert await other.request(hidden.peer_id, ECHO, bytes(700_000), 20) == [
            other.peer_id,
            bytes(700_000),
        ]
        assert set(hidden.connected()) == {relay.peer_id, other.peer_id}
        await other.disconnect(hidden.peer_id)
        with trio.fail_after(40):  # it takes the library ten seconds
            while other.peer_id in hidden.connected():
                await trio.sleep(0.01)
        await other.connect(address)
        assert await other.request(hidden.peer_id, ECHO, 1, 10) == [other.peer_id, 1]


@pytest.mark.slow
async def test_a_relayed_peer_has_no_address_that_may_be_dialled_back() -> None:
    async with with_relay(True) as (relay, hidden, other):
        await other.connect(await until_told(hidden))
        assert other.remote_ip(relay.peer_id) == "127.0.0.1"
        assert other.remote_ip(hidden.peer_id) is None
        assert hidden.remote_ip(other.peer_id) is None
        Reachability(hidden)
        with pytest.raises(RemoteError):
            await other.request(hidden.peer_id, PROTOCOL, [1, [["tcp", 9470]]], 5)


@pytest.mark.slow
async def test_a_node_that_does_not_relay_gives_no_place_and_carries_nothing() -> None:
    async with with_relay(False) as (relay, hidden, other):
        with trio.fail_after(10):
            while not hidden.is_connected(relay.peer_id):
                await trio.sleep(0.01)
        with pytest.raises(RemoteError):
            await other.connect(f"{relay.addrs()[0]}/p2p-circuit/p2p/{hidden.peer_id}")
        assert hidden.addrs() == []
        assert hidden.connected() == [relay.peer_id]


@pytest.mark.slow
async def test_a_relay_that_went_away_is_not_told_any_more() -> None:
    async with with_relay(True) as (relay, hidden, _):
        await until_told(hidden)
        await relay._close_sockets()
        with trio.fail_after(20):
            while hidden.addrs():
                await trio.sleep(0.05)


def test_circuit_addresses() -> None:
    relay = "/ip4/192.0.2.1/tcp/1/p2p/12D3KooWFy8BjPvoXsFVpdVHpBKMZpmcgaG8ZMXXrBPWBBoGsyVb"
    circuit = f"{relay}/p2p-circuit"
    assert addresses.dialable(circuit)
    assert addresses.split(f"{circuit}/p2p/x") == (circuit, "x")
    assert addresses.location_of(f"{circuit}/p2p/x") == addresses.location_of(circuit) == circuit
    assert not addresses.is_websocket(f"/ip4/192.0.2.1/tcp/1/ws/p2p/x{addresses.CIRCUIT}")
    for bad in ("/p2p-circuit", "/ip4/192.0.2.1/tcp/1/p2p-circuit", f"{circuit}/p2p/x/p2p-circuit"):
        assert not addresses.dialable(bad)
