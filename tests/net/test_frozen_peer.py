"""A peer whose process is stopped: its connection stays up, but nothing may wait for it for ever."""

# ruff: noqa: ASYNC110, ASYNC220  (a test polls what has no event, and starts its peer at once)
from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import trio

from p2pml.net.errors import RemoteError, TimedOut
from p2pml.net.host import Host
from p2pml.net.keepalive import KeepAlive

ECHO, SINK = "/test/echo/1.0.0", "/test/sink/1.0.0"
CHILD = """
import sys, trio
from p2pml.net.host import Host

async def echo(peer, message):
    return message

async def sink(stream):
    while await stream.read_some():
        pass

async def main():
    async with Host(bytes([3]) * 32, transport=sys.argv[1]).running() as host:
        host.serve("/test/echo/1.0.0", echo)
        host.handle("/test/sink/1.0.0", sink)
        print(host.addrs()[0], flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)

trio.run(main)
"""


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["stock", "fast"])
async def test_a_stopped_process_is_timed_out_then_disconnected_and_blocked_writers_end(
    transport: str,
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, transport], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdin is not None
    ended: list[RemoteError] = []
    try:
        addr = (await trio.to_thread.run_sync(child.stdout.readline)).strip()
        keepalive = KeepAlive(interval=0.5, deadline=0.7)
        async with Host(b"\x04" * 32, keepalive=keepalive, transport=transport).running() as host:
            peer = await host.connect(addr)
            assert await host.request(peer, ECHO, "hello") == "hello"
            os.kill(child.pid, signal.SIGSTOP)

            async def writer() -> None:
                try:
                    stream = await host.open(peer, SINK, 20)
                    while True:
                        await stream.write(bytes(1 << 20))
                except RemoteError as error:
                    ended.append(error)

            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(writer)
                begin = trio.current_time()
                with pytest.raises(TimedOut):
                    await host.request(peer, ECHO, "are you there?", 0.3)
                assert trio.current_time() - begin < 5
                with trio.fail_after(20):
                    while host.connected() or len(ended) < 5:
                        await trio.sleep(0.05)
            os.kill(child.pid, signal.SIGCONT)
            with trio.fail_after(20):
                await host.connect(addr)
                assert await host.request(peer, ECHO, "again") == "again"
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()
