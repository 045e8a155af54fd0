"""Our .torrent files and libtorrent's: the same info-hash, the same files, both ways."""

from __future__ import annotations

import random
from pathlib import Path

import libtorrent
import pytest

from torrent.errors import MetainfoError
from torrent.hashing import PieceHasher
from torrent.metainfo import Metainfo, create, plan

CASES = 50


def random_files(rng: random.Random) -> list[tuple[tuple[str, ...], bytes]]:
    count = rng.choice([1, 1, 2, 3, 7])
    names = rng.sample(
        ["a", "b.txt", "data.npz", "ü-umlaut", "日本", "with space", "z" * 100, "x.y.z", "README"], count
    )
    return [
        (
            (*rng.choice([(), ("sub",), ("sub", "deeper")]), name),
            rng.randbytes(rng.choice([1, 100, 16_384, 40_000])),
        )
        for name in names
    ]


def info_hash(info: libtorrent.torrent_info) -> bytes:
    return bytes(info.info_hashes().v1.to_bytes())


@pytest.mark.parametrize("seed", range(CASES))
def test_libtorrent_opens_ours(seed: int) -> None:
    rng = random.Random(seed)
    files = random_files(rng)
    piece_length = rng.choice([16_384, 32_768, 65_536])
    alone = len(files) == 1 and rng.random() < 0.5
    if alone:
        files = [(files[0][0][-1:], files[0][1])]
    placed = plan([(path, len(data)) for path, data in files], piece_length, align=rng.random() < 0.7)
    hasher, contents = PieceHasher(piece_length), iter(data for _, data in files)
    for file in placed:
        hasher.pad(file.length) if file.pad else hasher.update(next(contents))
    name = placed[0].path[0] if alone else f"torrent {seed}"
    private = rng.random() < 0.3
    ours = create(name, placed, piece_length, hasher.finish(), single_file=alone, private=private)

    theirs = libtorrent.torrent_info(libtorrent.bdecode(ours.raw))
    assert info_hash(theirs) == ours.info_hash
    assert theirs.name() == ours.name
    assert theirs.num_pieces() == ours.piece_count
    assert theirs.total_size() == ours.total_length
    assert theirs.priv() == private
    storage = theirs.files()
    seen = [
        (storage.file_path(n).split("/"), storage.file_size(n), storage.file_offset(n))
        for n in range(storage.num_files())
        if not storage.file_flags(n) & libtorrent.file_storage.flag_pad_file
    ]
    root = [] if alone else [name]
    assert seen == [([*root, *f.path], f.length, f.offset) for f in placed if not f.pad]
    for index in range(ours.piece_count):
        assert bytes(theirs.hash_for_piece(index)) == ours.piece_hash(index)


@pytest.mark.parametrize("seed", range(CASES))
def test_we_read_libtorrents(seed: int, tmp_path: Path) -> None:
    rng = random.Random(1000 + seed)
    storage = libtorrent.file_storage()
    files = random_files(rng)
    alone = len(files) == 1
    for path, data in files:
        place = tmp_path.joinpath(*([path[-1]] if alone else ["root", *path]))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        storage.add_file(str(place.relative_to(tmp_path)), len(data))
    flags = rng.choice([libtorrent.create_torrent.v1_only, 0, libtorrent.create_torrent.canonical_files])
    maker = libtorrent.create_torrent(storage, rng.choice([16_384, 65_536]), flags)
    maker.set_comment("made by libtorrent")
    maker.set_priv(rng.random() < 0.3)
    maker.add_tracker("http://tracker.invalid/announce")
    libtorrent.set_piece_hashes(maker, str(tmp_path))
    raw = libtorrent.bencode(maker.generate())

    ours = Metainfo.parse(raw)
    theirs = libtorrent.torrent_info(libtorrent.bdecode(raw))
    assert ours.info_hash == info_hash(theirs)
    assert ours.name == theirs.name()
    assert (ours.piece_count, ours.total_length) == (theirs.num_pieces(), theirs.total_size())
    assert ours.private == theirs.priv()
    contents = {path[-1:] if alone else path: data for path, data in files}
    stream = b"".join(bytes(f.length) if f.pad else contents[f.path] for f in ours.files)
    for index in range(ours.piece_count):
        start = index * ours.piece_length
        assert ours.verify_piece(index, stream[start : start + ours.piece_length])


def test_a_v2_only_torrent_is_refused_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 20_000)
    storage = libtorrent.file_storage()
    storage.add_file("a", 20_000)
    maker = libtorrent.create_torrent(storage, 16_384, libtorrent.create_torrent.v2_only)
    libtorrent.set_piece_hashes(maker, str(tmp_path))
    with pytest.raises(MetainfoError, match="v2-only"):
        Metainfo.parse(libtorrent.bencode(maker.generate()))
