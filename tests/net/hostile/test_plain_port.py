"""Strangers at the port for BitTorrent clients: an honest transfer beside them goes on, nothing is left."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio

from p2pml.net.pieces import SwarmPump
from tests.node.data_nodes import Node, nodes_up, until
from torrent.bitfield import Bitfield
from torrent.geometry import Block
from torrent.messages import BitfieldMessage, Decoder, Handshake, Interested, Piece, Request, Unchoke
from torrent.metainfo import Metainfo

pytestmark = pytest.mark.slow

SIZE = 4_000_000
PLACES = [f"127.0.0.{number}" for number in range(2, 30)]


@asynccontextmanager
async def stranger(node: Node, place: str = "127.0.0.2") -> AsyncIterator[trio.SocketStream]:
    """A connection from one of loopback's addresses."""
    raw = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    stream = trio.SocketStream(raw)
    try:
        await raw.bind((place, 0))
        await raw.connect(("127.0.0.1", node.port))
        yield stream
    finally:
        await trio.aclose_forcefully(stream)


async def is_closed(stream: trio.SocketStream) -> bool:
    """Wait for the other side's end; what it says before is left out."""
    with trio.fail_after(60):
        try:
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass
    return True


def hello(metainfo: Metainfo) -> bytes:
    return Handshake(metainfo.info_hash, b"-XX0000-" + os.urandom(12)).encode()


async def half_a_handshake(node: Node, metainfo: Metainfo) -> None:
    async with stranger(node) as stream:
        await stream.send_all(hello(metainfo)[:67])
        assert await is_closed(stream)


async def garbage(node: Node, metainfo: Metainfo) -> None:
    for place in PLACES[:8]:
        async with stranger(node, place) as stream:
            await stream.send_all(random.Random(place).randbytes(50))
            assert await is_closed(stream)


async def wrong_torrent(node: Node, metainfo: Metainfo) -> None:
    async with stranger(node) as stream:
        await stream.send_all(Handshake(bytes(20), bytes(20)).encode())
        assert await stream.receive_some() == b""


async def giant_frame(node: Node, metainfo: Metainfo) -> None:
    async with stranger(node) as stream:
        await stream.send_all(hello(metainfo) + b"\xff\xff\xff\xff\x07")
        assert await is_closed(stream)


async def impossible_messages(node: Node, metainfo: Metainfo) -> None:
    wrong = [
        Request(Block(metainfo.piece_count, 0, 16384)).encode(),
        Request(Block(0, 0, 1 << 20)).encode(),
        BitfieldMessage(b"\xff" * 9000).encode(),
        b"\0\0\0\2\0\0",
    ]
    for message in wrong:
        async with stranger(node) as stream:
            await stream.send_all(hello(metainfo) + message)
            assert await is_closed(stream)


async def request_flood(node: Node, metainfo: Metainfo) -> None:
    """More requests than anybody may queue, and nothing of the answers is read."""
    async with stranger(node) as stream:
        one = Request(Block(0, 0, 16384)).encode()
        try:
            await stream.send_all(hello(metainfo) + Interested().encode())
            with trio.move_on_after(3):
                for _ in range(40):
                    await stream.send_all(one * 500)
        except trio.BrokenResourceError:
            pass


HOSTILE = [half_a_handshake, garbage, wrong_torrent, giant_frame, impossible_messages, request_flood]


@asynccontextmanager
async def honest(tmp_path: Path) -> AsyncIterator[tuple[Node, Node, Metainfo]]:
    """A seeder and a node that knows it by its BitTorrent port alone: they are not libp2p peers."""
    path = tmp_path / "set"
    path.write_bytes(random.Random(3).randbytes(SIZE))
    async with AsyncExitStack() as stack:
        (seeder,) = await stack.enter_async_context(nodes_up(tmp_path / "one", 1, plain=True))
        (leecher,) = await stack.enter_async_context(nodes_up(tmp_path / "two", 1, plain=True))
        info = await seeder.data.seed(path)
        await pump_of(seeder)  # before it runs, whoever comes is turned away
        yield seeder, leecher, Metainfo.parse(info.torrent_file.read_bytes())


async def transfer(seeder: Node, leecher: Node, metainfo: Metainfo) -> None:
    """The honest peer's exchange, all of it by plain TCP."""
    await leecher.data.add(metainfo.raw)
    leecher.data.meet("set", [f"tcp:127.0.0.1:{seeder.port}"])
    info = await leecher.data.wait("set", timeout=60)
    assert all(peer.startswith("tcp:127.0.0.1") for peer in info.received)
    assert sum(info.received.values()) >= SIZE
    assert leecher.data.path_of("set").read_bytes() == seeder.data.path_of("set").read_bytes()


async def nothing_left(seeder: Node, leecher: Node) -> None:
    await leecher.data.remove("set")
    assert seeder.plain is not None
    await until(lambda: seeder.plain.connections == 0, "every connection has ended", 60)
    await until(lambda: not seeder.data.info("set").links, "the swarm has forgotten them")


