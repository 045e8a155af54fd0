"""Files that are seeded in place are never deleted, wherever they lie: here, in the home's own `pieces/`."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from p2pml.node.data_api import DataApi
from p2pml.storage.seeding import Making, make_torrent, scan
from tests.node.data_nodes import Node, nodes_up, noise

pytestmark = pytest.mark.slow

DATA = noise(100_000)


async def _kept(node: Node, path: Path) -> Path:
    """The file that a fetched and removed dataset left in the home."""
    made = await trio.to_thread.run_sync(lambda: make_torrent(scan(path), Making()))
    info = await node.data.add(made.metainfo.raw)
    copy = info.files[0].location
    copy.write_bytes(DATA)
    await node.data.remove(info.infohash)
    assert copy.is_file()
    return copy


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "set"
    path.write_bytes(DATA)
    return path


async def test_what_a_removed_dataset_left_is_ones_own_once_it_is_seeded(tmp_path: Path, path: Path) -> None:
    async with nodes_up(tmp_path, 1) as (node,):
        copy = await _kept(node, path)
        seeded = await node.data.seed(copy)
        assert seeded.in_place
        assert seeded.torrent_file.parent in copy.parents
        removed = await DataApi(node.data).remove("set", with_data=True)
        assert removed.kept == str(copy.parent)
        assert copy.read_bytes() == DATA


async def test_it_stays_when_it_is_seeded_again_with_trackers(tmp_path: Path, path: Path) -> None:
    async with nodes_up(tmp_path, 1) as (node,):
        copy = await _kept(node, path)
        await node.data.seed(copy)
        info = await node.data.seed(copy, trackers=["http://127.0.0.1:9/announce"])
        assert (info.complete, info.problem) == (True, "")
        assert copy.read_bytes() == DATA


async def test_a_file_put_where_it_was_being_fetched_to_stays_when_it_is_seeded(
    tmp_path: Path, path: Path
) -> None:
    async with nodes_up(tmp_path, 1) as (node,):
        made = await trio.to_thread.run_sync(lambda: make_torrent(scan(path), Making()))
        copy = (await node.data.add(made.metainfo.raw)).files[0].location
        copy.write_bytes(DATA)
        assert (await node.data.seed(copy)).complete
        assert copy.read_bytes() == DATA


async def test_what_another_dataset_is_seeded_from_stays(tmp_path: Path, path: Path) -> None:
    async with nodes_up(tmp_path, 2) as (giver, node):
        await giver.data.seed(path)
        await node.data.fetch("set", timeout=20)
        copy = node.data.path_of("set")
        await node.data.seed(copy, name="other")
        removed = await DataApi(node.data).remove("set", with_data=True)
        assert removed.kept == str(copy.parent)
        assert copy.read_bytes() == DATA
        assert [(info.name, info.complete, info.problem) for info in node.data.list()] == [
            ("other", True, "")
        ]
        await node.data.remove("other", delete_files=True)
        assert copy.read_bytes() == DATA
