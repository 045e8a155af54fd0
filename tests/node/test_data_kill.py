"""A node that is killed while it fetches loses nothing that it had, and fetches nothing twice."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from p2pml.errors import UserError
from p2pml.home import Home
from p2pml.net.gossip import Gossip
from p2pml.net.host import Host
from p2pml.net.piece_disk import BATCH_BYTES
from p2pml.net.presence import Facts, Presence
from p2pml.node.data_service import DataService
from p2pml.node.events import Events
from p2pml.storage.disk_errors import DiskFull
from tests.holes import tells_holes
from tests.node.kill_leecher import CHAIN_ID, COMPLETE, FOUND, HERE, RECORD, STARTED

pytestmark = pytest.mark.slow

SIZE = 128 << 20
KILLS = 50


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


class Leecher:
    """Nodes in processes of their own, one after another, on one home folder (`kill_leecher`)."""

    def __init__(self, zygote: trio.Process, root: Path, bootstrap: str) -> None:
        self.root = root
        self._report = root.with_suffix(".report")
        self._zygote = zygote
        self._bootstrap = bootstrap
        self._lines = b""

    async def start(self) -> None:
        self._report.unlink(missing_ok=True)
        assert self._zygote.stdin is not None
        await self._zygote.stdin.send_all(f"{self.root} {self._bootstrap} {self._report}\n".encode())
        self._pid = int(await self._line())

    def said(self, kind: bytes) -> list[int]:
        """The numbers of what it reported of a kind since its start."""
        data = self._report.read_bytes() if self._report.exists() else b""
        whole = data[: len(data) - len(data) % RECORD.size]  # a record that is being written is not said yet
        return [number for what, number in RECORD.iter_unpack(whole) if what == kind]

    async def until_moment(self, rng: random.Random, missing: int) -> None:
        """Some while after its start, or some pieces and a little later."""
        goal = rng.randrange(missing // 3 + 1)
        seconds = rng.uniform(0, 0.5) if rng.random() < 0.2 else 60.0
        with trio.move_on_after(seconds):
            while len(self.said(HERE)) <= goal and not self.said(COMPLETE):  # noqa: ASYNC110 - another process
                await trio.sleep(0.003)
            await trio.sleep(rng.uniform(0, 0.03))

    async def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        assert await self._line() == b"ended"

    async def _line(self) -> bytes:
        assert self._zygote.stdout is not None
        while b"\n" not in self._lines:
            self._lines += await self._zygote.stdout.receive_some()
        line, self._lines = self._lines.split(b"\n", 1)
        return line


async def test_a_fetch_killed_at_fifty_moments_loses_and_repeats_nothing(tmp_path: Path) -> None:
    """What was reported is there and right after each kill, and the next start hashes what was in flight: one
    batch that was being written, of eight that the data set has.
    """
    path, rng = tmp_path / "set", random.Random(5)
    path.write_bytes(rng.randbytes(SIZE))
    async with trio.open_nursery() as nursery:
        seeder = Seeder(tmp_path / "seeder")
        await seeder.start(nursery)
        pieces = (await seeder.data.seed(path)).pieces
        piece_length = SIZE // pieces
        start = partial(
            trio.run_process,
            [sys.executable, "-m", "tests.node.kill_leecher"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        zygote = await nursery.start(start)
        kills, hashed, leechers = 0, [], 0
        while kills < KILLS:
            leechers += 1
            leecher = Leecher(zygote, tmp_path / f"leecher{leechers}", seeder.host.addrs()[0])
            reported: set[int] = set()
            while kills < KILLS and not leecher.said(COMPLETE):
                await leecher.start()
                await leecher.until_moment(rng, pieces - len(reported))
                await leecher.kill()
                for number in leecher.said(STARTED):
                    assert reported <= set(leecher.said(FOUND)), "a piece that had been reported was gone"
                    hashed.append(number)
                reported.update(leecher.said(FOUND), leecher.said(HERE))
                check_on_disk(leecher.root, path, reported, piece_length)
                kills += not leecher.said(COMPLETE)
            shutil.rmtree(leecher.root)
        if tells_holes(tmp_path):
            assert max(hashed) <= BATCH_BYTES // piece_length + 1, "more was hashed than was in flight"
        nursery.cancel_scope.cancel()


def check_on_disk(root: Path, original: Path, pieces: set[int], piece_length: int) -> None:
    """The bytes of these pieces are right."""
    if not pieces:
        return
    (copy,) = root.glob("pieces/*/content/set")
    with copy.open("rb") as one, original.open("rb") as other:
        for piece in sorted(pieces):
            one.seek(piece * piece_length)
            other.seek(piece * piece_length)
            assert one.read(piece_length) == other.read(piece_length), f"piece {piece} is wrong on disk"


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
