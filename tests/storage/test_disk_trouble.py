"""Full, read-only and limited disks, real ones: a tmpfs in a mount namespace of its own. Nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from p2pml.storage.disk_errors import FREE_RESERVE, DiskFull
from p2pml.storage.have_journal import HaveJournal
from p2pml.storage.piece_store import PieceStore
from p2pml.storage.seeding import make_torrent, scan
from p2pml.storage.torrent_state import TorrentState

SIZE = 1 << 20

_PROLOGUE = """
import ctypes, json, os, resource, sys
from pathlib import Path
from p2pml.errors import UserError
from p2pml.storage.piece_store import PieceStore
from p2pml.storage.seeding import make_torrent, scan
from p2pml.storage.torrent_state import TorrentState

disk, source = Path(sys.argv[1]), Path(sys.argv[2])
libc = ctypes.CDLL(None, use_errno=True)

def mount(place, flags, options=""):
    place = str(place).encode()
    if libc.mount(place, place, b"tmpfs", flags, options.encode()):
        raise OSError(ctypes.get_errno(), "mount")

mount(disk, 0, "size=3m")
metainfo = make_torrent(scan(source)).metainfo
data, length = source.read_bytes(), metainfo.piece_length
roomy = lambda folder: 1 << 40  # so that the disk itself has to say no

def create():
    return PieceStore.create(disk / "set", metainfo, TorrentState(), free_bytes=roomy)

def write_all(store):
    for index in range(metainfo.piece_count):
        if index not in store.have:
            assert store.write(index, data[index * length:(index + 1) * length])

def trouble(function, *arguments):
    try:
        function(*arguments)
    except UserError as error:
        return [type(error).__name__, error.cause, error.fix]
    return []

def again(store):
    "What a restart finds."
    store.close()
    store = PieceStore.open(disk / "set", roomy)
    return store, len(store.recover())
"""

FULL = """
store = create()
filler = disk / "filler"
filler.write_bytes(bytes(5 * (1 << 19)))
told = trouble(write_all, store)
had = len(store.have)
store, kept = again(store)
told_again = trouble(write_all, store)
filler.unlink()
write_all(store)
store, complete = again(store)
right = store.path_of(0).read_bytes() == data
print(json.dumps([told, had, kept, told_again, complete, right]))
"""

READ_ONLY = """
MS_RDONLY, MS_REMOUNT, MS_BIND, MNT_DETACH = 1, 32, 4096, 2
store = create()
half = metainfo.piece_count // 2
for index in range(half):
    store.write(index, data[index * length:(index + 1) * length])
mount(disk / "set" / "content", MS_BIND)
mount(disk / "set" / "content", MS_BIND | MS_REMOUNT | MS_RDONLY)
told = [trouble(write_all, store)]
kept, readable = len(store.have) == half, store.read(1, 0, length) == data[length:2 * length]
libc.umount2(str(disk / "set" / "content").encode(), MNT_DETACH)
store.close()
mount(disk, MS_REMOUNT | MS_RDONLY)
told.append(trouble(PieceStore.open, disk / "set"))
told.append(trouble(PieceStore.create, disk / "other", metainfo, TorrentState()))
mount(disk, MS_REMOUNT)
store = PieceStore.open(disk / "set", roomy)
store.recover()
write_all(store)
store, complete = again(store)
print(json.dumps([told, kept, readable, complete]))
"""

LIMITED = """
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
told = trouble(create)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
left = (disk / "set" / "metainfo.torrent").exists()
store = create()
write_all(store)
store, complete = again(store)
print(json.dumps([told, left, complete]))
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(random.Random(3).randbytes(SIZE))
    return path


def on_a_small_disk(program: str, tmp_path: Path, source: Path) -> Any:
    """What the program prints, run with a disk of 3 MiB that goes when it ends."""
    isolate = ["unshare", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*isolate, "true"], capture_output=True).returncode:
        pytest.skip("FULL DISKS NOT CHECKED: this system lets no user make namespaces (unshare)")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [*isolate, sys.executable, "-c", _PROLOGUE + program, str(disk), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_full_disk_keeps_every_piece_and_goes_on_when_there_is_room(tmp_path: Path, source: Path) -> None:
    told, had, kept, told_again, complete, right = on_a_small_disk(FULL, tmp_path, source)
    assert told[0] == told_again[0] == "DiskFull"
    assert "is full: data waits, nothing is lost" in told[1]
    assert "make room" in told[2]
    assert 0 < had == kept < SIZE // 16_384
    assert complete == SIZE // 16_384
    assert right


@pytest.mark.slow
def test_a_read_only_disk_serves_what_it_has_and_says_what_it_cannot(tmp_path: Path, source: Path) -> None:
    told, kept, readable, complete = on_a_small_disk(READ_ONLY, tmp_path, source)
    assert len(told) == 3
    for error in told:
        assert "Read-only file system" in error[1]
        assert "writable" in error[2]
    assert kept
    assert readable
    assert complete == SIZE // 16_384


@pytest.mark.slow
def test_a_limit_on_file_sizes_is_named(tmp_path: Path, source: Path) -> None:
    told, left, complete = on_a_small_disk(LIMITED, tmp_path, source)
    assert "larger than this system lets one be" in told[1]
    assert "ulimit -f" in told[2]
    assert not left
    assert complete == SIZE // 16_384


def test_the_reserve_holds_while_others_fill_the_disk(tmp_path: Path, source: Path) -> None:
    metainfo, data = make_torrent(scan(source)).metainfo, source.read_bytes()
    free = [FREE_RESERVE + SIZE]
    store = PieceStore.create(tmp_path / "set", metainfo, TorrentState(), free_bytes=lambda _: free[0])
    length = metainfo.piece_length
    assert store.write(0, data[:length])
    free[0] = FREE_RESERVE + length - 1
    with pytest.raises(DiskFull, match="must stay free"):
        store.write(1, data[length : 2 * length])
    assert not store.write(2, bytes(length)), "a wrong piece is the sender's matter, full disk or not"
    free[0] += 1
    assert store.write(1, data[length : 2 * length])
    assert store.have == {0, 1}
    store.close()


def test_a_note_that_was_cut_by_a_full_disk_spoils_no_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = HaveJournal(tmp_path / "have", 10)
    journal.add([1])
    write = os.write

    def half(handle: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", full)
        return write(handle, bytes(data)[:3])

    def full(handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="No space"):
        journal.add([2])
    monkeypatch.setattr(os, "write", write)
    journal.add([3])
    journal.close()
    again = HaveJournal(tmp_path / "have", 10)
    assert again.have == {1, 3}
    again.close()
