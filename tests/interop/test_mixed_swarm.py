"""One swarm of libtorrent and two p2pml nodes, which also are libp2p peers; a tracker introduces them all."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio

from p2pml.errors import UserError
from tests.interop.clients import Tracker, add, libtorrent_up, same_files, tracker_up
from tests.node.data_nodes import Node, nodes_up, until

pytestmark = pytest.mark.slow

FILES = {"a": 3_000_000, "b": 5_000_001}
SIZE = sum(FILES.values())


def make(folder: Path, seed: int = 7) -> Path:
    folder.mkdir(parents=True)
    for name, size in FILES.items():
        (folder / name).write_bytes(random.Random(f"{name} {seed}").randbytes(size))
    return folder


def links_of(node: Node, name: str = "set") -> set[str]:
    return {link.peer for link in node.data.info(name).links}


async def test_a_tracker_introduces_libtorrent_and_nodes_that_are_libp2p_peers_too(tmp_path: Path) -> None:
    folder = make(tmp_path / "set")
    with tracker_up() as tracker, libtorrent_up() as theirs:
        async with nodes_up(tmp_path, 2, plain=True) as (seeder, leecher):
            seeded = await seeder.data.seed(folder, trackers=[tracker.url])
            await until(lambda: tracker.events(seeder.port) == ["started"], "the seeder announces")
            handle = add(theirs, seeded.torrent_file.read_bytes(), tmp_path / "theirs")
            info = await leecher.data.fetch("set", timeout=60)
            assert sum(info.received.values()) >= SIZE
            await until(lambda: handle.status().is_seeding, "libtorrent has everything", 60)
            assert same_files(folder, info.folder)
            assert same_files(folder, tmp_path / "theirs" / "set")
            await until(lambda: "completed" in tracker.events(leecher.port), "the leecher is done")
            # They were told of each other's TCP port as well, and kept to one link, until both were seeds.
            assert {seeder.id, f"tcp:127.0.0.1:{seeder.port}"} & info.received.keys() <= {seeder.id}
            for node, other in ((seeder, leecher), (leecher, seeder)):
                twins = {f"tcp:127.0.0.1:{other.port}", f"tcp:127.0.0.1:{node.port}"}
                assert links_of(node).isdisjoint(twins)
        assert tracker.events(leecher.port) == ["started", "completed", "stopped"]
        assert tracker.events(seeder.port) == ["started", "stopped"]
        assert {int(query["left"]) for query in tracker.queries if query["port"] == b"%d" % seeder.port} == {
            0
        }


async def test_a_node_fetches_from_libtorrent_that_only_the_tracker_knows_and_feeds_it_on(
    tmp_path: Path,
) -> None:
    folder = make(tmp_path / "theirs" / "set")
    with tracker_up() as tracker, libtorrent_up() as theirs:
        async with nodes_up(tmp_path, 2, plain=True) as (first, second):
            raw = await made_by(first, folder, tracker)
            handle = add(theirs, raw, tmp_path / "theirs")
            await until(lambda: handle.status().is_seeding and tracker.told, "libtorrent seeds", 60)
            await first.data.add(raw)
            session = first.data._sessions.of("set")
            await until(lambda: session.complete or bool(links_of(first)), "it has links")
            assert session.holding().sources == ()  # nobody else can make use of these names
            info = await first.data.wait("set", timeout=60)
            assert {peer.rpartition(":")[0] for peer in info.received if peer.count(":") > 1} <= {
                "tcp:127.0.0.1"
            }
            assert all(peer.startswith("tcp:127.0.0.1") for peer in info.received)
            theirs.pause()
            again = await second.data.fetch("set", timeout=60)
            assert again.received[first.id] > 0
            assert same_files(folder, again.folder)


async def made_by(node: Node, folder: Path, tracker: Tracker) -> bytes:
    """A .torrent file that nobody seeds any more."""
    info = await node.data.seed(folder, trackers=[tracker.url])
    raw = info.torrent_file.read_bytes()
    await until(lambda: tracker.events(node.port) == ["started"], "it announces")
    await node.data.remove("set")
    await until(lambda: tracker.events(node.port) == ["started", "stopped"], "it says goodbye")
    tracker.told.clear()
    return raw


async def test_a_private_or_paused_dataset_is_neither_served_nor_announced(tmp_path: Path) -> None:
    folder = make(tmp_path / "set")
    other = make(tmp_path / "other", 8)
    with tracker_up() as tracker:
        async with nodes_up(tmp_path, 1, plain=True) as (node,):
            private = await node.data.seed(folder, private=True, trackers=[tracker.url])
            paused = await node.data.seed(other, trackers=[tracker.url])
            await until(lambda: len(tracker.told) == 1, "the public one is announced")
            await node.data.pause("other")
            await until(lambda: len(tracker.told) == 2, "and said goodbye for")
            assert [event for _, _, event in tracker.told] == ["started", "stopped"]
            answers = []
            for info in (private, paused):
                answers.append(await ask(node.port, info.infohash))
            answers.append(await ask(node.port, bytes(20)))
            assert answers == [b"", b"", b""]
            await node.data.resume("other")
            assert (await ask(node.port, paused.infohash))[:1] == b"\x13"
            with pytest.raises(UserError, match="private"):
                node.data.meet("set", ["tcp:127.0.0.1:9"])
            assert {info_hash for info_hash, _, _ in tracker.told} == {paused.infohash}


async def ask(port: int, info_hash: bytes) -> bytes:
    """What comes back for a handshake."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"\x13BitTorrent protocol" + bytes(8) + info_hash + b"-XX0000-" + bytes(12))
        try:
            with trio.fail_after(20):
                return await stream.receive_some()
        except trio.BrokenResourceError:
            return b""


async def test_what_a_person_names_is_checked_and_a_tracker_can_be_added_later(tmp_path: Path) -> None:
    folder = make(tmp_path / "set")
    with tracker_up() as tracker:
        async with nodes_up(tmp_path, 1, plain=True) as (node,):
            assert await node.data.clients_at(["127.0.0.1:7", "[::1]:8"]) == (
                "tcp:127.0.0.1:7",
                "tcp:[::1]:8",
            )
            for wrong in ("127.0.0.1", "127.0.0.1:0", "127.0.0.1:x", ":7", "127.0.0.1:70000"):
                with pytest.raises(UserError, match="not host:port"):
                    await node.data.clients_at([wrong])
            before = await node.data.seed(folder)
            after = await node.data.seed(folder, trackers=[tracker.url])
            assert before.infohash == after.infohash
            await until(lambda: tracker.events(node.port) == ["started"], "it announces")
            node.data.meet("set", ["tcp:127.0.0.1:7"])
        async with nodes_up(tmp_path, 1) as (node,):  # the same home, and no port now
            await until(lambda: bool(node.data.list()), "it is taken up again")
            assert node.data._sessions.of("set").store.state.addresses == ("tcp:127.0.0.1:7",)
            with pytest.raises(UserError, match="does not speak"):
                await node.data.clients_at(["127.0.0.1:7"])
        assert len(tracker.told) == 2  # started and stopped, by the one with a port
