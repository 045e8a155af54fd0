"""A thousand connections come and go, ended in every way: memory, files and tasks are then as they were."""

# ruff: noqa: ASYNC110  (a test polls what has no event)
from __future__ import annotations

import gc
import os
import re
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from p2pml.net import addresses
from p2pml.net.host import Host
from p2pml.net.raw_host import alive

ECHO = "/test/echo/1.0.0"
WARM_UP = 100
MOST_OBJECTS = 10
"""A cycle; a connection that is kept has some hundreds. Trio keeps up to a thousand deadlines for a while."""
MOST_GROWTH = 16 << 20
"""Bytes, for what is outside Python's objects; the allocator's own swings take up to half of it in a process
that has run hundreds of tests before."""


async def clean(one: Host, other: Host) -> None:
    """Closed in good order: a go-away, then the end of the socket."""
    await _connection(one, other).muxed_conn.close()


async def cut(one: Host, other: Host) -> None:
    """The socket is closed without a word."""
    await one.disconnect(other.peer_id)


async def reset(one: Host, other: Host) -> None:
    """The socket is broken off as a kernel does when a process dies with unread data."""
    raw = _connection(one, other).muxed_conn.secured_conn
    while not isinstance(raw, trio.SocketStream):  # through the layers of either stack
        names = ("stream", "_raw", "conn", "read_writer", "read_write_closer")
        raw = next(getattr(raw, name) for name in names if hasattr(raw, name))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await one.disconnect(other.peer_id)


def _connection(one: Host, other: Host) -> Any:
    conns = one.raw.get_network().connections[other.raw.get_id()]
    return next(conn for conn in conns if alive([conn]))


ENDINGS: list[Callable[[Host, Host], Awaitable[None]]] = [clean, cut, reset]


async def echo(peer: str, message: object) -> object:
    return message


@pytest.mark.slow
@pytest.mark.parametrize(("transport", "cycles"), [("fast", 500), ("stock", 200)])  # the stock one is slow
async def test_connections_by_the_hundred_leave_nothing_behind(transport: str, cycles: int) -> None:
    async with (
        Host(b"\x51" * 32, transport=transport).running() as a,
        Host(b"\x52" * 32, transport=transport).running() as b,
    ):
        b.serve(ECHO, echo)
        a.serve(ECHO, echo)
        before = await _settled(a, b, None)
        for number in range(cycles):
            await _cycle(a, b, number)
            if number + 1 == WARM_UP:
                await _settled(a, b, before)
                objects, resident = len(gc.get_objects()), _resident()
        await _settled(a, b, before)
        gc.collect()
        assert len(gc.get_objects()) - objects < MOST_OBJECTS * (cycles - WARM_UP)
        assert _resident() - resident < MOST_GROWTH


async def _cycle(a: Host, b: Host, number: int) -> None:
    dialler, listener = (a, b) if number // 6 % 2 else (b, a)
    ender, other = (dialler, listener) if number // 3 % 2 else (listener, dialler)
    if number % 100:
        network, target = dialler.raw.get_network(), listener.raw.get_id()
        await network.dial_addr(addresses.multiaddr(listener.addrs()[0]), target)
    else:  # the same, behind the quarter of a second that the library leaves to a second address
        await dialler.connect(listener.addrs()[0])
    if number % 5:  # some are ended before anything was asked
        assert await dialler.request(listener.peer_id, ECHO, number) == number
    with trio.fail_after(10):
        while not ender.is_connected(other.peer_id):
            await trio.sleep(0.001)
        await ENDINGS[number % 3](ender, other)
        while a.connected() or b.connected():
            await trio.sleep(0.001)


async def _settled(a: Host, b: Host, before: dict[str, int] | None) -> dict[str, int]:
    """What the process holds once nothing of the connections is left; fails when it is more than before."""
    gc.collect()  # files of earlier tests that nobody closed are not to be counted before and gone after
    now = _holds(a, b)
    with trio.move_on_after(15):
        while any(now[name] > (before or now)[name] for name in now):
            await trio.sleep(0.02)
            now = _holds(a, b)
    more = {name: (was, now[name]) for name, was in (before or now).items() if now[name] > was}
    assert not more, "before, now"
    return now


def _holds(a: Host, b: Host) -> dict[str, int]:
    networks = [host.raw.get_network() for host in (a, b)]
    return {
        "tasks": trio.lowlevel.current_statistics().tasks_living,
        "files": len(os.listdir("/proc/self/fd")),
        "slots": sum(int(network._inbound_limiter.borrowed_tokens) for network in networks),
        "connections": sum(len(network.connections) for network in networks),
    }


def _resident() -> int:
    gc.collect()
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024
