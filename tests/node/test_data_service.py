"""Datasets between real hosts on loopback: seed, fetch from several sources, resume, refuse."""

from __future__ import annotations

import itertools
import shutil
import tarfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
import trio

from p2pml.errors import ExitCode, UserError
from p2pml.storage.seeding import make_torrent, scan
from tests.node.data_nodes import Node, nodes_up, noise, until
from torrent.metainfo import Metainfo

pytestmark = pytest.mark.slow


async def test_fetched_by_name_it_can_be_read_by_path_and_the_origin_is_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "digits.tar"
    with tarfile.open(path, "w") as tar:
        member = tmp_path / "x.bin"
        member.write_bytes(noise(300_000))
        tar.add(member, "x.bin")
    async with nodes_up(tmp_path, 2) as (seeder, leecher):
        seeded = await seeder.data.seed(path, name="digits")
        assert seeded.complete
        assert seeded.in_place
        assert seeded.torrent_file.read_bytes() == seeder.data.metainfo("digits").raw
        assert seeder.data.path_of("digits") == path
        info = await leecher.data.fetch("digits", timeout=20)
        assert info.complete
        assert info.infohash == seeded.infohash
        assert (info.missing, info.eta_s) == (0, 0.0)
        await until(lambda: leecher.data.info("digits").copies >= 1.0, "its own copy is counted")
        assert info.received == {seeder.id: path.stat().st_size}
        assert leecher.data.path_of("digits").read_bytes() == path.read_bytes()
        await until(lambda: seeder.data.info("digits").sent == {leecher.id: info.size}, "uploads are counted")
        assert {"data.search", "data.added", "data.complete"} <= leecher.kinds()
        assert {"data.hash", "data.added"} <= seeder.kinds()
        assert not (seeded.torrent_file.parent / "content").exists()


async def test_bytes_from_two_seeders_are_counted_for_each_and_a_reader_feeds_on(
    tmp_path: Path,
) -> None:
    path = tmp_path / "set"
    path.write_bytes(noise(6_000_000))
    copy = tmp_path / "copy" / "set"
    copy.parent.mkdir()
    shutil.copyfile(path, copy)
    async with nodes_up(tmp_path, 4) as (first, second, third, fourth):
        seeded = await first.data.seed(path)
        assert (await second.data.seed(copy)).infohash == seeded.infohash
        info = await third.data.fetch(seeded.infohash, timeout=20)
        assert set(info.received) == {first.id, second.id}
        assert all(count > 0 for count in info.received.values())
        assert sum(info.received.values()) == info.size == 6_000_000
        await first.data.remove("set")
        await second.data.remove("set", delete_files=True)
        assert path.exists()
        assert copy.exists()
        again = await fourth.data.fetch(seeded.hex, timeout=20)
        assert again.received == {third.id: 6_000_000}
        assert fourth.data.path_of("set").read_bytes() == path.read_bytes()


