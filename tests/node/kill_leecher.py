"""A program that forks leechers to be killed, with everything imported once: a start then costs no second.

Each line on stdin, `<home> <bootstrap address> <report>`, starts a node that fetches the data set `set`; its
pid is the answer, and `ended` once it is gone. What the node says of its pieces goes to its report, a record
at a time, so that a kill loses nothing that was said.
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import trio

from p2pml.home import Home
from p2pml.net.gossip import Gossip
from p2pml.net.host import Host
from p2pml.net.presence import Facts, Presence, Timing
from p2pml.node.data_service import DataService
from p2pml.node.events import Events

CHAIN_ID = b"\x08" * 32
RECORD = struct.Struct(">cI")
FOUND, STARTED, HERE, COMPLETE = b"f", b"s", b"p", b"c"
"""Of a record, what its number is: a piece that was found on disk; how many were hashed for that, once all
were told; a piece that is here; how many are here, which are all.
"""


async def leech(root: str, bootstrap: str, report: int) -> None:
    """Fetch until all is here; poll what the node shows its user."""

    def say(kind: bytes, number: int) -> None:
        os.write(report, RECORD.pack(kind, number))

    host = Host(b"L" * 32, bootstrap=[bootstrap])
    gossip = Gossip(host, CHAIN_ID, heartbeat=0.3)
    presence = Presence(host, gossip, lambda: Facts(bytes(32)), Timing(announce=1.0, look=0.1))
    home, events = Home(Path(root)), Events()
    home.create()
    data = DataService(home, host, gossip, presence, events)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_with, os.getppid())
        for service in (host, gossip, presence, data):
            await nursery.start(service.run)
        info = await data.begin("set", search=30)
        session = data._sessions.of("set")
        while session._pump is None:  # noqa: ASYNC110 - until what is on disk is recovered
            await trio.sleep(0.001)
        known = session.store.have
        for piece in known:
            say(FOUND, piece)
        hashed = [event.data["total"] for event in events.since(0) if event.kind == "data.recover"]
        say(STARTED, hashed[-1] if hashed else 0)
        while not info.complete:
            info, have = data.info("set"), session.store.have
            for piece in have - known:
                say(HERE, piece)
            known = have
            await trio.sleep(0.002)
        say(COMPLETE, info.have)
        await trio.sleep_forever()


async def end_with(parent: int) -> None:
    """When that process is gone, since a test that fails kills only that one."""
    while os.getppid() == parent:  # noqa: ASYNC110 - another process
        await trio.sleep(0.5)
    os._exit(1)


def main() -> None:
    for line in sys.stdin:
        root, bootstrap, path = line.split()
        report = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        pid = os.fork()
        if not pid:
            os.close(0)
            trio.run(leech, root, bootstrap, report)
            os._exit(0)
        os.close(report)
        print(pid, flush=True)
        os.waitpid(pid, 0)
        print("ended", flush=True)


if __name__ == "__main__":
    main()
