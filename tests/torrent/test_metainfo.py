"""Metainfo is untrusted: what is refused, what is kept, and where the info-hash comes from."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.torrent.metainfo_cases import DELETE, entry, hybrid_multi, multi, single
from torrent import bencode, merkle, metainfo
from torrent.errors import LocalError, MetainfoError, RemoteError
from torrent.hashing import PieceHasher, digest_piece, piece_hash
from torrent.metainfo import File, Metainfo, choose_piece_length, create, plan


def test_the_bases_of_the_malformed_cases_are_well_formed() -> None:
    assert Metainfo.parse(single()).single_file
    assert [file.path for file in Metainfo.parse(multi()).files] == [("a",), ("b",), ("c",)]
    assert Metainfo.parse(multi(files=[entry(attr=b"x")])).files == (File(("a",), 20_000, 0),)


def test_a_file_too_large_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metainfo, "MAX_METAINFO_BYTES", len(single()) - 1)
    with pytest.raises(MetainfoError, match="bytes, more than"):
        Metainfo.parse(single())


def test_info_hash_is_over_the_raw_bytes() -> None:
    """Keys that this version does not know stay part of the hash, and what is around ``info`` does not."""
    data = single(x_unknown=[1, {b"deep": b"value"}])
    start = data.index(b"d6:length")
    assert Metainfo.parse(data).info_hash == hashlib.sha1(data[start:-1]).digest()
    announced = b"d8:announce5:udp://" + data[1:]
    with pytest.raises(RemoteError):
        Metainfo.parse(announced)
    announced = b"d8:announce6:udp://" + data[1:]
    assert Metainfo.parse(announced).info_hash == Metainfo.parse(data).info_hash


def test_a_nested_info_is_not_the_info() -> None:
    inner = {b"info": {b"name": b"fake"}}
    data = single()
    outer = b"d1:a" + bencode.encode(inner) + data[1:]
    assert Metainfo.parse(outer).info_hash == Metainfo.parse(data).info_hash


def test_pad_files_may_repeat_and_symbolic_links_are_dropped() -> None:
    pad = entry(8_384, [b".pad", b"8384"], attr=b"p")
    link = entry(DELETE, [b"link"], attr=b"l") | {b"symlink path": [b"..", b"..", b"etc"]}
    files = [entry(8_000), pad, entry(8_000, [b"b"]), pad, link, entry(8_000, [b"c"])]
    parsed = Metainfo.parse(multi(files=files, pieces=bytes(60)))
    assert [(file.path[-1], file.pad, file.offset) for file in parsed.files] == [
        ("a", False, 0),
        ("8384", True, 8_000),
        ("b", False, 16_384),
        ("8384", True, 24_384),
        ("c", False, 32_768),
    ]
    assert parsed.content_length == 24_000


def test_a_symbolic_link_has_no_bytes_even_when_it_says_so() -> None:
    link = entry(5_000, [b"link"], attr=b"l")
    assert Metainfo.parse(multi(files=[link, entry()], pieces=bytes(40))).total_length == 20_000


def _content(*sizes: int) -> tuple[list[tuple[tuple[str, ...], int]], bytes]:
    rng = random.Random(sum(sizes))
    return [((f"f{n}",), size) for n, size in enumerate(sizes)], rng.randbytes(sum(sizes))


def _hybrid(*sizes: int, piece_length: int = 32_768) -> tuple[Metainfo, bytes]:
    """A hybrid of files of noise, and its stream."""
    named, noise = _content(*sizes)
    files = plan(named, piece_length)
    stream, at = b"", 0
    for file in files:
        stream += bytes(file.length) if file.pad else noise[at : at + file.length]
        at += 0 if file.pad else file.length
    digests = [
        digest_piece(files, piece_length, start, stream[start : start + piece_length])
        for start in range(0, len(stream), piece_length)
    ]
    v1, v2 = (b"".join(digest[half] for digest in digests) for half in (0, 1))
    return create("name", files, piece_length, v1, pieces_v2=v2), stream


def _piece(made: Metainfo, stream: bytes, index: int) -> bytearray:
    return bytearray(stream[index * made.piece_length : (index + 1) * made.piece_length])


@given(st.lists(st.integers(0, 140_000), min_size=1, max_size=5), st.sampled_from([16_384, 65_536]))
@settings(max_examples=30)
def test_a_hybrids_pieces_are_right_in_both_halves(sizes: list[int], piece_length: int) -> None:
    sizes[-1] += not sum(sizes)
    made, stream = _hybrid(*sizes, piece_length=piece_length)
    assert made.v2 is not None
    assert [root is None for root in made.v2.roots] == [file.pad or not file.length for file in made.files]
    for index in range(made.piece_count):
        piece = _piece(made, stream, index)
        assert made.verify_piece(index, piece)
        piece[index % len(piece)] ^= 1
        assert not made.verify_piece(index, piece)
        assert not made.verify_piece(index, piece[:-1])


def test_false_padding_is_the_senders_lie_and_not_the_torrents() -> None:
    """The v2 hash leaves padding out, so such a piece is right there and wrong in v1."""
    made, stream = _hybrid(40_000, 100)
    piece = _piece(made, stream, 1)
    piece[-1] = 1
    assert not made.verify_piece(1, piece)


@pytest.mark.parametrize("half", ["v1", "v2"])
def test_halves_that_contradict_each_other_convict_the_torrent(half: str) -> None:
    made, stream = _hybrid(40_000, 100)
    assert made.v2 is not None
    other = bytes(len(made.hashes))
    v2 = dataclasses.replace(made.v2, hashes=bytes(len(made.v2.hashes)))
    lying = dataclasses.replace(made, **({"hashes": other} if half == "v1" else {"v2": v2}))
    with pytest.raises(MetainfoError, match="contradict each other"):
        lying.verify_piece(1, _piece(made, stream, 1))


@pytest.mark.parametrize("size", [1, 16_384, 16_385, 32_768, 32_769, 100_000, 131_072, 131_073])
def test_piece_layers_lead_to_the_root_of_the_whole_file(size: int) -> None:
    """The root does not depend on the piece length: through layers or over all blocks at once."""
    data = random.Random(size).randbytes(size)
    whole = merkle.data_root(data, merkle.width(-(-size // 16_384)))
    for piece_length in (16_384, 32_768, 65_536):
        width = merkle.piece_width(size, piece_length)
        layer = [merkle.data_root(data[at : at + piece_length], width) for at in range(0, size, piece_length)]
        assert (layer[0] if len(layer) == 1 else merkle.file_root(b"".join(layer), piece_length)) == whole


def test_paths_of_a_hybrid_go_in_the_order_of_their_bytes() -> None:
    paths = [("b",), ("a", "z"), ("a.txt",), ("a", "é"), ("ü",), ("Z",)]
    expected = [("Z",), ("a", "z"), ("a", "é"), ("a.txt",), ("b",), ("ü",)]
    assert sorted(paths) == expected, "Python sorts text as UTF-8 sorts bytes"
    for order, fine in ((expected, True), (paths, False)):
        files = plan([(path, 5) for path in order], 16_384)
        hashes = 20 * len(order), 32 * len(order)
        if fine:
            create("n", files, 16_384, bytes(hashes[0]), pieces_v2=bytes(hashes[1]))
        else:
            with pytest.raises(LocalError, match="different files"):
                create("n", files, 16_384, bytes(hashes[0]), pieces_v2=bytes(hashes[1]))


@given(
    st.lists(st.integers(0, 70_000), min_size=1, max_size=8), st.sampled_from([16_384, 20_000]), st.booleans()
)
def test_what_create_makes_parse_reads(sizes: list[int], piece_length: int, align: bool) -> None:
    if not sum(sizes):
        sizes[0] = 1
    files = plan([((f"f{n}", "x"), size) for n, size in enumerate(sizes)], piece_length, align=align)
    hasher = PieceHasher(piece_length)
    for file in files:
        hasher.pad(file.length)
    made = create("name", files, piece_length, hasher.finish(), private=align, comment="hello")
    assert made.files == files
    assert made == Metainfo.parse(made.raw)
    assert made.private == align
    assert [file.length for file in files if not file.pad] == sizes
    if align:
        assert all(file.offset % piece_length == 0 for file in files if not file.pad and file.length)
    for index in range(made.piece_count):
        assert made.verify_piece(index, bytes(made.piece_size(index)))
        segments = list(made.segments(index))
        assert sum(segment.length for segment in segments) == made.piece_size(index)
        at = index * piece_length
        for segment in segments:
            assert made.files[segment.file].offset + segment.offset == at
            assert segment.offset + segment.length <= made.files[segment.file].length
            at += segment.length
    covered = {index for file in range(len(files)) for index in made.file_pieces(file)}
    assert covered == made.pieces_of(None) == set(range(made.piece_count))


def test_wanted_pieces_are_those_of_the_wanted_files_only() -> None:
    files = plan([((f"f{n}",), 40_000) for n in range(4)], 16_384)
    made = create("n", files, 16_384, bytes(20 * 12))
    real = [index for index, file in enumerate(files) if not file.pad]
    assert made.pieces_of([real[1]]) == {3, 4, 5}
    assert made.pieces_of([real[0], real[3]]) == {0, 1, 2, 9, 10, 11}
    assert made.pieces_of([]) == frozenset()
    with pytest.raises(LocalError):
        made.pieces_of([len(files)])


def test_ranges_inside_a_piece() -> None:
    made = create("n", plan([(("a",), 100), (("b",), 50)], 64, align=False), 64, bytes(60))
    assert list(made.segments(1, 30, 20)) == [(0, 94, 6), (1, 0, 14)]
    assert list(made.segments(2)) == [(1, 28, 22)]
    for begin, length in ((0, 65), (-1, 2), (64, 1)):
        with pytest.raises(LocalError):
            list(made.segments(0, begin, length))
    with pytest.raises(LocalError):
        made.piece_hash(3)
    assert not made.verify_piece(2, bytes(21))


@pytest.mark.parametrize(
    "make",
    [
        lambda: create("..", plan([(("a",), 5)], 16_384), 16_384, bytes(20)),
        lambda: create("a/b", plan([(("a",), 5)], 16_384), 16_384, bytes(20)),
        lambda: create("n", plan([(("a",), 5)], 16_384), 16_384, bytes(19)),
        lambda: create("n", plan([(("\udcff",), 5)], 16_384), 16_384, bytes(20)),
        lambda: create("n", plan([(("a",), 5), (("A",), 5)], 16_384), 16_384, bytes(40)),
        lambda: create("n", plan([(("a",), 5), (("b",), 5)], 16_384), 16_384, bytes(40), single_file=True),
        lambda: create("n", [], 16_384, b""),
        lambda: plan([(("a",), -1)], 16_384),
        lambda: plan([(("a",), 1)], 0),
        lambda: PieceHasher(0),
    ],
)
def test_making_a_bad_torrent_is_our_mistake(make: Callable[[], object]) -> None:
    with pytest.raises(LocalError):
        make()


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5), st.integers(1, 70))
def test_the_hasher_does_not_mind_cuts(data: bytes, cuts: list[int], piece_length: int) -> None:
    hasher = PieceHasher(piece_length)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for n in range(len(edges) - 1):
        hasher.update(data[edges[n] : edges[n + 1]])
    pieces = [data[at : at + piece_length] for at in range(0, len(data), piece_length)]
    assert hasher.finish() == b"".join(map(piece_hash, pieces))


def test_chosen_piece_lengths() -> None:
    assert choose_piece_length(1) == 16_384
    assert choose_piece_length(1 << 30) == 1 << 20
    assert choose_piece_length(1 << 48) == 16 << 20


VALID = [single(), hybrid_multi(), multi(), single(private=1), multi([b"a", b"b"], [b"a", b"c"], [b"d"])]


@given(st.sampled_from(VALID), st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=3)), max_size=4))
def test_fuzz_only_remote_errors_escape(data: bytes, edits: list[tuple[int, bytes]]) -> None:
    changed = bytearray(data)
    for place, patch in edits:
        changed[place % len(changed) : place % len(changed) + len(patch)] = patch
    try:
        parsed = Metainfo.parse(bytes(changed))
    except RemoteError:
        return
    assert sum(file.length for file in parsed.files) == parsed.total_length


scalars = st.integers(-5, 2**50) | st.binary(max_size=30)
shapes = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([b"length", b"path", b"attr", b"files", b"name", b"pieces", b"piece length"]),
            inner,
        )
    ),
    max_leaves=10,
)


@settings(max_examples=50)
@given(
    st.dictionaries(st.sampled_from(["length", "files", "name", "pieces", "private", "piece_length"]), shapes)
)
def test_fuzz_fields_of_any_type(changes: dict[str, Any]) -> None:
    try:
        Metainfo.parse(single(**changes))
    except RemoteError:
        return
    assert set(changes) <= {"length", "name", "pieces", "private", "piece_length"}


@given(st.binary(max_size=100))
def test_fuzz_noise(data: bytes) -> None:
    with pytest.raises(RemoteError):
        Metainfo.parse(data)
