"""The WebSocket transport: whole hosts over it, and what strangers may send to its port."""

# ruff: noqa: ASYNC110  (a test polls what has no event)
from __future__ import annotations

import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from multiaddr import Multiaddr
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage

from p2pml.home import Home
from p2pml.net import addresses
from p2pml.net.errors import Closed
from p2pml.net.gossip import Gossip
from p2pml.net.host import Host
from p2pml.net.presence import Facts, Presence, Timing
from p2pml.net.websocket import WebSocketListener, WebSocketTransport
from p2pml.net.websocket_stream import WebSocketStream, request
from p2pml.node.data_service import DataService
from p2pml.node.events import Events

ECHO = "/test/echo/1.0.0"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n%s\r\n"
)
GOOD = UPGRADE % (b"x", b"")


@asynccontextmanager
async def listening(handler: Callable[[Any], Awaitable[None]], **limits: Any) -> AsyncIterator[int]:
    """A listener alone, without libp2p on it; gives its port."""
    async with trio.open_nursery() as nursery:
        listener = WebSocketListener(handler, **limits)
        listener.background_nursery = nursery
        await listener.listen(Multiaddr("/ip4/127.0.0.1/tcp/0/ws"))
        yield int(listener.get_addrs()[0].value_for_protocol("tcp"))
        await listener.close()


async def echo_bytes(stream: Any) -> None:
    while data := await stream.read(65536):
        await stream.write(data)


async def until_end(stream: trio.SocketStream) -> bytes:
    """What comes until the other side ends the connection, however it does."""
    got = bytearray()
    with trio.fail_after(20):
        try:
            while data := await stream.receive_some():
                got += data
        except trio.BrokenResourceError:
            pass
    return bytes(got)


@asynccontextmanager
async def dialled(port: int) -> AsyncIterator[WebSocketStream]:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        yield await request(stream, "127.0.0.1")


async def still_serves(port: int) -> bool:
    async with dialled(port) as stream:
        await stream.send_all(b"still there?")
        return await stream.receive_some() == b"still there?"


async def test_bytes_come_back_whatever_their_size() -> None:
    payload = random.Random(1).randbytes(700_001)
    async with listening(echo_bytes) as port, dialled(port) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, payload)
        got = bytearray()
        while len(got) < len(payload):
            got += await stream.receive_some(1000 if len(got) < 5000 else None)
        assert got == payload


async def test_the_peers_address_is_known() -> None:
    seen: list[Any] = []

    async def handler(stream: Any) -> None:
        seen.append(stream.get_remote_address())

    async with listening(handler) as port, dialled(port) as stream:
        assert await stream.receive_some() == b""
        assert seen == [stream.socket.getsockname()]


@pytest.mark.parametrize(
    "hostile",
    [
        b"\x00\xff\x13garbage\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        UPGRADE % (b"\xff\xfe", b""),
        UPGRADE % (b"xn--" + b"a" * 70 + b"..", b""),
        GOOD.replace(b"GET / ", b"GET /\xff "),
        UPGRADE % (b"x", b"X-Filler: " + b"a" * 200_000 + b"\r\n"),
        GOOD.replace(b": 13", b": 12"),
    ],
    ids=["bytes", "plain GET", "POST", "Host", "IDNA", "target", "headers", "version"],
)
async def test_what_is_no_handshake_ends_its_own_connection_only(hostile: bytes) -> None:
    async with listening(echo_bytes) as port:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            with suppress(trio.BrokenResourceError):  # it may not wait for the end of it
                await stream.send_all(hostile)
            assert b"101" not in (await until_end(stream))[:20]
        assert await still_serves(port)


async def test_a_slow_handshake_is_cut_off() -> None:
    async with listening(echo_bytes, handshake_s=0.1) as port:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(GOOD[:30])
            assert await until_end(stream) == b""
        assert await still_serves(port)


