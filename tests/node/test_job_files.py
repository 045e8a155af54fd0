"""The data of jobs over the real data layer: three hosts on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from p2pml.errors import UserError
from p2pml.home import Home
from p2pml.net.gossip import Gossip
from p2pml.net.host import Host
from p2pml.net.presence import Facts, Presence, Timing
from p2pml.node.data_service import DataService
from p2pml.node.events import Events
from p2pml.node.job_files import JobFiles

pytestmark = pytest.mark.slow


@dataclass
class Place:
    """A node's data layer."""

    host: Host
    data: DataService
    files: JobFiles


@asynccontextmanager
async def places(root: Path, count: int) -> AsyncIterator[list[Place]]:
    async with trio.open_nursery() as nursery:
        result: list[Place] = []
        for index in range(count):
            first = result[0].host.addrs() if result else []
            host = Host(bytes([70 + index]) * 32, bootstrap=first)
            gossip = Gossip(host, bytes(32))
            account = bytes([index]) * 32
            presence = Presence(
                host, gossip, lambda account=account: Facts(account), Timing(announce=1, look=0.1)
            )
            home = Home(root / f"home{index}")
            home.create()
            data = DataService(home, host, gossip, presence, Events())
            for service in (host, gossip, presence, data):
                await nursery.start(service.run)
            result.append(Place(host, data, JobFiles(data)))
        with trio.fail_after(20):
            while any(len(place.host.connected()) < count - 1 for place in result):  # noqa: ASYNC110
                await trio.sleep(0.05)
        yield result
        nursery.cancel_scope.cancel()


def write_shards(root: Path) -> list[tuple[str, Path]]:
    files = []
    for client in range(4):
        path = root / f"client-{client:04}.safetensors"
        path.write_bytes(bytes([client]) * (50_000 + client))
        files.append((path.name, path))
    return files


async def test_each_participant_gets_its_shards_only_and_they_vanish_after(tmp_path: Path) -> None:
    files = write_shards(tmp_path)
    async with places(tmp_path, 3) as (owner, one, two):
        metainfo = await owner.files.offer("0123", files)
        owner.files.allow(metainfo, [one.host.peer_id])
        owner.files.allow(metainfo, [two.host.peer_id])
        told: list[tuple[int, int]] = []
        sources = [owner.host.peer_id, two.host.peer_id]
        with trio.fail_after(30):
            paths = await one.files.fetch(
                metainfo, [2, 0], sources, lambda done, total: told.append((done, total))
            )
        assert [path.read_bytes() for path in paths] == [bytes([2]) * 50_002, bytes([0]) * 50_000]
        assert told[-1][1] == told[-1][0] > 0
        (info,) = one.data.list()
        assert [file.complete for file in info.files] == [True, False, True, False]
        with trio.fail_after(30):
            again = await one.files.fetch(metainfo, [3], sources, lambda done, total: None)
        assert again[0].read_bytes() == bytes([3]) * 50_003
        assert one.files.leftovers() == [metainfo]
        assert owner.files.leftovers() == []
        await one.files.forget(metainfo, delete=True)
        await one.files.forget(metainfo, delete=True)
        assert one.data.list() == []
        assert not paths[0].exists()
        await owner.files.forget(metainfo, delete=False)
        assert all(path.exists() for _, path in files)


async def test_a_stranger_can_make_nobody_delete_a_data_set(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    path.write_bytes(b"x" * 1000)
    async with places(tmp_path, 2) as (owner, victim):
        public = await victim.data.seed(path)
        own = await victim.files.offer("own", [("a", path)])
        for metainfo in (victim.data.metainfo(public.infohash).raw, own, b"rubbish"):
            with pytest.raises(UserError):
                await victim.files.fetch(metainfo, [0], [owner.host.peer_id], lambda done, total: None)
        assert len(victim.data.list()) == 2
        fresh = await owner.files.offer("job", write_shards(tmp_path))
        with pytest.raises(UserError, match="cannot be used"):
            await victim.files.fetch(fresh, [4], [owner.host.peer_id], lambda done, total: None)


async def test_data_by_path_by_name_and_by_infohash(tmp_path: Path) -> None:
    path = tmp_path / "digits.npz"
    path.write_bytes(b"z" * 70_000)
    async with places(tmp_path, 2) as (owner, other):
        infohash, place = await owner.files.dataset("digits.npz", tmp_path)
        assert place == path
        for key in ("digits.npz", infohash.hex()):
            with trio.fail_after(30):
                found, there = await other.files.dataset(key, tmp_path / "elsewhere")
            assert found == infohash
            assert there != path
            assert there.read_bytes() == path.read_bytes()
        with pytest.raises(UserError, match="there is no file"):
            await owner.files.dataset("./missing", tmp_path)


async def test_a_folder_of_readable_files_by_path_and_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "shapes"
    for name in ("round/1.png", "square/1.png"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(name.encode() * 100)
    (folder / "notes.md").write_bytes(b"about")
    async with places(tmp_path, 2) as (owner, other):
        infohash, place = await owner.files.dataset("shapes", tmp_path)
        assert place == folder
        with trio.fail_after(30):
            found, there = await other.files.dataset("shapes", tmp_path / "elsewhere")
        assert found == infohash
        files = sorted(path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file())
        assert files == ["round/1.png", "square/1.png"]  # nothing reads the notes, so nobody fetches them
        assert (there / "round/1.png").read_bytes() == (folder / "round/1.png").read_bytes()
        assert await other.files.local("shapes", tmp_path / "elsewhere") == there


async def test_participants_fetch_public_data_that_the_requester_does_not_hold(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name, size in (("a.csv", 300_000), ("b.csv", 50_000), ("README.md", 10)):
        (tmp_path / "set" / name).write_bytes(name[:1].encode() * size)
    async with places(tmp_path, 3) as (owner, requester, trainer):
        await owner.data.seed(tmp_path / "set")
        with trio.fail_after(60):
            infohash, metainfo = await requester.files.public("set")
            sources = [requester.host.peer_id]
            place = await trainer.files.fetch_public(metainfo, sources, lambda done, total: None)
        assert requester.data.list() == []
        assert sorted(path.name for path in place.iterdir()) == ["a.csv", "b.csv"]  # what training reads
        assert (place / "a.csv").read_bytes() == b"a" * 300_000
        [kept] = trainer.data.list()
        assert (kept.infohash, kept.private) == (infohash, False)
        assert trainer.files.leftovers() == []  # no job's: nobody deletes it afterwards
        own = await owner.files.public("set")  # who has it needs nobody
        assert own == (infohash, metainfo)


async def test_private_data_is_not_public(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    path.write_bytes(b"x" * 1000)
    async with places(tmp_path, 2) as (owner, other):
        metainfo = await owner.files.offer("own", [("a.npz", path)])
        for each in (owner, other):
            with pytest.raises(UserError, match="is private: the participants cannot fetch it"):
                await each.files.fetch_public(metainfo, [], lambda done, total: None)
        with pytest.raises(UserError, match="is private"):
            await owner.files.public("own-shards")
        with pytest.raises(UserError, match="cannot be used"):
            await other.files.fetch_public(b"rubbish", [], lambda done, total: None)
        assert other.data.list() == []
