"""Pieces on disk: what is verified stays, what is not never lands, a kill loses nothing that was noted."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from p2pml.errors import UserError
from p2pml.storage.disk_errors import FREE_RESERVE, DiskFull
from p2pml.storage.have_journal import HaveJournal
from p2pml.storage.piece_store import PieceStore
from p2pml.storage.seeding import Making, Seeded, listed, make_torrent, scan
from p2pml.storage.torrent_state import TorrentState
from tests.holes import need_holes, tells_holes
from torrent.hashing import PieceHasher
from torrent.metainfo import create, plan

PIECE = 16 * 1024


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def seeded_file(tmp_path: Path, size: int = 10 * PIECE + 77) -> tuple[Path, Seeded]:
    path = tmp_path / "user" / "data.bin"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(noise(size))
    return path, make_torrent(scan(path))


def seeded_files(tmp_path: Path, sizes: list[int]) -> tuple[list[bytes], Seeded]:
    contents, files = [], []
    for index, size in enumerate(sizes):
        path = tmp_path / f"shard-{index}"
        contents.append(noise(size, index))
        path.write_bytes(contents[-1])
        files.append((f"shards/{index}.bin", path))
    return contents, make_torrent(listed("job", files), Making(hybrid=False, private=True))


def piece_of(data: bytes, index: int) -> bytes:
    return data[index * PIECE : (index + 1) * PIECE]


def in_place(tmp_path: Path, seeded: Seeded) -> PieceStore:
    state = TorrentState(references=seeded.places, stamps=dict(seeded.stamps))
    have = range(seeded.metainfo.piece_count)
    return PieceStore.create(tmp_path / "in-place", seeded.metainfo, state, have)


def test_pieces_are_written_verified_and_found_again(tmp_path: Path) -> None:
    path, seeded = seeded_file(tmp_path)
    data = path.read_bytes()
    store = PieceStore.create(tmp_path / "store", seeded.metainfo, TorrentState())
    for index in (3, 0, 10):
        assert store.write(index, piece_of(data, index))
    assert store.have == {0, 3, 10}
    assert store.read(3, 100, 50) == data[3 * PIECE + 100 : 3 * PIECE + 150]
    assert not store.is_complete()
    store.close()
    again = PieceStore.open(tmp_path / "store")
    assert again.recover() == {0, 3, 10}
    for index in set(range(11)) - {0, 3, 10}:
        assert again.write(index, piece_of(data, index))
    assert again.is_complete()
    assert again.path_of(0).read_bytes() == data


def test_a_piece_with_the_wrong_hash_never_reaches_the_disk(tmp_path: Path) -> None:
    path, seeded = seeded_file(tmp_path)
    store = PieceStore.create(tmp_path / "store", seeded.metainfo, TorrentState())
    bad = bytearray(piece_of(path.read_bytes(), 2))
    bad[5] ^= 1
    assert not store.write(2, bytes(bad))
    assert store.have == frozenset()
    assert store.path_of(0).stat().st_blocks == 0


def test_seeding_in_place_copies_nothing_and_reads_the_users_file(tmp_path: Path) -> None:
    path, seeded = seeded_file(tmp_path)
    store = in_place(tmp_path, seeded)
    assert store.is_complete()
    assert store.path_of(0) == path
    assert store.read(10, 0, 77) == path.read_bytes()[-77:]
    assert sorted(item.name for item in store.folder.iterdir()) == ["have", "metainfo.torrent", "state.json"]


def test_a_file_that_changed_under_us_is_not_served(tmp_path: Path) -> None:
    path, seeded = seeded_file(tmp_path)
    store = in_place(tmp_path, seeded)
    data = bytearray(path.read_bytes())
    data[3 * PIECE] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))
    with pytest.raises(UserError, match="was changed") as caught:
        store.read(3, 0, 100)
    assert caught.value.fix
    store.close()
    again = PieceStore.open(store.folder)
    assert again.recover() == set(range(11)) - {3}
    assert again.read(4, 0, PIECE) == piece_of(bytes(data), 4)


def test_only_wanted_files_are_on_disk_and_others_can_be_wanted_later(tmp_path: Path) -> None:
    contents, seeded = seeded_files(tmp_path, [20_000, 30_000, 5_000])
    metainfo = seeded.metainfo
    real = [index for index, file in enumerate(metainfo.files) if not file.pad]
    middle = real[1]
    store = PieceStore.create(tmp_path / "store", metainfo, TorrentState(wanted=frozenset({middle})))
    origin = in_place(tmp_path, seeded)
    assert store.wanted_pieces() == set(metainfo.file_pieces(middle))
    for piece in store.wanted_pieces():
        assert store.write(piece, origin.read(piece, 0, metainfo.piece_size(piece)))
    assert store.is_complete()
    assert store.path_of(middle).read_bytes() == contents[1]
    on_disk = sorted(item.name for item in (store.folder / "content").rglob("*") if item.is_file())
    assert on_disk == ["1.bin"]
    store.set_wanted(None)
    assert not store.is_complete()
    for piece in range(metainfo.piece_count):
        assert store.write(piece, origin.read(piece, 0, metainfo.piece_size(piece)))
    assert [store.path_of(index).read_bytes() for index in real] == contents
    assert not any(".pad" in str(item) for item in store.folder.rglob("*"))


def test_bytes_of_an_unwanted_neighbour_are_kept_aside_and_move_in_when_wanted(tmp_path: Path) -> None:
    first, second = noise(PIECE + 100, 1), noise(PIECE, 2)
    hasher = PieceHasher(PIECE)
    hasher.update(first + second)
    files = plan([(("a",), len(first)), (("b",), len(second))], PIECE, align=False)
    metainfo = create("pair", files, PIECE, hasher.finish())
    stream = first + second
    store = PieceStore.create(tmp_path / "store", metainfo, TorrentState(wanted=frozenset({0})))
    for piece in (0, 1):
        assert store.write(piece, piece_of(stream, piece))
    assert store.path_of(0).read_bytes() == first
    assert not (store.folder / "content" / "pair" / "b").exists()
    assert store.read(1, 0, PIECE) == piece_of(stream, 1)
    store.set_wanted(frozenset({0, 1}))
    assert store.write(2, piece_of(stream, 2))
    assert store.path_of(1).read_bytes() == second
    assert not list((store.folder / "parts").iterdir())


def test_a_file_that_was_deleted_is_fetched_again(tmp_path: Path) -> None:
    path, seeded = seeded_file(tmp_path)
    store = PieceStore.create(tmp_path / "store", seeded.metainfo, TorrentState())
    for index in range(11):
        store.write(index, piece_of(path.read_bytes(), index))
    store.close()
    store.path_of(0).unlink()
    again = PieceStore.open(store.folder)
    assert again.recover() == frozenset()
    assert not again.is_complete()


def half_fetched(tmp_path: Path) -> tuple[PieceStore, bytes]:
    """A store with the first six of eleven pieces, and all the data; skips where holes are not told."""
    need_holes(tmp_path)
    path, seeded = seeded_file(tmp_path)
    store = PieceStore.create(tmp_path / "store", seeded.metainfo, TorrentState())
    data = path.read_bytes()
    assert all(store.write_many([(index, piece_of(data, index)) for index in range(6)]))
    return store, data


def spoil(path: Path, piece: int, *, when_ns: int | None = None) -> None:
    """Somebody writes into a file."""
    with path.open("r+b") as file:
        file.seek(piece * PIECE + 9)
        file.write(b"spoilt")
    if when_ns is not None:
        os.utime(path, ns=(when_ns, when_ns))


@pytest.mark.parametrize("when_ns", [None, 7_000_000_000])
def test_a_half_fetched_file_that_was_changed_is_hashed_anew_at_the_start(
    tmp_path: Path, when_ns: int | None
) -> None:
    store, data = half_fetched(tmp_path)
    store.close()
    spoil(store.path_of(0), 3, when_ns=when_ns)
    hashed: list[int] = []
    again = PieceStore.open(store.folder)
    assert again.recover(lambda done, total: hashed.append(total)) == {0, 1, 2, 4, 5}
    assert hashed[-1] == 6
    again.close()
    hashed.clear()
    once_more = PieceStore.open(store.folder)
    assert once_more.recover(lambda done, total: hashed.append(total)) == {0, 1, 2, 4, 5}
    assert hashed == [6 - 5], "only what holds data and is not good"
    for index in (3, *range(6, 11)):
        assert once_more.write(index, piece_of(data, index))
    assert once_more.is_complete()
    once_more.close()


def test_a_half_fetched_file_that_nobody_touched_is_not_hashed_at_the_start(tmp_path: Path) -> None:
    store, data = half_fetched(tmp_path)
    hashed: list[int] = []
    for index in (6, 7):  # also not after a start in between
        store.close()
        store = PieceStore.open(store.folder)
        assert len(store.recover(lambda done, total: hashed.append(total))) == index
        assert store.write(index, piece_of(data, index))
    assert hashed == []
    store.close()


def test_a_half_fetched_file_that_is_changed_meanwhile_loses_what_was_spoilt(tmp_path: Path) -> None:
    store, data = half_fetched(tmp_path)
    assert store.drop_changed([6]) == frozenset()
    spoil(store.path_of(0), 3)
    assert store.drop_changed([6]) == {3}
    assert store.have == {0, 1, 2, 4, 5}
    assert store.drop_changed([6]) == frozenset()
    assert store.write(6, piece_of(data, 6))
    store.close()
    again = PieceStore.open(store.folder)
    assert again.recover() == {0, 1, 2, 4, 5, 6}
    again.close()


def test_a_half_fetched_file_that_vanishes_meanwhile_is_fetched_again(tmp_path: Path) -> None:
    store, data = half_fetched(tmp_path)
    store.path_of(0).unlink()
    assert store.drop_changed([6]) == set(range(6))
    for index in range(11):
        assert store.drop_changed([index]) == frozenset()
        assert store.write(index, piece_of(data, index))
    assert store.path_of(0).read_bytes() == data
    store.close()


def test_recheck_finds_a_flipped_bit(tmp_path: Path) -> None:
    path, seeded = seeded_file(tmp_path)
    store = PieceStore.create(tmp_path / "store", seeded.metainfo, TorrentState())
    for index in range(11):
        store.write(index, piece_of(path.read_bytes(), index))
    with open(store.path_of(0), "r+b") as file:
        file.seek(7 * PIECE + 9)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0x80]))
    steps: list[tuple[int, int]] = []
    assert store.recheck(lambda done, total: steps.append((done, total))) == set(range(11)) - {7}
    assert steps[-1] == (11, 11)


def test_a_planted_link_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    contents, seeded = seeded_files(tmp_path, [20_000, 30_000])
    victim = tmp_path / "victim"
    victim.mkdir()
    folder = tmp_path / "store"
    (folder / "content").mkdir(parents=True)
    (folder / "content" / "job").symlink_to(victim)
    with pytest.raises(UserError, match="cannot be stored"):
        PieceStore.create(folder, seeded.metainfo, TorrentState())
    assert not list(victim.iterdir())
    assert contents


def test_a_full_disk_is_said_before_anything_is_fetched(tmp_path: Path) -> None:
    _, seeded = seeded_file(tmp_path)
    with pytest.raises(DiskFull, match="must stay free") as caught:
        PieceStore.create(
            tmp_path / "store", seeded.metainfo, TorrentState(), free_bytes=lambda folder: FREE_RESERVE
        )
    assert "larger disk" in caught.value.fix
    assert not (tmp_path / "store" / "metainfo.torrent").exists()


def test_a_file_number_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    _, seeded = seeded_files(tmp_path, [20_000, 30_000])
    store = PieceStore.create(tmp_path / "store", seeded.metainfo, TorrentState())
    pad = next(index for index, file in enumerate(seeded.metainfo.files) if file.pad)
    for index in (-1, 99, pad):
        with pytest.raises(UserError, match="no file number"):
            store.set_wanted(frozenset({index}))
    assert store.state.wanted is None


@pytest.mark.parametrize("damage", [b"", b"\x00" * 5, b"\xff" * 16])
def test_a_torn_or_damaged_journal_never_claims_a_piece(tmp_path: Path, damage: bytes) -> None:
    journal = HaveJournal(tmp_path / "have", 100)
    journal.add([5, 7])
    journal.close()
    with open(tmp_path / "have", "ab") as file:
        file.write(damage)
    again = HaveJournal(tmp_path / "have", 100)
    assert again.have == {5, 7}
    again.add([9])
    again.close()
    assert HaveJournal(tmp_path / "have", 100).have == {5, 7, 9}


def test_a_journal_of_another_torrent_is_dropped(tmp_path: Path) -> None:
    journal = HaveJournal(tmp_path / "have", 100)
    journal.add([5])
    journal.close()
    assert HaveJournal(tmp_path / "have", 50).have == frozenset()


def test_a_damaged_folder_is_told_with_a_fix(tmp_path: Path) -> None:
    path, seeded = seeded_file(tmp_path)
    store = PieceStore.create(tmp_path / "store", seeded.metainfo, TorrentState())
    store.close()
    (store.folder / "metainfo.torrent").write_bytes(b"d4:infoi1ee")
    with pytest.raises(UserError, match="damaged") as caught:
        PieceStore.open(store.folder)
    assert "fetch the data set again" in caught.value.fix
    assert path.exists()


@pytest.mark.parametrize("case", ["missing", "empty", "name"])
def test_what_cannot_be_seeded_is_told(tmp_path: Path, case: str) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "good").write_bytes(b"x")
    path, name, words = {
        "missing": (tmp_path / "nothing-here", None, "there is no file or folder"),
        "empty": (tmp_path / "empty", None, "holds no data"),
        "name": (tmp_path / "good", "a\nb", "is no name"),
    }[case]
    with pytest.raises(UserError, match=words) as caught:
        make_torrent(scan(path, name))
    assert caught.value.fix


def test_a_folder_is_seeded_in_path_order_without_its_links(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "b").mkdir(parents=True)
    (folder / "b" / "two").write_bytes(noise(40_000, 2))
    (folder / "a").write_bytes(noise(1_000, 1))
    (folder / "link").symlink_to("/etc/hostname")
    metainfo = make_torrent(scan(folder)).metainfo
    assert [file.path for file in metainfo.files if not file.pad] == [("a",), ("b", "two")]
    assert metainfo.name == "set"
    assert all(file.offset % metainfo.piece_length == 0 for file in metainfo.files if not file.pad)


def test_what_no_torrent_can_hold_is_told_before_the_hashing(tmp_path: Path) -> None:
    for name in ("README", "readme"):
        (tmp_path / name).write_bytes(b"x")
    hashed: list[int] = []
    with pytest.raises(UserError, match="two files at 'readme'") as caught:
        make_torrent(scan(tmp_path, "set"), progress=lambda done, total: hashed.append(done))
    assert "rename" in caught.value.fix
    assert hashed == []


def test_a_file_that_changes_while_it_is_hashed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(noise(100_000))
    source = scan(path)

    def touch(done: int, total: int) -> None:
        os.utime(path, ns=(7, 7))

    with pytest.raises(UserError, match="changed while it was hashed"):
        make_torrent(source, progress=touch)


_WRITER = """
import sys
from pathlib import Path
from p2pml.storage.piece_store import PieceStore
store = PieceStore.open(Path(sys.argv[1]))
store.recover()
data = Path(sys.argv[2]).read_bytes()
size = store.metainfo.piece_length
for index in range(store.metainfo.piece_count):
    if index not in store.have:
        assert store.write(index, data[index * size:(index + 1) * size])
        print(index, flush=True)