async def test_only_so_many_handshakes_are_under_way_at_once() -> None:
    async with listening(echo_bytes, handshakes=2) as port:
        slow = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(2)]
        for stream in slow:
            await stream.send_all(GOOD[:30])
        async with await trio.open_tcp_stream("127.0.0.1", port) as third:
            assert await until_end(third) == b""
        for stream in slow:
            await stream.send_all(GOOD[30:])  # these are within the limit
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 101")
            await stream.aclose()
        assert await still_serves(port)


def client_frame(opcode: int, payload: bytes, claimed: int | None = None) -> bytes:
    """A final frame, masked with zeros, which may claim to be longer than it is."""
    size = len(payload) if claimed is None else claimed
    return bytes([0x80 | opcode, 0xFF]) + struct.pack(">Q", size) + bytes(4) + payload


async def test_a_frame_of_a_tebibyte_is_handed_on_as_it_comes() -> None:
    payload = random.Random(2).randbytes(100_000)
    async with (
        listening(echo_bytes) as port,
        await trio.open_tcp_stream("127.0.0.1", port) as stream,
    ):
        await stream.send_all(GOOD)
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 101")
        await stream.send_all(client_frame(2, payload, claimed=1 << 40))
        got = 0
        while got < len(payload):  # the echo comes while the frame is far from its end
            got += len(await stream.receive_some())


@pytest.mark.parametrize(
    "bad",
    [
        client_frame(1, b"text"),
        client_frame(2, b"x")[:1] + b"\x01x",  # not masked
        b"\xf2\x81" + bytes(4) + b"x",  # reserved bits
        b"\x89\xfe\x01\x00" + bytes(4 + 256),  # a ping longer than pings may be
        b"\x83\x80" + bytes(4),  # no such opcode
        client_frame(8, b"\x03\xe8"),
    ],
    ids=["text", "unmasked", "reserved", "long ping", "opcode", "close"],
)
async def test_a_bad_frame_or_a_close_ends_its_own_connection_only(bad: bytes) -> None:
    async with listening(echo_bytes) as port:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(GOOD)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 101")
            await stream.send_all(bad)
            await until_end(stream)
        assert await still_serves(port)


async def test_an_abrupt_end_ends_its_own_connection_only() -> None:
    ended = trio.Event()

    async def handler(stream: Any) -> None:
        try:
            await echo_bytes(stream)
        finally:
            ended.set()

    async with listening(handler) as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GOOD + client_frame(2, b"abc")[:7])
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 101")
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()  # by a reset
        with trio.fail_after(5):
            await ended.wait()
        assert await still_serves(port)


async def test_a_ping_is_answered_between_two_messages() -> None:
    async with (
        listening(echo_bytes) as port,
        await trio.open_tcp_stream("127.0.0.1", port) as stream,
    ):
        await stream.send_all(GOOD)
        await stream.receive_some()
        await stream.send_all(b"\x89\x83" + bytes(4) + b"hey")
        with trio.fail_after(5):
            assert await stream.receive_some() == b"\x8a\x03hey"


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 404 Not Found\r\n\r\n", b"\xff" * 100, b"HTTP/1.1 101 x\r\n\r\n", b""]
)
async def test_a_server_that_is_none_refuses_the_dial(answer: bytes) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            with pytest.raises(Closed):
                await request(stream, "127.0.0.1")
        nursery.cancel_scope.cancel()


async def test_bytes_that_come_with_the_answer_are_not_lost() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        protocol = WSConnection(ConnectionType.SERVER)
        protocol.receive_data(await stream.receive_some())
        assert list(protocol.events())
        await stream.send_all(protocol.send(AcceptConnection()) + protocol.send(BytesMessage(data=b"first")))
        await stream.receive_some()  # keeps the connection up

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        with trio.fail_after(5):
            async with dialled(listeners[0].socket.getsockname()[1]) as stream:
                assert await stream.receive_some() == b"first"
        nursery.cancel_scope.cancel()


