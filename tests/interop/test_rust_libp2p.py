"""Our hosts, on either transport, and rust-libp2p over loopback TCP: each does, the other understands."""

# ruff: noqa: ASYNC110  (a test polls what has no event)
from __future__ import annotations

import hashlib
import math
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.identify import parse_identify_response

from p2pml.net.errors import Closed, RemoteError, Unreachable
from p2pml.net.host import Host
from p2pml.net.keepalive import PING, ping
from p2pml.net.raw_host import to_raw_peer
from p2pml.net.streams import Stream
from p2pml.net.yamux.frames import INITIAL_WINDOW

# Not of the fixtures: the first one waits for cargo, for minutes where nothing was built before.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(150, func_only=True)]

MINE, THEIRS = "/interop/ours/1.0.0", "/interop/theirs/1.0.0"
MIB = 1 << 20
BULK = 64 * MIB
DATA = random.Random(1).randbytes(BULK)
SOME = DATA[: BULK // 4]
PATIENCE_S = 120.0
BUFFERED = 24 * MIB
"""What this process may hold while somebody does not read: windows, outboxes, and the allocator's slack."""
DELAY_S = 0.02
PAUSE_S = 6.0
"""Longer than the five seconds after which libp2p's own yamux gives up on a reader."""


@pytest.fixture
async def host(transport: str) -> AsyncIterator[Host]:
    async with Host(b"\x51" * 32, transport=transport).running() as host:
        yield host


@pytest.fixture(params=[False, True], ids=["we dial", "rust dials"])
def rust_dials(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def opened(host: Host, rust: Any, protocol: str = THEIRS) -> tuple[Stream, int]:
    """A stream that we opened: our end, and the number of the other."""
    await rust.call("accept", protocol=protocol)
    stream = await host.open(rust.peer, protocol)
    return stream, (await rust.event("stream", protocol=protocol))["stream"]


@asynccontextmanager
async def accepted(host: Host, rust: Any) -> AsyncIterator[tuple[Stream, int]]:
    """A stream that rust opened, with our end in the hands of the test."""
    arrived, done = trio.Event(), trio.Event()
    streams: list[Stream] = []

    async def handler(stream: Stream) -> None:
        streams.append(stream)
        arrived.set()
        await done.wait()

    host.handle(MINE, handler)
    number = await rust.call("open", peer=host.peer_id, protocol=MINE)
    with trio.fail_after(PATIENCE_S):
        await arrived.wait()
    yield streams[0], number
    done.set()


async def write_for_ever(stream: Stream) -> None:
    while True:
        await stream.write(bytes(100_000))


async def read_text(rust: Any, number: int) -> tuple[str, str | None]:
    """What rust reads on a stream, up to 100 bytes, and how it ended."""
    got = await rust.call("read", stream=number, count=100)
    return got["content"]["text"], got["end"]


async def read_all(stream: Stream) -> bytes:
    data = bytearray()
    while part := await stream.read_some():
        data += part
    return bytes(data)


async def both(*tasks: Callable[[], Awaitable[Any]]) -> list[Any]:
    """The results of tasks that run at once."""
    results: list[Any] = [None] * len(tasks)

    async def run(index: int) -> None:
        results[index] = await tasks[index]()

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for index in range(len(tasks)):
                nursery.start_soon(run, index)
    return results


def content(data: bytes) -> dict[str, Any]:
    """What the rust peer tells of bytes that are too many to repeat."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "text": None}


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def until(condition: Callable[[], Any]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not condition():
            await trio.sleep(0.02)


async def test_each_side_identifies_and_pings_the_other(host: Host, rust: Any, rust_dials: bool) -> None:
    await rust.call("accept", protocol=THEIRS)
    host.handle(MINE, read_all)
    await rust.meet(host, rust_dials)

    seen = await rust.event("identified", peer=host.peer_id)
    assert seen["agent"].startswith("py-libp2p/")
    assert {MINE, PING, IDENTIFY} <= set(seen["protocols"])
    stream = await host.open(rust.peer, IDENTIFY)
    told = parse_identify_response(await read_all(stream))
    await stream.close()
    assert told.agent_version.startswith("rust-libp2p/")
    assert {THEIRS, PING, IDENTIFY} <= set(told.protocols)

    for _ in range(3):
        assert await ping(host, rust.peer, PATIENCE_S) > 0
        assert (await rust.event("ping", peer=host.peer_id))["error"] is None


async def test_bulk_each_way_and_both_at_once(host: Host, rust: Any, rust_dials: bool) -> None:
    await rust.meet(host, rust_dials)
    stream, number = await opened(host, rust)
    send = partial(stream.write, DATA)
    receive = partial(stream.read_exact, BULK)
    rust_sends = partial(rust.call, "write", stream=number, payload=BULK)
    rust_receives = partial(rust.call, "read", stream=number, count=BULK)

    _, got = await both(send, rust_receives)
    assert got == {"content": content(DATA), "end": None}
    told, data = await both(rust_sends, receive)
    assert content(data) == told
    exchange = partial(rust.call, "exchange", stream=number, payload=BULK, count=BULK)
    told, data, _ = await both(exchange, receive, send)
    assert content(data) == told["sent"]
    assert told["got"] == {"content": content(DATA), "end": None}


async def test_a_hundred_streams_at_once_that_we_open(host: Host, rust: Any) -> None:
    async def echoed(index: int) -> None:
        data = random.Random(index).randbytes(100_000)
        stream = await host.open(rust.peer, f"{THEIRS}/{index}", PATIENCE_S)
        together.append(index)
        while len(together) < 100:
            await trio.sleep(0.01)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.write, data)
            assert await stream.read_exact(len(data)) == data
        await stream.close()

    together: list[int] = []
    for index in range(
        100
    ):  # of one protocol libp2p-stream drops those that come faster than it hands them out
        await rust.call("echo", protocol=f"{THEIRS}/{index}")
    await rust.meet(host)
    await both(*(partial(echoed, index) for index in range(100)))


async def test_a_hundred_streams_at_once_that_rust_opens(host: Host, rust: Any) -> None:
    async def echo(stream: Stream) -> None:
        while data := await stream.read_some():
            await stream.write(data)

    host.handle(MINE, echo)
    await rust.meet(host)
    burst = partial(rust.call, "burst", peer=host.peer_id, protocol=MINE, streams=100, bytes=100_000)
    assert await both(burst) == [100]


async def test_a_side_that_ended_its_half_still_receives(host: Host, rust: Any) -> None:
    await rust.meet(host)
    stream, number = await opened(host, rust)
    await rust.call("write", stream=number, payload="last words")
    await rust.call("finish", stream=number)
    assert await read_all(stream) == b"last words"
    await stream.write(b"heard")
    await stream.close()
    assert await read_text(rust, number) == ("heard", "eof")

    raw = await host.raw.new_stream(to_raw_peer(rust.peer), [THEIRS])
    number = (await rust.event("stream"))["stream"]
    stream = Stream(raw)
    await stream.write(b"last words")
    await raw.close_write()
    assert await read_text(rust, number) == ("last words", "eof")
    await rust.call("write", stream=number, payload="heard")
    await rust.call("finish", stream=number)
    assert await read_all(stream) == b"heard"
    await stream.close()


async def test_a_reset_reaches_the_other_side_and_only_that_stream(host: Host, rust: Any) -> None:
    await rust.meet(host)
    other, other_number = await opened(host, rust, THEIRS + "/other")
    stream, number = await opened(host, rust)
    await rust.call("drop", stream=number)
    with pytest.raises(Closed):
        await stream.read_exact(1)
    with pytest.raises(Closed):
        await write_for_ever(stream)

    async with accepted(host, rust) as (stream, number):
        await stream.reset()
        # To its readers rust's yamux tells a reset as an end, to its writers as what it is.
        assert await read_text(rust, number) == ("", "eof")
        with pytest.raises(type(rust).Refused, match=r"WriteZero|ConnectionReset|BrokenPipe"):
            await rust.call("write", stream=number, payload=MIB)

    await other.write(b"untouched")
    await other.close()
    assert await read_text(rust, other_number) == ("untouched", "eof")


async def test_what_the_other_side_does_not_speak_is_refused(host: Host, rust: Any) -> None:
    await rust.meet(host)
    with pytest.raises(Unreachable):
        await host.open(rust.peer, "/interop/nobody/1.0.0")
    with pytest.raises(type(rust).Refused, match="does not support"):
        await rust.call("open", peer=host.peer_id, protocol="/interop/nobody/1.0.0")
    assert await ping(host, rust.peer, PATIENCE_S) > 0


async def test_a_rust_reader_that_pauses_only_holds_us_up(host: Host, rust: Any) -> None:
    await rust.meet(host)
    stream, number = await opened(host, rust)
    written = trio.Event()

    async def write() -> None:
        await stream.write(DATA)
        written.set()

    before = resident()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        await trio.sleep(PAUSE_S)
        assert not written.is_set()
        assert resident() - before < BUFFERED
        assert await ping(host, rust.peer, PATIENCE_S) > 0
        got = await rust.call("read", stream=number, count=BULK)
    assert got == {"content": content(DATA), "end": None}


async def test_a_reader_of_ours_that_pauses_only_holds_rust_up(host: Host, rust: Any) -> None:
    await rust.meet(host)
    stream, number = await opened(host, rust)
    before, told = resident(), []

    async def write() -> None:
        told.append(await rust.call("write", stream=number, payload=BULK))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        begin = await stream.read_exact(MIB)  # at full speed, so that windows have grown when it pauses
        await trio.sleep(PAUSE_S)
        assert not told
        assert resident() - before < BUFFERED
        assert await ping(host, rust.peer, PATIENCE_S) > 0
        data = begin + await stream.read_exact(BULK - MIB)
    assert told == [content(data)]


@dataclass
class Relay:
    """Between two TCP ends: every byte is held back for `DELAY_S`, either way.

    Attributes:
        most_held: the most bytes that were on the way at once, from who connected and to it.
    """

    port: int
    most_held: list[int] = field(default_factory=lambda: [0, 0])

    async def relay(self, client: trio.SocketStream) -> None:
        server = await trio.open_tcp_stream("127.0.0.1", self.port)
        async with server, trio.open_nursery() as tasks:
            tasks.start_soon(self._forward, 0, client, server)
            tasks.start_soon(self._forward, 1, server, client)

    async def _forward(self, way: int, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        into, out = trio.open_memory_channel[tuple[float, bytes]](math.inf)
        held = 0

        async def late() -> None:
            nonlocal held
            async for due, data in out:
                await trio.sleep_until(due)
                await sink.send_all(data)
                held -= len(data)

        async with trio.open_nursery() as tasks:
            tasks.start_soon(late)
            async for data in source:
                held += len(data)
                self.most_held[way] = max(self.most_held[way], held)
                await into.send((trio.current_time() + DELAY_S, data))


async def test_on_a_long_way_both_sides_widen_their_windows_and_use_the_others(host: Host, rust: Any) -> None:
    port = int(rust.addr.split("/")[4])
    relay = Relay(port)
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, relay.relay, 0, host="127.0.0.1"))
        detour = listener.socket.getsockname()[1]
        await host.connect(rust.addr.replace(f"/tcp/{port}/", f"/tcp/{detour}/"))
        stream, number = await opened(host, rust)
        rust_sends = partial(rust.call, "write", stream=number, payload=len(SOME))
        rust_receives = partial(rust.call, "read", stream=number, count=len(SOME))
        _, got = await both(partial(stream.write, SOME), rust_receives)
        assert got == {"content": content(SOME), "end": None}
        told, data = await both(rust_sends, partial(stream.read_exact, len(SOME)))
        assert content(data) == told
        nursery.cancel_scope.cancel()
    # One stream, so what was on the way was within its window; records and headers add less than a fiftieth.
    assert min(relay.most_held) > 1.5 * INITIAL_WINDOW


async def test_rust_that_leaves_in_good_order_ends_our_streams(host: Host, rust: Any) -> None:
    await rust.meet(host)
    reading, _ = await opened(host, rust)
    writing, _ = await opened(host, rust, THEIRS + "/other")

    async def end() -> None:
        await rust.call("disconnect", peer=host.peer_id)

    await both(end, partial(fails, reading.recv, 1000, PATIENCE_S), partial(fails, write_for_ever, writing))
    await until(lambda: not host.connected())
    await rust.event("closed", peer=host.peer_id)
    await rust.meet(host)
    assert await ping(host, rust.peer, PATIENCE_S) > 0
    await rust.leave()
    await until(lambda: not host.connected())
    await fails(host.open, rust.peer, THEIRS)


async def test_rust_that_is_killed_ends_our_streams(host: Host, rust: Any) -> None:
    await rust.meet(host)
    reading, _ = await opened(host, rust)
    writing, _ = await opened(host, rust, THEIRS + "/other")

    async def end() -> None:
        os.kill(rust.pid, signal.SIGKILL)

    await both(end, partial(fails, reading.recv, 1000, PATIENCE_S), partial(fails, write_for_ever, writing))
    await until(lambda: not host.connected())
    await fails(host.open, rust.peer, THEIRS)


async def test_rust_notices_that_we_left(transport: str, rust: Any) -> None:
    async with Host(b"\x52" * 32, transport=transport).running() as host:
        await rust.meet(host)
        _, number = await opened(host, rust)
    await rust.event("closed", peer=host.peer_id)
    assert (await rust.call("read", stream=number, count=1))["end"] is not None


async def fails(operation: Callable[..., Awaitable[Any]], *args: Any) -> None:
    with pytest.raises(RemoteError):
        await operation(*args)
