"""Samples by content on a serving machine, and the secret that opens it."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from p2pml.errors import ExitCode, UserError
from p2pml.formats import FormatError
from p2pml.worker.contents import Contents
from p2pml.worker.token import make_token, read_token


def put(kept: Contents, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    assert kept.add(digest, 0, len(data), data) is not None
    return digest


def test_what_was_used_least_recently_goes_first(tmp_path: Path) -> None:
    kept = Contents(tmp_path, 250)
    first, second = put(kept, b"1" * 100), put(kept, b"2" * 100)
    os.utime(tmp_path / f"{first}.shard", (1, 1))
    os.utime(tmp_path / f"{second}.shard", (2, 2))
    assert kept.find(first) is not None
    third = put(kept, b"3" * 100)
    assert kept.find(second) is None
    assert kept.find(first) is not None
    assert kept.find(third) is not None
    with pytest.raises(FormatError, match="at most 250"):
        kept.add("ab" * 32, 0, 251, b"x")


def test_a_transfer_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    data = bytes(range(100))
    digest = hashlib.sha256(data).hexdigest()
    assert Contents(tmp_path, 1000).add(digest, 0, 100, data[:60]) is None
    again = Contents(tmp_path, 1000)
    assert (again.begun(digest), again.find(digest)) == (60, None)
    path = again.add(digest, 60, 100, data[60:])
    assert path is not None
    assert path.read_bytes() == data
    assert again.begun(digest) == 0


def test_what_is_whole_is_finished_by_a_part_without_data(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"all").hexdigest()
    (tmp_path / f"{digest}.part").write_bytes(b"all")
    path = Contents(tmp_path, 1000).add(digest, 3, 3, b"")
    assert path is not None
    assert path.read_bytes() == b"all"


@pytest.mark.parametrize(
    ("begun", "offset", "size", "data"),
    [
        (b"alx", 3, 3, b""),
        (b"al", 2, 3, b""),
        (b"all", 3, 2, b""),
        (b"al", 2, 5000, b"l"),
        (b"al", 2, 0, b""),
    ],
)
def test_what_is_refused_is_forgotten(
    tmp_path: Path, begun: bytes, offset: int, size: int, data: bytes
) -> None:
    kept, digest = Contents(tmp_path, 1000), hashlib.sha256(b"all").hexdigest()
    (tmp_path / f"{digest}.part").write_bytes(begun)
    with pytest.raises(FormatError):
        kept.add(digest, offset, size, data)
    assert kept.begun(digest) == 0
    assert kept.add(digest, 0, 3, b"all") is not None


def test_one_transfer_is_kept_at_a_time(tmp_path: Path) -> None:
    kept = Contents(tmp_path, 1000)
    kept.add("ab" * 32, 0, 100, b"x" * 50)
    kept.add("cd" * 32, 0, 100, b"y" * 40)
    assert (kept.begun("ab" * 32), kept.begun("cd" * 32)) == (0, 40)


def test_samples_are_on_disk_before_they_have_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, replace = os.fsync, Path.replace
    done: list[str] = []

    def synced(handle: int) -> None:
        done.append("sync")
        sync(handle)

    def named(path: Path, to: Path) -> Path:
        done.append("name")
        return replace(path, to)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", named)
    put(Contents(tmp_path, 1000), b"all")
    assert done == ["sync", "name"]


def test_a_token_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "token"
    make_token(path)
    token = read_token(path)
    assert len(token) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    make_token(path)
    assert read_token(path) == token


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        ("t" * 64, 0o644, "others can read"),
        ("t" * 31, 0o600, "at least 32"),
        ("t" * 40 + "\nmore", 0o600, "at least 32"),
        ("", 0o600, "at least 32"),
        (None, 0o600, "cannot be read"),
    ],
)
def test_a_token_that_is_none(tmp_path: Path, text: str | None, mode: int, words: str) -> None:
    path = tmp_path / "token"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    with pytest.raises(UserError, match=words) as caught:
        read_token(path)
    assert caught.value.code is ExitCode.BAD_CONFIG