async def echo(peer: str, message: object) -> object:
    return [peer, message]


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["stock", "fast"])
async def test_hosts_meet_over_websocket_alone(transport: str) -> None:
    async with (
        Host(b"a" * 32, port=None, websocket_port=0, transport=transport).running() as a,
        Host(b"b" * 32, transport=transport).running() as b,
    ):
        (address,) = a.addrs()
        assert address.endswith(f"/ws/p2p/{a.peer_id}")
        a.serve(ECHO, echo, max_size=1 << 20)
        await b.connect(address)
        assert await b.request(a.peer_id, ECHO, bytes(700_000), 30) == [b.peer_id, bytes(700_000)]
        await b.disconnect(a.peer_id)
        with trio.fail_after(5):
            while a.connected() or b.connected():
                await trio.sleep(0.01)
        await b.connect(address)
        assert a.connected() == [b.peer_id]


@pytest.mark.slow
async def test_a_host_with_both_says_both_the_faster_first() -> None:
    async with Host(b"a" * 32, port=0, websocket_port=0).running() as a, Host(b"b" * 32).running() as b:
        tcp, websocket = a.addrs()
        assert not addresses.is_websocket(tcp)
        assert addresses.is_websocket(websocket)
        await b.connect(websocket)
        assert a.connected() == [b.peer_id]


@pytest.mark.slow
async def test_a_host_lives_on_after_a_request_that_cannot_be_decoded() -> None:
    async with Host(b"a" * 32, port=None, websocket_port=0).running() as a, Host(b"b" * 32).running() as b:
        port = int(a.addrs()[0].split("/")[4])
        for sent in (UPGRADE % (b"\xff", b""), GOOD, GOOD + client_frame(2, b"\xff" * 200_000)):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(sent)
                await stream.receive_some()
        await b.connect(a.addrs()[0])


@pytest.mark.slow
async def test_a_dataset_comes_over_websocket_from_a_peer_met_through_presence(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    content = random.Random(3).randbytes(600_000)
    (source / "digits.bin").write_bytes(content)
    async with trio.open_nursery() as nursery:
        a_host = Host(b"a" * 32, port=None, websocket_port=0)
        a = await _data_node(nursery, tmp_path / "a", a_host, [])
        seeded = await a.seed(source, "digits", False, None)
        b_host = Host(b"b" * 32, bootstrap=a_host.addrs())
        b = await _data_node(nursery, tmp_path / "b", b_host, a_host.addrs())
        with trio.fail_after(60):
            await b.begin(seeded.hex, None)
            while not b.info(seeded.hex).complete:
                await trio.sleep(0.05)
        location = b.info(seeded.hex).files[0].location
        assert await trio.Path(location).read_bytes() == content
        nursery.cancel_scope.cancel()


async def _data_node(nursery: trio.Nursery, root: Path, host: Host, expect: list[str]) -> DataService:
    """Host, gossip, presence and data, without a chain; returns once the peers of `expect` are known."""
    await nursery.start(host.run)
    gossip = Gossip(host, b"n" * 32)
    await nursery.start(gossip.run)
    account = host.peer_id.encode()[-32:]
    presence = Presence(host, gossip, lambda: Facts(account), Timing(announce=0.5, look=0.1))
    await nursery.start(presence.run)
    home = Home(root)
    home.create()
    data = DataService(home, host, gossip, presence, Events())
    await nursery.start(data.run)
    with trio.fail_after(30):
        while len(presence.peers()) < len(expect):
            await trio.sleep(0.02)
    return data


def test_addresses_with_and_without_ws() -> None:
    transport = WebSocketTransport()
    for text, mine in {
        "/ip4/127.0.0.1/tcp/1/ws": True,
        "/ip6/::1/tcp/1/ws": True,
        "/dns4/example.org/tcp/1/ws": True,
        "/ip4/127.0.0.1/tcp/1": False,
    }.items():
        assert addresses.dialable(text)
        assert transport.can_dial(Multiaddr(text)) is mine
    assert not addresses.dialable("/ip4/127.0.0.1/tcp/1/wss")
    assert not addresses.dialable("/ip4/127.0.0.1/udp/1/ws")
