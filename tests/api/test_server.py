"""The real server: one bad connection ends alone, sockets of any path length, ports in use."""

from __future__ import annotations

import os
import socket
import stat
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from p2pml.api.app import create_app
from p2pml.api.server import bind_loopback, bind_unix, serve
from p2pml.errors import UserError
from p2pml.socket_path import MAX_ADDRESS, reachable

UPGRADE_WITH_A_TRAILING_BYTE = (
    b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x00"
)


async def ask(port: int) -> int:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"http://127.0.0.1:{port}/api/v1/status")).status_code


async def test_a_websocket_upgrade_with_a_trailing_byte_ends_its_own_connection_only(
    fake_node: Any, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    listener = bind_loopback(0)
    port = listener.getsockname()[1]
    await nursery.start(serve, create_app(fake_node, full=False), listener)
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(UPGRADE_WITH_A_TRAILING_BYTE)
    with trio.fail_after(5):
        while await stream.receive_some(4096):
            pass
    await stream.aclose()
    assert await ask(port) == 200
    assert "HTTP connection dropped" in caplog.text
    nursery.cancel_scope.cancel()


async def test_an_abandoned_event_stream_does_not_stop_the_server(
    fake_node: Any, nursery: trio.Nursery
) -> None:
    listener = bind_loopback(0)
    port = listener.getsockname()[1]
    await nursery.start(serve, create_app(fake_node, full=False), listener)
    fake_node.events.emit("chain.head", height=1)
    async with (
        httpx.AsyncClient() as client,
        client.stream("GET", f"http://127.0.0.1:{port}/api/v1/events", params={"after": 0}) as response,
    ):
        lines = response.aiter_lines()
        with trio.fail_after(5):
            while await anext(lines) != "event: chain.head":
                pass
    fake_node.events.emit("chain.head", height=2)
    assert await ask(port) == 200
    nursery.cancel_scope.cancel()


async def test_a_reader_that_stands_still_does_not_keep_the_server_from_ending(
    fake_node: Any, nursery: trio.Nursery
) -> None:
    listener, ended = bind_loopback(0), trio.Event()
    address = listener.getsockname()
    fake_node.events.emit("job.note", text="x" * (32 << 20))  # more than sockets hold

    async def serving(task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as own:
            await own.start(serve, create_app(fake_node, full=False), listener)
            task_status.started(own.cancel_scope)
        ended.set()

    scope = await nursery.start(serving)
    stream = await trio.open_tcp_stream(*address)
    await stream.send_all(b"GET /api/v1/events?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    received = b""
    while b"job.note" not in received:
        received += await stream.receive_some(4096)
    scope.cancel()
    with trio.move_on_after(20):
        await ended.wait()
    await stream.aclose()  # before the test fails, so that it can end
    assert ended.is_set()
    nursery.cancel_scope.cancel()


async def test_the_socket_is_its_owners_and_disappears(
    fake_node: Any, nursery: trio.Nursery, tmp_path: Path
) -> None:
    path = tmp_path / "api.sock"
    path.write_text("left over by a killed daemon")
    with bind_unix(path) as listener:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await nursery.start(partial(serve, create_app(fake_node, full=True)), listener)
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            assert (await client.post("/api/v1/shutdown")).status_code == 202
        nursery.cancel_scope.cancel()
    assert fake_node.shutdown.is_set()
    assert not path.exists()


def test_a_path_too_long_for_a_socket_is_reached_all_the_same(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    path = folder / "api.sock"
    assert len(os.fsencode(path)) > MAX_ADDRESS
    with bind_unix(path) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.listen()
        with reachable(path) as short:
            assert len(short) <= MAX_ADDRESS
            client.connect(short)
    assert not path.exists()


def test_a_port_in_use_is_named() -> None:
    with bind_loopback(0) as first:
        port = first.getsockname()[1]
        with pytest.raises(UserError, match=f"API port {port} is in use") as caught:
            bind_loopback(port)
    assert "--api-port" in caught.value.fix
