"""Hosts on loopback, in one trio run."""

# ruff: noqa: ASYNC110  (a test polls what has no event)
from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio

from p2pml.errors import UserError
from p2pml.net.errors import Malformed, RemoteError, TimedOut, Unreachable
from p2pml.net.host import Host
from p2pml.net.keepalive import KeepAlive, ping
from p2pml.net.opening import STREAMS_PER_PEER
from p2pml.net.streams import Stream

ECHO = "/test/echo/1.0.0"
_transport = ["stock"]


@pytest.fixture(autouse=True, params=["stock", "fast"])
def transport(request: pytest.FixtureRequest) -> str:
    """Every test of this file runs over the library's stack and over ours."""
    _transport[0] = request.param
    return str(request.param)


def a_host(seed: bytes, **given: Any) -> Host:
    return Host(seed, transport=_transport[0], **given)


@asynccontextmanager
async def hosts(count: int, keepalive: KeepAlive | None = None) -> AsyncIterator[list[Host]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(a_host(bytes([i + 1]) * 32, keepalive=keepalive).running())
            for i in range(count)
        ]


async def echo(peer: str, message: object) -> object:
    return [peer, message]


@pytest.mark.slow
async def test_a_request_is_answered_and_the_peers_know_each_other() -> None:
    async with hosts(2) as (a, b):
        b.serve(ECHO, echo)
        assert await a.connect(b.addrs()[0]) == b.peer_id
        message = {"a": [1, 2.5, None, True, b"x"], "big": bytes(700_000)}
        b.serve("/test/big/1.0.0", echo, max_size=1 << 20)
        assert await a.request(b.peer_id, "/test/big/1.0.0", message, 10) == [a.peer_id, message]
        assert a.connected() == [b.peer_id]
        assert b.connected() == [a.peer_id]
        assert await ping(a, b.peer_id, 5) < 5


@pytest.mark.slow
async def test_four_hundred_requests_in_turn_leave_no_stream_open() -> None:
    async with hosts(2) as (a, b):
        b.serve(ECHO, echo)
        await a.connect(b.addrs()[0])
        for i in range(400):  # yamux has room for 256
            assert await a.request(b.peer_id, ECHO, i) == [a.peer_id, i]
        with trio.fail_after(5):
            while _open_streams(a, ECHO) or _open_streams(b, ECHO):
                await trio.sleep(0.01)


def _open_streams(host: Host, protocol: str) -> int:
    conns = [conn for conns in host.raw.get_network().connections.values() for conn in conns]
    return sum(stream.get_protocol() == protocol for conn in conns for stream in conn.get_streams())


@pytest.mark.slow
async def test_an_exception_in_a_handler_resets_the_stream_and_the_host_lives_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(stream: Stream) -> None:
        raise RuntimeError("a mistake in the handler")

    async with hosts(2) as (a, b):
        b.handle("/test/broken/1.0.0", broken)
        b.serve(ECHO, echo)
        await a.connect(b.addrs()[0])
        with caplog.at_level(logging.ERROR), pytest.raises(RemoteError):
            await a.request(b.peer_id, "/test/broken/1.0.0", 1, 5)
        assert "a mistake in the handler" in caplog.text
        assert await a.request(b.peer_id, ECHO, 1, 5) == [a.peer_id, 1]


@pytest.mark.slow
async def test_an_exception_in_a_protocol_of_libp2p_itself_does_not_end_the_host() -> None:
    async def broken(raw: object) -> None:
        raise RuntimeError("not ours")

    async with hosts(2) as (a, b):
        b.raw.set_stream_handler("/test/raw/1.0.0", broken)
        b.serve(ECHO, echo)
        await a.connect(b.addrs()[0])
        with pytest.raises(RemoteError):
            await a.request(b.peer_id, "/test/raw/1.0.0", 1, 5)
        assert await a.request(b.peer_id, ECHO, 1, 5) == [a.peer_id, 1]


@pytest.mark.slow
async def test_a_peer_that_never_answers_times_out() -> None:
    async def silent(stream: Stream) -> None:
        await trio.sleep_forever()

    async with hosts(2) as (a, b):
        b.handle("/test/silent/1.0.0", silent)
        b.serve(ECHO, echo)
        await a.connect(b.addrs()[0])
        begin = trio.current_time()
        with pytest.raises(TimedOut):
            await a.request(b.peer_id, "/test/silent/1.0.0", 1, 0.3)
        assert trio.current_time() - begin < 2
        assert await a.request(b.peer_id, ECHO, 1, 5) == [a.peer_id, 1]


@pytest.mark.slow
async def test_a_protocol_that_the_peer_does_not_speak_is_unreachable() -> None:
    async with hosts(2) as (a, b):
        await a.connect(b.addrs()[0])
        with pytest.raises(Unreachable):
            await a.request(b.peer_id, "/test/unknown/1.0.0", 1, 5)


@pytest.mark.slow
async def test_an_answer_over_the_limit_is_refused() -> None:
    async with hosts(2) as (a, b):
        b.serve(ECHO, echo)
        await a.connect(b.addrs()[0])
        with pytest.raises(Malformed):
            await a.request(b.peer_id, ECHO, bytes(5000), 5, max_size=1000)


