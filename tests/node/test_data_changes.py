"""Datasets paused, checked, removed and looked into, between real hosts on loopback."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
import trio

from p2pml.errors import UserError
from p2pml.storage.disk_errors import DiskFull
from p2pml.storage.piece_store import PieceStore
from p2pml.storage.seeding import Making, make_torrent, scan
from p2pml.storage.torrent_state import TorrentState
from tests.node.data_nodes import nodes_up, noise, until
from torrent import bencode
from torrent.metainfo import Metainfo

pytestmark = pytest.mark.slow


def folder_of(tmp_path: Path) -> Path:
    """Three files in two folders."""
    folder = tmp_path / "set"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_bytes(noise(200_000, 1))
    (folder / "empty").write_bytes(b"")
    (folder / "sub" / "b").write_bytes(noise(30_000, 2))
    return folder


async def test_a_folder_travels_as_a_hybrid_torrent(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    async with nodes_up(tmp_path, 2) as (seeder, leecher):
        seeded = await seeder.data.seed(folder)
        assert len(seeded.infohash_v2) == 32
        info = await leecher.data.fetch("set", timeout=20)
        assert [file.path for file in info.files] == ["a", "empty", "sub/b"]
        assert {path.relative_to(info.folder) for path in info.folder.rglob("*") if path.is_file()} == {
            path.relative_to(folder) for path in folder.rglob("*") if path.is_file()
        }
        for file in info.files:
            assert (folder / file.path).read_bytes() == file.location.read_bytes()
        assert info.piece_map == "#" * info.pieces


async def test_a_torrent_that_contradicts_itself_stops_and_bans_nobody(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.write_bytes(noise(100_000))
    honest = make_torrent(scan(path)).metainfo
    other = tmp_path / "other"
    other.write_bytes(noise(100_000, 2))
    table = bencode.decode(make_torrent(scan(other, "set")).metainfo.raw)
    assert isinstance(table, dict)
    assert isinstance(table[b"info"], dict)
    table[b"info"][b"pieces"] = honest.hashes  # v1 of the one, v2 of the other
    lie = Metainfo.parse(bencode.encode(table))
    async with nodes_up(tmp_path, 2) as (seeder, leecher):
        state = TorrentState(references={0: path})
        await seeder.data._sessions.install(lie, state, range(lie.piece_count))
        await leecher.data.add(lie.raw, peers=[seeder.id])
        with pytest.raises(UserError, match=r"is a lie.*contradict each other") as caught:
            await leecher.data.wait("set", timeout=20)
        assert "another .torrent" in caught.value.fix
        info = leecher.data.info("set")
        assert info.have == 0
        assert [link.peer for link in info.links] == [seeder.id], "who sent it is not to blame"


async def test_paused_it_neither_gives_nor_takes_until_resumed(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.write_bytes(noise(400_000))
    async with nodes_up(tmp_path, 2) as (seeder, leecher):
        await seeder.data.seed(path)
        assert (await seeder.data.pause("set")).paused
        with pytest.raises(UserError, match="none of the 1 connected peers knows"):
            await leecher.data.fetch("set", timeout=2, search=1)
        raw = seeder.data.metainfo("set").raw
        await leecher.data.add(raw, peers=[seeder.id])
        info = await leecher.data.pause("set")
        assert (info.missing, info.copies, info.eta_s) == (info.pieces, 0.0, None)
        with pytest.raises(UserError, match="set is paused") as caught:
            await leecher.data.fetch("set", timeout=2)
        assert "data resume set" in caught.value.fix
        await seeder.data.resume("set")
        assert leecher.data.info("set").have == 0
        await leecher.data.resume("set")
        assert (await leecher.data.fetch("set", timeout=20)).received == {seeder.id: 400_000}
        before = seeder.data.info("set").sent
        assert (await seeder.data.pause("set")).sent == before
        assert seeder.data.info("set").links == ()


async def test_a_pause_outlives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.write_bytes(noise(50_000))
    async with nodes_up(tmp_path, 1) as (node,):
        await node.data.seed(path)
        await node.data.pause("set")
    async with nodes_up(tmp_path, 1) as (node,):
        assert node.data.info("set").paused
        assert node.data._sessions.of("set")._pump is None
        await node.data.resume("set")
        await until(lambda: node.data._sessions.of("set")._pump is not None, "it runs again")


async def test_a_recheck_names_what_rotted_and_fetches_it_again(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.write_bytes(noise(400_000))
    async with nodes_up(tmp_path, 2) as (seeder, leecher):
        await seeder.data.seed(path)
        info = await leecher.data.fetch("set", timeout=20)
        copy = leecher.data.path_of("set")
        stamp = copy.stat().st_mtime_ns
        rotten = bytearray(copy.read_bytes())
        for piece in (2, 9):
            rotten[piece * 16_384 + 5] ^= 1
        copy.write_bytes(rotten)
        os.utime(copy, ns=(stamp, stamp))  # as a failing disk would: nothing but the bytes changes
        assert await leecher.data.verify("set") == {2, 9}
        events = [event for event in leecher.events.since(0) if event.kind == "data.verify"]
        assert events[-1].data["done"] == events[-1].data["total"] == info.pieces
        assert (await leecher.data.fetch("set", timeout=20)).complete
        assert copy.read_bytes() == path.read_bytes()
        assert await leecher.data.verify("set") == frozenset()


async def test_ones_own_damaged_file_is_told_and_serves_again_once_it_is_right(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.write_bytes(noise(100_000))
    async with nodes_up(tmp_path, 2) as (seeder, leecher):
        await seeder.data.seed(path)
        path.write_bytes(b"oops" + noise(100_000)[4:])
        assert await seeder.data.verify("set") == {0}
        info = seeder.data.info("set")
        assert "gone or were changed: 6 of 7 pieces are left" in info.problem
        assert info.piece_map == ".######"
        assert await seeder.data.verify("set") == {0}, "it is as damaged at the second look"
        path.write_bytes(noise(100_000))
        assert await seeder.data.verify("set") == frozenset()
        assert not seeder.data.info("set").problem
        assert (await leecher.data.fetch("set", timeout=20)).complete


async def test_ones_own_file_that_was_damaged_while_the_node_was_down_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.write_bytes(noise(100_000))
    async with nodes_up(tmp_path, 1) as (node,):
        await node.data.seed(path)
    path.write_bytes(noise(50_000) + b"oops" + noise(100_000)[50_004:])
    async with nodes_up(tmp_path, 1) as (node,):
        await until(lambda: node.data.info("set").have == 6, "the damage is noticed at the start")
        assert await node.data.verify("set") == {3}


async def test_removed_its_data_stays_unless_it_is_to_go_too(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.write_bytes(noise(100_000))
    async with nodes_up(tmp_path, 2) as (seeder, leecher):
        await seeder.data.seed(path)
        await leecher.data.fetch("set", timeout=20)
        copy = leecher.data.path_of("set")
        await leecher.data.remove("set")
        assert leecher.data.list() == []
        assert copy.read_bytes() == path.read_bytes()
        info = await leecher.data.fetch("set", timeout=20)
        assert info.complete
        assert info.received == {}, "what was kept is found again, not fetched"
        await leecher.data.remove("set", delete_files=True)
        assert not copy.exists()
        await seeder.data.remove("set", delete_files=True)
        assert path.exists(), "a user's own file is never touched"


async def test_the_members_of_a_tar_are_listed_where_they_lie(tmp_path: Path) -> None:
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(5):
            part = tmp_path / f"part{number}"
            part.write_bytes(noise(40_000, number))
            tar.add(part, f"dir/part{number}")
    async with nodes_up(tmp_path, 2) as (seeder, leecher):
        await seeder.data.seed(path)
        await leecher.data.fetch("set.tar", timeout=20)
        (listing,) = await leecher.data.tars("set.tar", 3)
        assert [member.name for member in listing.members] == ["dir/part0", "dir/part1", "dir/part2"]
        assert listing.more
        (listing,) = await leecher.data.tars("set.tar", 5)
        assert not listing.more
        data = leecher.data.path_of("set.tar").read_bytes()
        for number, member in enumerate(listing.members):
            assert data[member.offset : member.offset + member.size] == noise(40_000, number)
        path.write_bytes(b"no tar any more" * 1000)
        (changed,) = await seeder.data.tars("set.tar", 5)
        assert (changed.members, "was changed" in changed.problem) == ([], True)


async def test_the_quota_counts_what_is_wanted_of_all(tmp_path: Path) -> None:
    def torrent(name: str, seed: int) -> bytes:
        folder = tmp_path / name
        folder.mkdir()
        for number in range(2):
            (folder / f"f{number}").write_bytes(noise(60_000, seed + number))
        return make_torrent(scan(folder), Making()).metainfo.raw

    async with nodes_up(tmp_path, 1, quota=150_000) as (node,):
        one, two = [await trio.to_thread.run_sync(torrent, name, seed) for name, seed in (("x", 1), ("y", 7))]
        await node.data.add(one)
        with pytest.raises(
            DiskFull, match="does not fit into the quota of 150000 bytes, 120000 are taken"
        ) as e:
            await node.data.add(two)
        assert "data_quota_mib" in e.value.fix
        assert [info.name for info in node.data.list()] == ["x"]
        with pytest.raises(DiskFull):
            await node.data.add(two, frozenset({0}))
        await node.data.set_wanted("x", frozenset({0}))
        await node.data.add(two, frozenset({0}))
        with pytest.raises(DiskFull):
            await node.data.set_wanted("y", None)


async def test_the_quota_counts_what_removed_datasets_left(tmp_path: Path) -> None:
    path, other = tmp_path / "kept.bin", tmp_path / "other.bin"
    path.write_bytes(noise(100_000, 1))
    other.write_bytes(noise(60_000, 2))
    torrent = make_torrent(scan(other), Making()).metainfo.raw
    async with nodes_up(tmp_path, 2, quota=150_000) as (seeder, node):
        await seeder.data.seed(path)
        info = await node.data.fetch("kept.bin", timeout=60)
        await node.data.remove("kept.bin")
        with pytest.raises(DiskFull, match=r"fit into the quota of 150000 bytes, 1\d{5} are taken"):
            await node.data.add(torrent)
        again = await node.data.fetch("kept.bin", timeout=60)  # its own files are not counted twice
        assert again.complete
        await node.data.remove(info.infohash, delete_files=True)
        await node.data.add(torrent)


@pytest.mark.parametrize("fetched", [False, True])
async def test_what_is_cancelled_while_it_is_stored_is_here_wholly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fetched: bool
) -> None:
    path, create = tmp_path / "set", PieceStore.create
    path.write_bytes(noise(100_000))
    metainfo = make_torrent(scan(path)).metainfo.raw
    scope = trio.CancelScope()

    def create_and_cancel(*arguments: Any) -> PieceStore:
        trio.from_thread.run_sync(scope.cancel)
        return create(*arguments)

    monkeypatch.setattr(PieceStore, "create", create_and_cancel)
    async with nodes_up(tmp_path, 1) as (node,):
        with scope:
            await (node.data.add(metainfo) if fetched else node.data.seed(path))
        assert scope.cancel_called
        (info,) = node.data.list()
        assert (info.complete, info.problem) == (not fetched, "")
        assert not node.data._sessions.of("set").stopped.is_set()
