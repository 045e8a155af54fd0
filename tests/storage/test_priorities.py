"""Priorities of files and byte ranges: what they make of the disk, and that `state.json` keeps them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2pml.errors import UserError
from p2pml.storage.piece_store import PieceStore
from p2pml.storage.torrent_files import Choice, choose, want_more
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


def chosen(metainfo: Metainfo, *choices: Choice, before: Priorities | None = None) -> list[int]:
    """The files' own priorities."""
    found = choose(metainfo, choices, before)
    assert found.ranges == ()
    return [found.of(index) for index in range(3)]


def test_patterns_choose_files(metainfo: Metainfo) -> None:
    assert chosen(metainfo, Choice("train/*", 7)) == [7, 7, 0]
    assert chosen(metainfo, Choice("*.bin", 1), Choice("*/b.bin", 6)) == [1, 6, 1]
    assert chosen(metainfo, Choice("test/*", 0)) == [4, 4, 0]
    before = Priorities({0: 7, 1: 5, 2: 0})
    assert chosen(metainfo, Choice("*a.*", 0), Choice("*c.*", 2), before=before) == [0, 5, 2]
    with pytest.raises(UserError, match="no file that 'TRAIN"):
        choose(metainfo, [Choice("*"), Choice("TRAIN/*")], None)


def test_byte_ranges_are_chosen_and_replaced(metainfo: Metainfo) -> None:
    first = choose(metainfo, [Choice("train/a.bin", 7, 10, 20), Choice("test/*", 5, PIECE)], None)
    assert [first.of(index) for index in range(3)] == [0, 0, 0]
    end = 2 * PIECE + PIECE // 2
    assert first.ranges == (ByteRange(0, 10, 20, 7), ByteRange(2, PIECE, end, 5))
    wider = choose(metainfo, [Choice("train/a.bin", 1, 5, 20), Choice("train/a.bin", 0, 8, 9)], first)
    assert wider.ranges == (ByteRange(2, PIECE, end, 5), ByteRange(0, 5, 20, 1), ByteRange(0, 8, 9, 0))
    whole = choose(metainfo, [Choice("train/a.bin")], wider)
    assert (whole.of(0), whole.ranges) == (4, (ByteRange(2, PIECE, end, 5),)), (
        "the whole file stands over them"
    )
    rest = choose(metainfo, [Choice("train/a.bin", 0, 0, PIECE)], None)
    assert (rest.of(0), rest.of(1)) == (4, 4), "all but what is named"
    for begin, end in ((0, 10**6), (5, 5), (6, 5), (10**6, None), (0, 0)):
        with pytest.raises(UserError, match=r"no bytes .* in test/c.bin, which has 40960"):
            choose(metainfo, [Choice("test/*", 4, begin, end)], None)


def test_whole_files_are_wanted_besides_what_is(metainfo: Metainfo) -> None:
    before = Priorities({0: 7, 1: 0, 2: 0}, ranges=(ByteRange(1, 0, 9, 1), ByteRange(2, 0, 9, 1)))
    more = want_more(metainfo, frozenset({1}), before)
    assert ([more.of(index) for index in range(3)], more.ranges) == ([7, 4, 0], (ByteRange(2, 0, 9, 1),))
    everything = want_more(metainfo, None, before)
    assert ([everything.of(index) for index in range(3)], everything.ranges) == ([7, 4, 4], ())
    with pytest.raises(UserError, match="no file number 3"):
        want_more(metainfo, frozenset({3}), before)


def test_room_is_asked_for_what_is_wanted_of_a_file(tmp_path: Path, metainfo: Metainfo) -> None:
    state = TorrentState()
    state.prioritize(metainfo, choose(metainfo, [Choice("train/b.bin", 4, PIECE, PIECE + 1)], None))
    assert state.priorities.wanted_bytes(metainfo) == PIECE
    store = PieceStore.create(tmp_path / "store", metainfo, state)
    assert store.missing_space() == PIECE
    (wanted,) = store.wanted_pieces()
    assert store.write(wanted, bytes(PIECE))
    assert (store.missing_space(), store.is_complete(), store.is_complete(1)) == (0, True, False)
    store.close()