async def test_two_readers_at_once_exchange_what_they_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a seeder whose disk is so slow that they know of each other before it has given all to both."""
    path = tmp_path / "set"
    path.write_bytes(noise(12_000_000))
    async with nodes_up(tmp_path, 3) as (seeder, left, right):
        await seeder.data.seed(path)
        store = seeder.data._sessions.of("set").store
        at_once, met, reads = store.read_many, threading.Event(), itertools.count()

        def slowly(ranges: Iterable[tuple[int, int, int]]) -> list[bytes | UserError]:
            if next(reads) >= 4:
                met.wait(15)
            time.sleep(0.05)
            return at_once(ranges)

        monkeypatch.setattr(store, "read_many", slowly)
        results: dict[str, dict[str, int]] = {}

        async def fetch(node: Node) -> None:
            results[node.id] = (await node.data.fetch("set", timeout=30)).received

        def linked() -> bool:
            peers = [info.peers for node in (left, right) for info in node.data.list()]
            return peers == [2, 2]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch, left)
            nursery.start_soon(fetch, right)
            await until(linked, "the readers meet")
            met.set()
        assert right.id in results[left.id] or left.id in results[right.id]
        for node in (left, right):
            assert sum(results[node.id].values()) == 12_000_000
            assert node.data.path_of("set").read_bytes() == path.read_bytes()


async def test_a_job_torrent_reaches_only_the_allowed_and_only_the_wanted_file(tmp_path: Path) -> None:
    files = []
    for index in range(3):
        shard = tmp_path / f"shard{index}"
        shard.write_bytes(noise(50_000 + index, index))
        files.append((f"shard{index}.bin", shard))
    async with nodes_up(tmp_path, 4) as (requester, trainer, replica, stranger):
        allowed = [trainer.id, replica.id]
        job = await requester.data.seed_files("job", files, allowed)
        assert job.private
        raw = requester.data.metainfo("job").raw
        numbers = [file.index for file in job.files]
        wanted = frozenset({numbers[1]})
        await trainer.data.add(raw, wanted, [requester.id], allowed=[*allowed, requester.id])
        info = await trainer.data.wait("job", timeout=20)
        assert [file.complete for file in info.files] == [False, True, False]
        assert trainer.data.path_of("job", numbers[1]).read_bytes() == noise(50_001, 1)
        with pytest.raises(UserError, match="not complete"):
            trainer.data.path_of("job", numbers[0])
        stored = [path.name for path in (info.torrent_file.parent / "content").rglob("*") if path.is_file()]
        assert stored == ["shard1.bin"]
        # Another file later, and a second participant that gets a shard from the first one.
        await trainer.data.set_wanted("job", frozenset({numbers[1], numbers[2]}))
        await trainer.data.wait("job", timeout=20)
        await requester.data.remove("job")
        await replica.data.add(raw, wanted, [trainer.id], allowed=[*allowed, requester.id])
        assert set((await replica.data.wait("job", timeout=20)).received) == {trainer.id}
        # A stranger that got hold of the .torrent file gets nothing, and the job does not exist for it.
        await stranger.data.add(raw, None, [trainer.id, replica.id])
        with pytest.raises(UserError, match="nothing of job arrived") as caught:
            await stranger.data.wait("job", timeout=1.5)
        assert caught.value.code is ExitCode.NETWORK
        assert caught.value.fix
        assert stranger.data.info("job").have == 0
        await stranger.data.remove("job", delete_files=True)
        with pytest.raises(UserError, match="knows a data set"):
            await stranger.data.resolve("job", search=1.0)
        assert not stranger.data.announced()


async def test_a_new_name_on_the_allow_list_may_fetch(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(noise(40_000))
    async with nodes_up(tmp_path, 2) as (owner, friend):
        await owner.data.seed(path, private=True)
        with pytest.raises(UserError, match="knows a data set 'secret'"):
            await friend.data.fetch("secret", search=0.5)
        owner.data.allow("secret", [friend.id])
        info = await friend.data.fetch("secret", timeout=20)
        assert info.complete
        assert info.private
        # The .torrent file alone does as well, for who is allowed.
        await friend.data.remove("secret", delete_files=True)
        raw = owner.data.metainfo("secret").raw
        await friend.data.add(raw)
        assert (await friend.data.wait("secret", timeout=20)).received == {owner.id: 40_000}
        await friend.data.remove("secret", delete_files=True)
        owner.data.allow("secret", [])
        with pytest.raises(UserError, match="offers the private data set") as caught:
            await friend.data.add(raw)
        assert "peer id" in caught.value.fix


async def test_an_allow_list_has_peer_ids_only(tmp_path: Path) -> None:
    """Others would be dialled, and end the data set's swarm."""
    path = tmp_path / "secret"
    path.write_bytes(noise(40_000))
    async with nodes_up(tmp_path, 1) as (owner,):
        with pytest.raises(UserError, match="'bob' is not a peer id"):
            await owner.data.seed(path, allowed=["bob"])
        await owner.data.seed(path, private=True)
        with pytest.raises(UserError, match="'bob' is not a peer id"):
            owner.data.allow("secret", [owner.id, "bob"])
        assert not owner.data.info("secret").problem


