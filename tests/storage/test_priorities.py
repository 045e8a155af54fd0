"""Priorities of files and byte ranges: what they make of the disk, and that `state.json` keeps them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2pml.errors import UserError
from p2pml.storage.piece_store import PieceStore
from p2pml.storage.torrent_files import choose_files
from p2pml.storage.torrent_state import TorrentState
from torrent.hashing import PieceHasher
from torrent.metainfo import Metainfo, create, plan
from torrent.priorities import ByteRange, Priorities

PIECE = 16 * 1024


@pytest.fixture
def metainfo() -> Metainfo:
    """Three files of two pieces and a half each, unaligned: `train/a.bin`, `train/b.bin`, `test/c.bin`."""
    paths = [("train", "a.bin"), ("train", "b.bin"), ("test", "c.bin")]
    files = plan([(path, 2 * PIECE + PIECE // 2) for path in paths], PIECE, align=False)
    hasher = PieceHasher(PIECE)
    hasher.update(bytes(sum(file.length for file in files)))
    return create("set", files, PIECE, hasher.finish())


def test_a_choice_of_files_outlives_a_restart(tmp_path: Path, metainfo: Metainfo) -> None:
    store = PieceStore.create(tmp_path / "store", metainfo, TorrentState())
    chosen = Priorities({0: 7, 1: 0, 2: 1}, ranges=(ByteRange(1, 0, 100, 5),))
    store.set_priorities(chosen)
    table = chosen.table(metainfo)
    assert list(table) == [7, 7, 7, 0, 0, 1, 1, 1]
    store.close()
    again = PieceStore.open(store.folder)
    assert again.state.priorities.table(metainfo) == table
    assert again.wanted_pieces() == {0, 1, 2, 5, 6, 7}
    assert [again.state.priorities.of(index) for index in range(3)] == [7, 0, 1]
    again.set_wanted(frozenset({0, 1}))
    assert [again.state.priorities.of(index) for index in range(3)] == [7, 4, 0]
    again.close()


def test_a_file_of_which_nothing_is_wanted_is_not_on_disk(tmp_path: Path, metainfo: Metainfo) -> None:
    state = TorrentState()
    state.prioritize(metainfo, Priorities({1: 0}))
    store = PieceStore.create(tmp_path / "store", metainfo, state)
    content = store.folder / "content" / "set"
    assert sorted(path.name for path in content.rglob("*.bin")) == ["a.bin", "c.bin"]
    store.set_priorities(Priorities({1: 0}, ranges=(ByteRange(1, PIECE, PIECE + 1, 1),)))
    assert (content / "train" / "b.bin").exists()
    store.close()


def test_too_little_room_changes_nothing(tmp_path: Path, metainfo: Metainfo) -> None:
    free = [1 << 30]
    state = TorrentState(wanted=frozenset({0}), levels={0: 6})
    store = PieceStore.create(tmp_path / "store", metainfo, state, free_bytes=lambda folder: free[0])
    free[0] = 0
    with pytest.raises(UserError, match="must stay free"):
        store.set_priorities(Priorities())
    assert (store.state.wanted, store.state.levels) == ({0}, {0: 6})
    store.close()


def test_the_state_of_an_older_version_is_read() -> None:
    table = json.loads(TorrentState(wanted=frozenset({1})).to_json())
    del table["levels"], table["ranges"]
    assert TorrentState.from_json(json.dumps(table).encode()).priorities == Priorities({1: 4}, 0)


def test_patterns_choose_files(metainfo: Metainfo) -> None:
    assert choose_files(metainfo, [("train/*", 7)], None) == {0: 7, 1: 7, 2: 0}
    assert choose_files(metainfo, [("*.bin", 1), ("*/b.bin", 6)], None) == {0: 1, 1: 6, 2: 1}
    assert choose_files(metainfo, [("test/*", 0)], None) == {0: 4, 1: 4, 2: 0}
    assert choose_files(metainfo, [("*a.*", 0), ("*c.*", 2)], {0: 7, 1: 5, 2: 0}) == {0: 0, 1: 5, 2: 2}
    with pytest.raises(UserError, match="no file that 'TRAIN"):
        choose_files(metainfo, [("*", 4), ("TRAIN/*", 4)], None)