@pytest.mark.slow
async def test_a_host_that_offers_only_plaintext_is_refused() -> None:
    from libp2p import new_host
    from libp2p.crypto.ed25519 import create_new_key_pair
    from libp2p.peer.id import ID
    from libp2p.peer.peerinfo import PeerInfo
    from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
    from multiaddr import Multiaddr

    keys = create_new_key_pair(b"\x09" * 32)
    plain = new_host(key_pair=keys, sec_opt={PLAINTEXT_PROTOCOL_ID: InsecureTransport(keys)})
    async with hosts(1) as (a,), plain.run(listen_addrs=[Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        location = a.addrs()[0].partition("/p2p/")[0]
        with pytest.raises(Exception, match="unable to connect"), trio.fail_after(10):
            await plain.connect(PeerInfo(ID.from_base58(a.peer_id), [Multiaddr(location)]))
        with pytest.raises(Unreachable):
            await a.connect(str(plain.get_addrs()[0]))
        assert a.connected() == []


@pytest.mark.slow
async def test_a_failed_dial_does_not_bar_the_next_one() -> None:
    async with hosts(2) as (a, b):
        a.learn(b.peer_id, ["/ip4/127.0.0.1/tcp/1"])
        with pytest.raises(Unreachable):
            await a.connect_peer(b.peer_id)
        await a.connect(b.addrs()[0])
        assert a.connected() == [b.peer_id]


@pytest.mark.slow
async def test_a_peer_with_another_key_at_the_address_is_not_taken_for_it() -> None:
    async with hosts(3) as (a, b, c):
        location = b.addrs()[0].partition("/p2p/")[0]
        with pytest.raises(Unreachable):
            await a.connect(f"{location}/p2p/{c.peer_id}")
        assert c.peer_id not in a.connected()


@pytest.mark.slow
async def test_a_frozen_peer_is_disconnected() -> None:
    async with hosts(1, KeepAlive(interval=0.1, deadline=0.3)) as (a,), hosts_seeded(7) as b:

        async def frozen(raw: object) -> None:
            await trio.sleep_forever()

        b.raw.set_stream_handler("/ipfs/ping/1.0.0", frozen)
        await a.connect(b.addrs()[0])
        with trio.fail_after(10):
            while a.connected():
                await trio.sleep(0.05)


@asynccontextmanager
async def hosts_seeded(seed: int) -> AsyncIterator[Host]:
    async with a_host(bytes([seed]) * 32).running() as host:
        yield host


@pytest.mark.slow
async def test_bootstrap_peers_are_dialled_until_they_are_there() -> None:
    fast = KeepAlive(redial_first=0.1, redial_most=0.2)
    async with hosts_seeded(8) as first:
        addr = first.addrs()[0]  # a free port, known before its host listens
    async with a_host(b"\x01" * 32, bootstrap=[addr], keepalive=fast).running() as a:
        for _ in range(2):
            await trio.sleep(0.3)
            assert a.connected() == []
            async with a_host(b"\x08" * 32, port=int(addr.split("/")[4])).running() as first:
                with trio.fail_after(10):
                    while a.connected() != [first.peer_id]:
                        await trio.sleep(0.05)
            with trio.fail_after(10):
                while a.connected():
                    await trio.sleep(0.05)


@pytest.mark.slow
async def test_a_port_in_use_is_a_clear_error() -> None:
    async with hosts(1) as (a,):
        port = int(a.addrs()[0].split("/")[4])
        with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1 port {port}"):
            await a_host(b"\x02" * 32, port=port).run()


def test_a_bad_bootstrap_address_is_a_clear_error() -> None:
    for bad in ("nonsense", "/ip4/127.0.0.1/tcp/9470", "/ip4/127.0.0.1/tcp/9470/p2p/x", "/p2p/"):
        with pytest.raises(UserError, match="is not usable"):
            a_host(b"\x02" * 32, bootstrap=[bad])


@pytest.mark.slow
async def test_cancelled_reads_and_writes_leave_the_connection_whole() -> None:
    async def slow_sink(stream: Stream) -> None:
        while await stream.read_some(1000):
            await trio.sleep(0.001)

    async with hosts(2) as (a, b):
        b.handle("/test/sink/1.0.0", slow_sink)
        b.serve(ECHO, echo)
        await a.connect(b.addrs()[0])
        for wait in (0.0, 0.001, 0.003, 0.01, 0.05) * 4:
            stream = await a.open(b.peer_id, "/test/sink/1.0.0", 10)
            with trio.move_on_after(wait):
                await stream.write(bytes(2_000_000))
            await stream.reset()
            with trio.move_on_after(wait):
                await a.request(b.peer_id, ECHO, wait)
        assert await a.request(b.peer_id, ECHO, "still here", 10) == [a.peer_id, "still here"]
        assert len(a.raw.get_network().get_connections()) == 1


@pytest.mark.slow
async def test_one_peer_cannot_hold_more_streams_than_its_share() -> None:
    async def silent(stream: Stream) -> None:
        await stream.read_some()

    async with hosts(2) as (a, b):
        b.handle("/test/hold/1.0.0", silent)
        b.serve(ECHO, echo)
        await a.connect(b.addrs()[0])
        held = [await a.open(b.peer_id, "/test/hold/1.0.0") for _ in range(STREAMS_PER_PEER)]
        with pytest.raises(TimedOut):
            await a.open(b.peer_id, "/test/hold/1.0.0", 0.5)
        await held.pop().close()
        assert await a.request(b.peer_id, ECHO, 1) == [a.peer_id, 1]
        for stream in held:
            await stream.reset()