async def test_a_source_with_corrupt_data_is_found_out_and_refused(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.write_bytes(noise(2_000_000))
    async with nodes_up(tmp_path, 3) as (honest, liar, leecher):
        seeded = await honest.data.seed(path)
        await liar.data.fetch("set", timeout=20)
        await honest.data.remove("set")
        # Its disk rots after the piece was noted, behind the stamps' back.
        session = liar.data._sessions.of("set")
        session.store.state.stamps.clear()
        held = liar.data.path_of("set")
        held.write_bytes(bytes(2_000_000))
        with pytest.raises(UserError, match="nothing of set arrived"):
            await leecher.data.fetch("set", timeout=3)
        assert leecher.data.info("set").have == 0
        assert liar.id not in leecher.data.info("set").received
        await honest.data.seed(path)
        info = await leecher.data.fetch("set", timeout=20)
        assert info.received == {honest.id: 2_000_000}
        assert leecher.data.path_of("set").read_bytes() == path.read_bytes()
        assert info.infohash == seeded.infohash


async def test_a_restart_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.write_bytes(noise(400_000))
    shard = tmp_path / "shard"
    shard.write_bytes(noise(30_000, 9))
    async with nodes_up(tmp_path, 2) as (seeder, leecher):
        await seeder.data.seed(path)
        await seeder.data.seed_files("job", [("a", shard)], [leecher.id])
        await leecher.data.fetch("set", timeout=20)
        received = leecher.data.info("set").received
    async with nodes_up(tmp_path, 2) as (seeder, leecher):
        assert [info.name for info in seeder.data.list()] == ["job", "set"]
        assert seeder.data.info("job").private
        info = leecher.data.info("set")
        assert info.complete
        assert info.received == received
        assert (await leecher.data.fetch("job", timeout=20)).complete


async def test_a_dataset_whose_file_is_gone_is_told_and_comes_back_with_it(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.write_bytes(noise(100_000))
    async with nodes_up(tmp_path, 2) as (seeder, leecher):
        await seeder.data.seed(path)
        raw = seeder.data.metainfo("set").raw
        away = path.rename(tmp_path / "away")
        await leecher.data.add(raw)
        await until(lambda: bool(seeder.data.info("set").problem), "the seeder notices")
        assert leecher.data.info("set").have == 0
        away.rename(path)
        await seeder.data.seed(path)
        assert (await leecher.data.fetch("set", timeout=25)).complete
        assert not seeder.data.info("set").problem


async def test_a_file_that_changed_while_the_node_was_down_is_told(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.write_bytes(noise(100_000))
    async with nodes_up(tmp_path, 1) as (node,):
        await node.data.seed(path)
    path.write_bytes(noise(100_000, 2))
    async with nodes_up(tmp_path, 1) as (node,):
        await until(lambda: bool(node.data.info("set").problem), "the change is noticed")
        info = node.data.info("set")
        assert "gone or were changed: 0 of 7 pieces" in info.problem
        assert not info.complete


async def test_a_session_that_died_is_started_anew_when_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.write_bytes(noise(100_000))
    async with nodes_up(tmp_path, 2) as (seeder, leecher):
        await seeder.data.seed(path)
        session = seeder.data._sessions.of("set")
        await until(lambda: session._pump is not None, "the swarm runs")
        session._pump._machine.receive = None  # a mistake in the machine
        with pytest.raises(UserError, match="nothing of set arrived"):
            await leecher.data.fetch("set", timeout=1.5)
        assert "stopped" in seeder.data.info("set").problem
        await seeder.data.begin("set")
        assert not seeder.data.info("set").problem
        assert (await leecher.data.fetch("set", timeout=25)).complete


async def test_one_who_begins_before_anybody_has_it_gets_it_when_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.write_bytes(noise(100_000))
    async with nodes_up(tmp_path, 2) as (seeder, leecher):
        raw = (await _torrent_of(path, tmp_path)).raw
        await leecher.data.add(raw)
        await trio.sleep(0.3)
        assert leecher.data.info("set").have == 0
        await seeder.data.seed(path)
        assert (await leecher.data.wait("set", timeout=20)).complete


async def test_a_name_of_two_different_datasets_is_not_guessed(tmp_path: Path) -> None:
    async with nodes_up(tmp_path, 3) as (first, second, asker):
        for number, node in enumerate((first, second)):
            path = tmp_path / str(number) / "set"
            path.parent.mkdir()
            path.write_bytes(noise(20_000, number))
            await node.data.seed(path)
        await until(lambda: len(asker.data.announced()) == 2, "both are announced")
        with pytest.raises(UserError, match="2 different data sets are called 'set'") as caught:
            await asker.data.fetch("set")
        assert "info-hash" in caught.value.fix
        infohash = first.data.info("set").infohash
        assert (await asker.data.fetch(infohash, timeout=20)).complete


async def test_what_a_user_can_do_wrong_is_told_with_a_fix(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.write_bytes(noise(20_000))
    async with nodes_up(tmp_path, 1) as (node,):
        await node.data.seed(path)
        wrong = {
            "there is no file": lambda: node.data.seed(tmp_path / "nothing"),
            "not a usable .torrent file": lambda: node.data.add(b"d4:infod6:lengthi-1eee"),
            "nobody to ask": lambda: node.data.fetch("unknown", search=0.1),
            "no file number 7": lambda: node.data.set_wanted("set", frozenset({7})),
            "no data set 'other' here": lambda: node.data.remove("other"),
        }
        for words, call in wrong.items():
            with pytest.raises(UserError, match=words) as caught:
                await call()
            assert caught.value.fix, words
        assert [info.name for info in node.data.list()] == ["set"]


async def test_a_changed_file_seeded_anew_replaces_the_old_dataset(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.write_bytes(noise(20_000))
    async with nodes_up(tmp_path, 1) as (node,):
        old = await node.data.seed(path)
        assert (await node.data.seed(path)).infohash == old.infohash
        path.write_bytes(noise(30_000))
        new = await node.data.seed(path)
        assert [info.infohash for info in node.data.list()] == [new.infohash]


async def _torrent_of(path: Path, tmp_path: Path) -> Metainfo:
    return (await trio.to_thread.run_sync(lambda: make_torrent(scan(path)))).metainfo