@pytest.mark.parametrize("attack", HOSTILE, ids=lambda attack: attack.__name__)
async def test_a_stranger_harms_only_itself(
    attack: Callable[[Node, Metainfo], Awaitable[None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is wrong at its first byte is not waited for; what is only unfinished is, and not for long.
    patience = 1.0 if attack is half_a_handshake else 1e6
    monkeypatch.setattr("p2pml.net.plain_port.HANDSHAKE_DEADLINE_S", patience)
    async with honest(tmp_path) as (seeder, leecher, metainfo):
        await attack(seeder, metainfo)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(attack, seeder, metainfo)
            await transfer(seeder, leecher, metainfo)
        await nothing_left(seeder, leecher)


async def test_silent_ones_take_neither_the_places_nor_the_room_of_the_others(tmp_path: Path) -> None:
    """Half of a handshake at many connections; all of it and nothing more at as many as a torrent takes."""
    async with honest(tmp_path) as (seeder, leecher, metainfo), AsyncExitStack() as stack:
        for place in PLACES[:20]:
            stream = await stack.enter_async_context(stranger(seeder, place))
            await stream.send_all(hello(metainfo)[:40])
        silent = []
        for number in range(29):
            stream = await stack.enter_async_context(stranger(seeder, PLACES[number % len(PLACES)]))
            await stream.send_all(hello(metainfo))
            silent.append(stream)
        await until(lambda: len(seeder.data.info("set").links) == 29, "they are in the swarm", 60)
        await transfer(seeder, leecher, metainfo)
        await stack.aclose()
        await nothing_left(seeder, leecher)


async def test_no_more_than_so_many_connections(tmp_path: Path) -> None:
    async with honest(tmp_path) as (seeder, leecher, metainfo), AsyncExitStack() as stack:
        streams = []
        for number in range(70):
            stream = await stack.enter_async_context(stranger(seeder, PLACES[number % len(PLACES)]))
            streams.append(stream)
        assert seeder.plain is not None
        closed = 0
        for stream in streams[64:]:
            closed += await is_closed(stream)
        assert closed == 6  # over the bound on handshakes under way
        assert seeder.plain.connections <= 64
        await stack.aclose()
        await until(lambda: seeder.plain.connections == 0, "all have ended")
        streams = []
        for number in range(33):
            stream = await stack.enter_async_context(stranger(seeder, PLACES[number % len(PLACES)]))
            await stream.send_all(hello(metainfo))
            streams.append(stream)
            assert (await first_byte(stream)) == (number < 30)  # and over the bound on one torrent
        await stack.aclose()
        await transfer(seeder, leecher, metainfo)
        await nothing_left(seeder, leecher)


async def first_byte(stream: trio.SocketStream) -> bool:
    with trio.fail_after(60):
        try:
            return bool(await stream.receive_some(1))
        except trio.BrokenResourceError:
            return False


async def test_a_liar_is_banned_by_its_address_and_the_honest_one_is_not(tmp_path: Path) -> None:
    async with honest(tmp_path) as (seeder, leecher, metainfo):
        await leecher.data.add(metainfo.raw)
        await pump_of(leecher)
        async with stranger(leecher) as liar:
            have = Bitfield(metainfo.piece_count, range(metainfo.piece_count))
            await liar.send_all(
                hello(metainfo) + BitfieldMessage(have.to_bytes()).encode() + Unchoke().encode()
            )
            with trio.move_on_after(60):
                with suppress(trio.BrokenResourceError):
                    await lie(liar, metainfo)
        assert leecher.plain is not None
        await until(lambda: leecher.plain.is_banned("127.0.0.2"), "it is banned")
        async with stranger(leecher) as again:
            assert await is_closed(again)
        assert not leecher.plain.is_banned("127.0.0.1")
        leecher.data.meet("set", [f"tcp:127.0.0.1:{seeder.port}"])
        info = await leecher.data.wait("set", timeout=60)
        assert info.complete


async def lie(stream: trio.SocketStream, metainfo: Metainfo) -> None:
    """Answer every request with zeros."""
    decoder = Decoder()
    while data := await stream.receive_some():
        for message in decoder.feed(data):
            if isinstance(message, Request):
                index, begin, length = message.block
                await stream.send_all(Piece(index, begin, bytes(length)).encode())


async def test_a_node_does_not_talk_to_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with honest(tmp_path) as (seeder, leecher, metainfo):
        own = f"tcp:127.0.0.1:{leecher.port}"
        await leecher.data.add(metainfo.raw)
        leecher.data.meet("set", [own])
        pump = await pump_of(leecher)
        assert pump._plain_dialling is not None
        assert not pump._plain_dialling.is_banned(own)  # not even dialled
        assert leecher.plain is not None
        monkeypatch.setattr(leecher.plain, "is_own", lambda ip, port: False)  # as behind a router
        leecher.data.meet("set", [own])
        await until(lambda: pump._plain_dialling.is_banned(own), "it knows itself by the handshake")
        await until(lambda: not leecher.data.info("set").links, "the link has ended")
        leecher.data.meet("set", [f"tcp:127.0.0.1:{seeder.port}"])
        await leecher.data.wait("set", timeout=60)


async def pump_of(node: Node) -> SwarmPump:
    """Its swarm, once it runs and takes connections."""
    session = node.data._sessions.of("set")
    assert node.plain is not None
    await until(lambda: node.plain._find(session.infohash) is not None, "the swarm runs")
    assert session._pump is not None
    return session._pump
