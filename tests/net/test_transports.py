"""Hosts of both stacks on loopback in one run: either is understood by the other."""

from __future__ import annotations

import hashlib

import pytest
import trio
import trio.testing

from p2pml.net.errors import RemoteError
from p2pml.net.host import Host
from p2pml.net.memory_transport import MemoryNetwork
from p2pml.net.raw_host import new_raw_host
from p2pml.net.streams import Stream
from p2pml.net.yamux.muxer import Muxer

BULK = "/test/bulk/1.0.0"
DATA = bytes(range(256)) * 12_000


async def digest(stream: Stream) -> None:
    """Reads to the end of the peer's side and answers with the hash of it, then sends it all back."""
    size = int.from_bytes(await stream.read_exact(4), "big")
    data = await stream.read_exact(size)
    await stream.write(hashlib.sha256(data).digest())
    await stream.write(data)


async def bulk(one: Host, peer: str) -> None:
    stream = await one.open(peer, BULK)
    await stream.write(len(DATA).to_bytes(4, "big"))
    await stream.write(DATA)
    assert await stream.read_exact(32) == hashlib.sha256(DATA).digest()
    assert await stream.read_exact(len(DATA)) == DATA
    await stream.close()


async def write_for_ever(stream: Stream) -> None:
    while True:
        await stream.write(bytes(100_000))


@pytest.mark.slow
@pytest.mark.parametrize("dialler", ["stock", "fast"])
@pytest.mark.parametrize("listener", ["stock", "fast"])
async def test_bulk_both_ways_between_the_stacks(dialler: str, listener: str) -> None:
    async with (
        Host(b"\x31" * 32, transport=dialler).running() as a,
        Host(b"\x32" * 32, transport=listener).running() as b,
    ):
        for host in (a, b):
            host.handle(BULK, digest)
        await a.connect(b.addrs()[0])
        with trio.fail_after(60):
            await bulk(a, b.peer_id)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(bulk, a, b.peer_id)
                nursery.start_soon(bulk, b, a.peer_id)
        for host, transport in ((a, dialler), (b, listener)):
            (conns,) = host.raw.get_network().connections.values()
            assert isinstance(conns[0].muxed_conn, Muxer) == (transport == "fast")


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["stock", "fast"])
async def test_a_handler_that_reads_slowly_gets_everything(transport: str) -> None:
    got = bytearray()
    ended = trio.Event()

    async def slowly(stream: Stream) -> None:
        while data := await stream.read_some(20_000):
            got.extend(data)
            await trio.sleep(0.002)
        ended.set()

    async with (
        Host(b"\x33" * 32, transport="fast").running() as a,
        Host(b"\x34" * 32, transport=transport).running() as b,
    ):
        b.handle(BULK, slowly)
        await a.connect(b.addrs()[0])
        stream = await a.open(b.peer_id, BULK)
        await stream.write(DATA[:1_000_000])
        await stream.close()
        with trio.fail_after(30):
            await ended.wait()
        assert bytes(got) == DATA[:1_000_000]


async def test_a_reader_that_pauses_for_half_a_minute_loses_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    got = bytearray()
    ended = trio.Event()

    async def pausing(stream: Stream) -> None:
        got.extend(await stream.read_some())
        await trio.sleep(30)
        while data := await stream.read_some():
            got.extend(data)
        ended.set()

    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        async with (
            Host(b"\x37" * 32, transport="fast", wires=network.transport()).running() as a,
            Host(b"\x38" * 32, transport="fast", wires=network.transport()).running() as b,
        ):
            b.handle(BULK, pausing)
            stream = await a.open(await a.connect(b.addrs()[0]), BULK)
            await stream.write(DATA)
            await stream.close()
            with trio.fail_after(300):
                await ended.wait()
    assert bytes(got) == DATA


@pytest.mark.slow
async def test_a_host_that_goes_away_ends_its_peers_streams() -> None:
    async with Host(b"\x35" * 32, transport="fast").running() as a:
        async with Host(b"\x36" * 32, transport="fast").running() as b:

            async def wait(stream: Stream) -> None:
                await stream.read_some()

            b.handle(BULK, wait)
            await a.connect(b.addrs()[0])
            stream = await a.open(b.peer_id, BULK)
        with trio.fail_after(10), pytest.raises(RemoteError):
            await write_for_ever(stream)
        await stream.reset()
        with trio.fail_after(10):
            while a.connected():  # noqa: ASYNC110  (libp2p's table of connections has no event)
                await trio.sleep(0.02)


def test_an_unknown_transport_is_refused() -> None:
    with pytest.raises(ValueError, match="'quick' is not one of stock, fast"):
        new_raw_host(b"\x01" * 32, "quick")
