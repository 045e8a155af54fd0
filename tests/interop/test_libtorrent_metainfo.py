"""Our .torrent files and libtorrent's: the same info-hashes, files and pieces, both ways."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import libtorrent
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from torrent.errors import MetainfoError
from torrent.hashing import PieceHasher, digest_piece
from torrent.metainfo import Metainfo, create, plan

CASES = settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
NAMES = ["a", "a.txt", "b", "B.d", "data.npz", "ü-umlaut", "日本", "with space", "z" * 100, "README"]
SIZES = st.sampled_from([0, 0, 1, 100, 16_383, 16_384, 16_385, 40_000, 65_536, 131_073]) | st.integers(
    0, 150_000
)
PLACES = st.tuples(st.sampled_from([(), ("sub",), ("sub", "deep er"), ("Z",)]), st.sampled_from(NAMES))


@dataclass(frozen=True)
class Case:
    """Files by path with their sizes, not all empty; ``alone``: a torrent of one file without a folder."""

    sizes: dict[tuple[str, ...], int]
    piece_length: int
    hybrid: bool
    alone: bool
    private: bool

    def content(self, path: tuple[str, ...]) -> bytes:
        unit = "/".join(path).encode() + b"\0"
        return (unit * (self.sizes[path] // len(unit) + 1))[: self.sizes[path]]

    @property
    def name(self) -> str:
        return next(iter(self.sizes))[0] if self.alone else "a torrent"

    def stream(self, parsed: Metainfo) -> bytes:
        return b"".join(bytes(f.length) if f.pad else self.content(f.path) for f in parsed.files)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    places = draw(st.lists(PLACES, min_size=1, max_size=7, unique=True))
    sizes = {(*folders, name): draw(SIZES) for folders, name in places}
    if not sum(sizes.values()):
        sizes[next(iter(sizes))] = 5
    alone = len(sizes) == 1 and draw(st.booleans())
    if alone:
        sizes = {path[-1:]: size for path, size in sizes.items()}
    piece_length = draw(st.sampled_from([16_384, 32_768, 65_536]))
    return Case(sizes, piece_length, draw(st.booleans()), alone, draw(st.booleans()))


def ours_of(case: Case, align: bool) -> Metainfo:
    paths = sorted(case.sizes) if case.hybrid else list(case.sizes)
    files = plan([(path, case.sizes[path]) for path in paths], case.piece_length, align=align or case.hybrid)
    stream = b"".join(bytes(f.length) if f.pad else case.content(f.path) for f in files)
    hasher = PieceHasher(case.piece_length)
    hasher.update(stream)
    v2 = None
    if case.hybrid:
        size = case.piece_length
        starts = range(0, len(stream), size)
        v2 = b"".join(digest_piece(files, size, at, stream[at : at + size]).v2 for at in starts)
    return create(
        case.name,
        files,
        case.piece_length,
        hasher.finish(),
        pieces_v2=v2,
        single_file=case.alone,
        private=case.private,
    )


def theirs_of(case: Case, flags: int) -> bytes:
    """libtorrent's own metainfo of the files, which it reads from disk."""
    storage = libtorrent.file_storage()
    with tempfile.TemporaryDirectory() as folder:
        for path, size in case.sizes.items():
            place = Path(folder, *(path if case.alone else (case.name, *path)))
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(case.content(path))
            storage.add_file(str(place.relative_to(folder)), size)
        maker = libtorrent.create_torrent(storage, case.piece_length, flags)
        maker.set_comment("made by libtorrent")
        maker.set_priv(case.private)
        maker.add_tracker("http://tracker.invalid/announce")
        libtorrent.set_piece_hashes(maker, folder)
        return bytes(libtorrent.bencode(maker.generate()))


def check_same(case: Case, ours: Metainfo) -> None:
    """libtorrent reads the file as we do: hashes, name, flags, files, pieces."""
    theirs = libtorrent.torrent_info(libtorrent.bdecode(ours.raw))
    hashes = theirs.info_hashes()
    assert bytes(hashes.v1.to_bytes()) == ours.info_hash
    assert hashes.has_v2() == case.hybrid == (ours.v2 is not None)
    storage = theirs.files()
    real = [
        n
        for n in range(storage.num_files())
        if not storage.file_flags(n) & libtorrent.file_storage.flag_pad_file
    ]
    if ours.v2 is not None:
        assert bytes(hashes.v2.to_bytes()) == ours.v2.info_hash
        roots = [bytes(storage.root(n).to_bytes()) for n in real]
        assert roots == [
            root or bytes(32) for f, root in zip(ours.files, ours.v2.roots, strict=True) if not f.pad
        ]
    assert theirs.name() == ours.name == case.name
    assert theirs.priv() == ours.private == case.private
    assert (theirs.num_pieces(), theirs.total_size()) == (ours.piece_count, ours.total_length)
    root_path = [] if case.alone else [case.name]
    # where an empty file "lies" is nobody's business: libtorrent counts it from the v2 tree
    seen = [
        (
            storage.file_path(n).split("/"),
            storage.file_size(n),
            storage.file_size(n) and storage.file_offset(n),
        )
        for n in real
    ]
    assert seen == [([*root_path, *f.path], f.length, f.length and f.offset) for f in ours.files if not f.pad]
    assert [bytes(theirs.hash_for_piece(n)) for n in range(ours.piece_count)] == [
        ours.piece_hash(n) for n in range(ours.piece_count)
    ]
    stream = case.stream(ours)
    for index in range(ours.piece_count):
        start = index * ours.piece_length
        assert ours.verify_piece(index, stream[start : start + ours.piece_length])


@pytest.mark.slow
@CASES
@given(cases(), st.booleans())
def test_libtorrent_reads_ours(case: Case, align: bool) -> None:
    check_same(case, ours_of(case, align))


@pytest.mark.slow
@CASES
@given(cases(), st.booleans())
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_we_read_libtorrents(case: Case, tail_padding: bool) -> None:
    maker = libtorrent.create_torrent
    v1_flags = maker.v1_only | (maker.canonical_files if tail_padding else 0)
    v2_flags = 0 if tail_padding else maker.canonical_files_no_tail_padding
    ours = Metainfo.parse(theirs_of(case, v2_flags if case.hybrid else v1_flags))
    check_same(case, ours)


@pytest.mark.slow
@CASES
@given(cases())
def test_of_the_same_files_both_make_the_same_hashes(case: Case) -> None:
    """Not only readable: from the same bytes come the same layout and so the same info-hashes."""
    theirs = Metainfo.parse(theirs_of(case, libtorrent.create_torrent.canonical_files_no_tail_padding))
    ours = ours_of(Case(case.sizes, case.piece_length, True, case.alone, case.private), True)
    assert ours.v2 is not None
    assert theirs.v2 is not None
    assert ours.files == theirs.files
    assert ours.v2.hashes == theirs.v2.hashes
    assert ours.v2.roots == theirs.v2.roots
    assert ours.info_hash == theirs.info_hash
    assert ours.v2.info_hash == theirs.v2.info_hash


def test_a_v2_only_torrent_is_refused_with_a_reason() -> None:
    case = Case({("a",): 20_000}, 16_384, True, True, False)
    with pytest.raises(MetainfoError, match="v2-only"):
        Metainfo.parse(theirs_of(case, libtorrent.create_torrent.v2_only))
