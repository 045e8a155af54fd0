"""A node that is killed while it fetches loses nothing that it had, and fetches nothing twice."""

from __future__ import annotations

import filecmp
import random
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from p2pml.config import Home
from p2pml.errors import UserError
from p2pml.net.gossip import Gossip
from p2pml.net.host import Host
from p2pml.net.presence import Facts, Presence
from p2pml.node.data_service import DataService
from p2pml.node.events import Events
from p2pml.storage.disk_errors import DiskFull

pytestmark = pytest.mark.slow

SIZE = 24_000_000
CHAIN_ID = b"\x08" * 32

_LEECHER = """
import sys
from pathlib import Path
import trio
from p2pml.config import Home
from p2pml.net.gossip import Gossip
from p2pml.net.host import Host
from p2pml.net.presence import Facts, Presence
from p2pml.node.data_service import DataService
from p2pml.node.events import Events

async def main(root, bootstrap):
    host = Host(b"L" * 32, bootstrap=[bootstrap])
    gossip = Gossip(host, bytes([8]) * 32)
    presence = Presence(host, gossip, lambda: Facts(bytes(32)))
    home = Home(Path(root))
    home.create()
    data = DataService(home, host, gossip, presence, Events())
    async with trio.open_nursery() as nursery:
        for service in (host, gossip, presence, data):
            await nursery.start(service.run)
        at_start = sum(info.have for info in data.list())
        info = await data.begin("set", search=30)
        print("start", at_start, flush=True)
        while not info.complete:
            await trio.sleep(0.01)
            info = data.info("set")
            print("have", info.have, flush=True)
        print("complete", data.path_of("set"), flush=True)
        nursery.cancel_scope.cancel()

trio.run(main, *sys.argv[1:])
"""


class Seeder:
    """A node in this process, with its data service."""

    def __init__(self, root: Path) -> None:
        self.host = Host(b"S" * 32)
        gossip = Gossip(self.host, CHAIN_ID)
        presence = Presence(self.host, gossip, lambda: Facts(bytes(32)))
        home = Home(root)
        home.create()
        self.data = DataService(home, self.host, gossip, presence, Events())
        self._services = (self.host, gossip, presence, self.data)

    async def start(self, nursery: trio.Nursery) -> None:
        for service in self._services:
            await nursery.start(service.run)


async def test_a_killed_fetch_goes_on_with_every_piece_that_it_had(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.write_bytes(random.Random(5).randbytes(SIZE))
    async with trio.open_nursery() as nursery:
        seeder = Seeder(tmp_path / "seeder")
        await seeder.start(nursery)
        info = await seeder.data.seed(path)
        reported, starts, killed = 0, [], 0
        for goal in (info.pieces // 4, info.pieces // 2, info.pieces + 1):
            lines = await _leech_until(tmp_path / "leecher", seeder.host.addrs()[0], goal)
            starts.append(_numbers(lines, "start")[0])
            assert starts[-1] >= reported, "a piece that had been reported was gone after the kill"
            reported = max(_numbers(lines, "have"), default=reported)
            killed += not any(line.startswith("complete") for line in lines)
        assert killed == 2
        assert starts[0] == 0 < starts[1] < starts[2]
        finished = next(line for line in lines if line.startswith("complete")).split(maxsplit=1)[1]
        assert filecmp.cmp(finished.strip(), path, shallow=False)
        sent = sum(seeder.data.info("set").sent.values())
        # What was in flight at a kill is sent again, at most the request queues; what was kept is not.
        assert SIZE <= sent < SIZE * 1.6
        nursery.cancel_scope.cancel()


async def test_a_full_disk_is_told_to_who_waits_and_the_fetch_goes_on_later(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.write_bytes(random.Random(6).randbytes(500_000))
    async with trio.open_nursery() as nursery:
        seeder = Seeder(tmp_path / "seeder")
        await seeder.start(nursery)
        await seeder.data.seed(path)
        host = Host(b"L" * 32, bootstrap=seeder.host.addrs()[:1])
        gossip = Gossip(host, CHAIN_ID)
        presence = Presence(host, gossip, lambda: Facts(bytes(32)))
        home = Home(tmp_path / "leecher")
        home.create()
        data = DataService(home, host, gossip, presence, Events())
        for service in (host, gossip, presence, data):
            await nursery.start(service.run)
        metainfo = seeder.data.metainfo("set").raw
        await data.add(metainfo)
        store = data._sessions.of("set").store
        real, store.write_many = store.write_many, _no_room
        await data.add(metainfo, peers=[seeder.host.peer_id])
        with pytest.raises(UserError, match="disk is full") as caught:
            await data.wait("set", timeout=20)
        assert "make room" in caught.value.fix
        assert data.info("set").problem
        # What was asked for before the disk filled up still comes in and fails; then nothing more does.
        pump = data._sessions.of("set")._pump
        while pump._disk.writing or any(peer.outstanding for peer in pump.stats().peers):  # noqa: ASYNC110
            await trio.sleep(0.02)
        store.write_many = real
        info = await data.fetch("set", timeout=20)
        assert info.complete
        assert not info.problem
        assert data.path_of("set").read_bytes() == path.read_bytes()
        nursery.cancel_scope.cancel()


def _no_room(pieces: object) -> list[bool]:
    raise DiskFull("the disk is full: set waits", "make room there")


async def _leech_until(home: Path, bootstrap: str, goal: int) -> list[str]:
    """Run a node until it has `goal` pieces or all; it is killed then. Returns what it said."""
    command = [sys.executable, "-c", _LEECHER, str(home), bootstrap]
    lines: list[str] = []
    async with trio.open_nursery() as nursery:
        start = partial(trio.run_process, command, stdout=subprocess.PIPE, check=False)
        process = await nursery.start(start)
        rest = b""
        with trio.fail_after(100):
            async for chunk in process.stdout:
                *whole, rest = (rest + chunk).split(b"\n")
                lines += [line.decode() for line in whole]
                if max(_numbers(lines[-5:], "have"), default=0) >= goal:
                    process.send_signal(signal.SIGKILL)
    return lines


def _numbers(lines: list[str], kind: str) -> list[int]:
    return [int(line.split()[1]) for line in lines if line.split()[:1] == [kind]]
