"""Peers whose process is killed or stopped: the attacker connects through one that does nothing else.

What the kernel then does to the connection is what happens to a real peer's.
"""

# ruff: noqa: ASYNC110  (a test polls what has no event)
from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tests.net.hostile.arena import SINK, Arena
from tests.net.hostile.attacker import WITHIN_S, Attacker, Muxed, data
from tests.net.hostile.cases import hostile
from tests.net.hostile.honest import BULK

RELAY = """
import select, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
near = listener.accept()[0]
far = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
while True:
    for one in select.select([near, far], [], [])[0]:
        received = one.recv(65536)
        if not received:
            sys.exit()
        (far if one is near else near).sendall(received)
"""


@asynccontextmanager
async def _through_a_process(attacker: Attacker) -> AsyncIterator[tuple[trio.Process, Muxed]]:
    command = [sys.executable, "-S", "-c", RELAY, str(attacker.port)]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        port = b""
        while not port.endswith(b"\n"):
            port += await process.stdout.receive_some()
        yield process, await attacker.muxed(int(port))
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
        await process.stdout.aclose()


async def _gone(arena: Arena, attacker: Attacker) -> None:
    with trio.fail_after(WITHIN_S):
        while arena.victim.is_connected(attacker.peer_id):
            await trio.sleep(0.02)


@hostile()
async def killed_in_the_middle_of_a_frame(arena: Arena, attacker: Attacker) -> None:
    async with _through_a_process(attacker) as (process, muxed):
        await muxed.open(1, SINK)
        await muxed.answers()
        await muxed.send(data(1, bytes(20_000))[:10_000])
        with trio.fail_after(WITHIN_S):
            while arena.strict and not arena.muxer(attacker).connection._reader._missing:
                await trio.sleep(0.01)
        process.kill()
        await _gone(arena, attacker)


@hostile()
async def killed_while_it_is_sent_to(arena: Arena, attacker: Attacker) -> None:
    async with _through_a_process(attacker) as (process, muxed):
        await _asks_for_much(muxed)
        process.kill()
        await _gone(arena, attacker)


@hostile()
async def stopped_while_it_is_sent_to(arena: Arena, attacker: Attacker) -> None:
    """Nothing ends by itself now; the host's own cut must get through."""
    async with _through_a_process(attacker) as (process, muxed):
        await _asks_for_much(muxed)
        process.send_signal(signal.SIGSTOP)
        await muxed.link.aclose()
        await arena.transfer()
        assert arena.victim.is_connected(attacker.peer_id)
        await arena.victim.disconnect(attacker.peer_id)
        await _gone(arena, attacker)


async def _asks_for_much(muxed: Muxed) -> None:
    """Ask for more than the way to us holds, until the way is so full that nothing more can be asked for."""
    body = bytes(50_000)
    with trio.move_on_after(0.5):
        for stream in range(1, 61, 2):
            await muxed.open(stream, BULK, (4 * len(body)).to_bytes(4, "big"))
            for _ in range(4):
                await muxed.send(data(stream, body))