print("done", flush=True)
"""


@pytest.mark.slow
def test_a_kill_loses_nothing_that_was_reported(tmp_path: Path) -> None:
    """Kill the writer at random moments, mostly in a write: each piece that it reported is there, right, and
    written once, and no more than the one in flight is hashed (where holes tell what that is).
    """
    path, seeded = seeded_file(tmp_path, 400 * PIECE)
    store = PieceStore.create(tmp_path / "store", seeded.metainfo, TorrentState())
    store.close()
    chance = random.Random(7)
    reported: list[int] = []
    hashed: list[int] = []
    kills, told = 0, tells_holes(tmp_path)
    for _ in range(30):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(store.folder), str(path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        first = writer.stdout.readline()
        time.sleep(chance.uniform(0, 0.05))
        writer.send_signal(signal.SIGKILL)
        lines = [first, *writer.stdout.readlines()]
        writer.wait()
        writer.stdout.close()
        kills += 1
        reported += [int(line) for line in lines if line.strip().isdigit()]
        if "done\n" in lines:
            break
        survivor = PieceStore.open(store.folder)
        assert set(reported) <= survivor.recover(lambda done, total: hashed.append(total))
        assert hashed in ([], [1]) or not told
        hashed.clear()
        assert set(reported) <= survivor.recheck()
        survivor.close()
    assert kills >= 2
    assert len(reported) == len(set(reported))
