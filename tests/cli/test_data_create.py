"""`p2pml data create`: .torrent files without a daemon."""

from __future__ import annotations

import json
import random
from pathlib import Path

import libtorrent
import pytest

from p2pml.cli.app import run
from torrent.metainfo import Metainfo


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    (folder / "sub").mkdir(parents=True)
    rng = random.Random(1)
    (folder / "a").write_bytes(rng.randbytes(70_000))
    (folder / "sub" / "b").write_bytes(rng.randbytes(5))
    (folder / "empty").write_bytes(b"")
    return folder


def create(*arguments: str | Path) -> int:
    return run(["data", "create", *map(str, arguments)])


def test_a_hybrid_is_written_that_libtorrent_knows_by_both_hashes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert create(folder, "-o", tmp_path / "x.torrent", "--private", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    made = (tmp_path / "x.torrent").read_bytes()
    theirs = libtorrent.torrent_info(libtorrent.bdecode(made))
    assert str(theirs.info_hashes().v1) == told["infohash"]
    assert str(theirs.info_hashes().v2) == told["infohash_v2"]
    assert theirs.priv()
    assert (told["name"], told["files"], told["size"]) == ("set", 3, 70_005)
    assert told["pieces"] == theirs.num_pieces() == 6


def test_v1_with_a_piece_length_and_a_name(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "y.torrent"
    assert create(folder / "a", "-o", target, "--v1", "--piece-length", "64k", "--name", "other") == 0
    made = Metainfo.parse(target.read_bytes())
    assert (made.v2, made.name, made.piece_length, made.single_file) == (None, "other", 65_536, True)


def test_by_default_it_is_named_after_the_data_and_nothing_is_overwritten(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert create(folder) == 0
    first = Path("set.torrent").read_bytes()
    assert Metainfo.parse(first).name == "set"
    assert create(folder, "--v1") == 1
    assert "exists already" in capsys.readouterr().err
    assert Path("set.torrent").read_bytes() == first


@pytest.mark.parametrize("length", ["1k", "15k", "1g", "100000", "x", "", "-16k", "16kk", "²k"])
def test_an_impossible_piece_length_is_a_usage_error(folder: Path, tmp_path: Path, length: str) -> None:
    assert create(folder, "-o", tmp_path / "z.torrent", f"--piece-length={length}") == 2
    assert not (tmp_path / "z.torrent").exists()


def test_what_cannot_become_a_torrent_is_told_with_a_fix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clash = tmp_path / "clash"
    clash.mkdir()
    for name in ("README", "readme"):
        (clash / name).write_bytes(b"x")
    many = tmp_path / "many"
    many.write_bytes(b"")
    with open(many, "r+b") as file:
        file.truncate((1 << 21) * 16_384 + 1)  # sparse, and refused before it is read
    cases = {
        tmp_path / "nothing": "there is no file or folder",
        clash: "two files at 'readme'",
    }
    for path, words in cases.items():
        assert create(path, "-o", tmp_path / "out.torrent") == 1
        told = capsys.readouterr().err
        assert words in told
        assert "fix: " in told
    assert create(many, "-o", tmp_path / "no" / "out.torrent", "--piece-length", "16k") == 1
    assert "pieces, more than" in capsys.readouterr().err
    (tmp_path / "one").write_bytes(b"x")
    assert create(tmp_path / "one", "-o", tmp_path / "no" / "out.torrent") == 1
    assert "cannot be written" in capsys.readouterr().err


def test_trackers_stand_in_the_file_and_change_no_info_hash(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    urls = ["http://one.example/announce", "https://two.example:8443/announce"]
    with_them, without = tmp_path / "with.torrent", tmp_path / "without.torrent"
    named = [part for url in urls for part in ("--tracker", url)]
    assert create(folder, "-o", with_them, *named) == create(folder, "-o", without) == 0
    theirs = libtorrent.torrent_info(libtorrent.bdecode(with_them.read_bytes()))
    assert [(each.url, each.tier) for each in theirs.trackers()] == [(urls[0], 0), (urls[1], 1)]
    assert Metainfo.parse(with_them.read_bytes()).hex == Metainfo.parse(without.read_bytes()).hex
    capsys.readouterr()
    assert create(folder, "-o", tmp_path / "no.torrent", "--tracker", "udp://one.example:1") == 1
    assert "no HTTP tracker" in capsys.readouterr().err
    assert not (tmp_path / "no.torrent").exists()
