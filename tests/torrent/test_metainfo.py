"""Metainfo is untrusted: what is refused, what is kept, and where the info-hash comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torrent import bencode, metainfo
from torrent.errors import LocalError, MetainfoError, RemoteError
from torrent.hashing import PieceHasher, piece_hash
from torrent.metainfo import File, Metainfo, choose_piece_length, create, plan

DELETE = object()
HASHES = bytes(range(40))


def single(**changes: Any) -> bytes:
    """A valid single-file metainfo of two pieces, with fields of ``info`` replaced or deleted."""
    info: dict[str, Any] = {"length": 20_000, "name": b"a.bin", "piece length": 16_384, "pieces": HASHES}
    return _encode(info, changes)


def multi(*paths: list[bytes], **changes: Any) -> bytes:
    """A valid multi-file metainfo; each path becomes a file of 8,000 bytes, three of them fill two pieces."""
    entries = [{b"length": 8_000, b"path": path} for path in paths or ([b"a"], [b"b"], [b"c"])]
    count = -(-8_000 * len(entries) // 16_384)
    info: dict[str, Any] = {
        "files": entries,
        "name": b"d",
        "piece length": 16_384,
        "pieces": bytes(20 * count),
    }
    return _encode(info, changes)


def entry(length: Any = 20_000, path: Any = DELETE, **more: Any) -> dict[bytes, Any]:
    fields = {b"length": length, b"path": [b"a"] if path is DELETE else path}
    fields |= {key.encode(): value for key, value in more.items()}
    return {key: value for key, value in fields.items() if value is not DELETE}


def _encode(info: dict[str, Any], changes: dict[str, Any]) -> bytes:
    info |= {key.replace("_", " "): value for key, value in changes.items()}
    kept = {key.encode(): value for key, value in info.items() if value is not DELETE}
    return bencode.encode({b"info": kept})


MALFORMED: dict[str, bytes] = {
    "not a dictionary": b"i1e",
    "a list": b"le",
    "no info": b"de",
    "info is a string": b"d4:info1:ae",
    "info is a list": b"d4:infolee",
    "empty info": b"d4:infodee",
    "unsorted keys": b"d4:infode1:ai1ee",
    "trailing bytes": single() + b"x",
    "cut short": single()[:-1],
    "no name": single(name=DELETE),
    "name is a number": single(name=5),
    "empty name": single(name=b""),
    "name is dot": single(name=b"."),
    "name is dot dot": single(name=b".."),
    "name with a slash": single(name=b"a/b"),
    "absolute name": single(name=b"/etc"),
    "name with a backslash": single(name=b"a\\b"),
    "name with NUL": single(name=b"a\0b"),
    "name with a newline": single(name=b"a\nb"),
    "name with an escape": single(name=b"\x1b[2J"),
    "name is not UTF-8": single(name=b"\xff\xfe"),
    "name is a UTF-8 surrogate": single(name=b"\xed\xa0\x80"),
    "name too long": single(name=b"n" * 256),
    "no piece length": single(piece_length=DELETE),
    "piece length zero": single(piece_length=0),
    "piece length negative": single(piece_length=-16_384),
    "piece length too large": single(piece_length=(512 << 20) + 1),
    "piece length is a string": single(piece_length=b"16384"),
    "no pieces": single(pieces=DELETE),
    "pieces is a list": single(pieces=[]),
    "pieces empty": single(pieces=b""),
    "pieces not a multiple of 20": single(pieces=HASHES + b"x"),
    "one hash too few": single(pieces=HASHES[:20]),
    "one hash too many": single(pieces=HASHES + bytes(20)),
    "length and files": single(files=[entry()]),
    "neither length nor files": single(length=DELETE),
    "length negative": single(length=-1),
    "length zero": single(length=0, pieces=b""),
    "length is a string": single(length=b"20000"),
    "length too large": single(length=(1 << 48) + 1),
    "too many pieces": single(length=(1 << 21) + 1, piece_length=1),
    "private is a string": single(private=b"1"),
    "v2 only": _encode({"name": b"a", "piece length": 16_384}, {"meta_version": 2, "file_tree": {}}),
    "files is empty": multi(files=[]),
    "files is a dictionary": multi(files={}),
    "a file is a string": multi(files=[b"a"]),
    "a file without a path": multi(files=[entry(path=DELETE) | {b"path": 5}]),
    "a file without a length": multi(files=[entry(length=DELETE)]),
    "a file with a negative length": multi(files=[entry(30_000), entry(-10_000, [b"b"])]),
    "files that are all empty": multi(files=[entry(0)], pieces=b""),
    "sum of lengths too large": multi(files=[entry(1 << 48), entry(1 << 48, [b"b"])]),
    "attributes are a number": multi(files=[entry(attr=1)]),
    "empty path": multi([], [b"b"], [b"c"]),
    "path is a string": multi(files=[entry(path=b"a")]),
    "path of numbers": multi(files=[entry(path=[1])]),
    "empty component": multi([b"a", b""], [b"b"], [b"c"]),
    "dot component": multi([b".", b"a"], [b"b"], [b"c"]),
    "climbs out": multi([b"..", b"..", b"etc", b"passwd"], [b"b"], [b"c"]),
    "absolute path": multi([b"/etc/passwd"], [b"b"], [b"c"]),
    "backslash in a path": multi([b"a\\..\\b"], [b"b"], [b"c"]),
    "NUL in a path": multi([b"a\0"], [b"b"], [b"c"]),
    "DEL in a path": multi([b"a\x7f"], [b"b"], [b"c"]),
    "component too long": multi([b"x" * 256], [b"b"], [b"c"]),
    "path too deep": multi([b"x"] * 65, [b"b"], [b"c"]),
    "path too long": multi([b"x" * 200] * 21, [b"b"], [b"c"]),
    "same path twice": multi([b"a"], [b"a"], [b"c"]),
    "same but for case": multi([b"README"], [b"readme"], [b"c"]),
    "same but for full case folding": multi(["straße".encode()], [b"STRASSE"], [b"c"]),
    "same but for normal form": multi(["\u00e9".encode()], ["e\u0301".encode()], [b"c"]),
    "file and folder": multi([b"a"], [b"a", b"b"], [b"c"]),
    "folder and file": multi([b"a", b"b"], [b"a"], [b"c"]),
    "file and deep folder, other case": multi([b"X", b"Y", b"z"], [b"x", b"y"], [b"c"]),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_refuses(data: bytes) -> None:
    with pytest.raises(RemoteError):
        Metainfo.parse(data)


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


def test_a_hybrid_is_taken_by_its_v1_half() -> None:
    tree = {b"a.bin": {b"": {b"length": 20_000, b"pieces root": bytes(32)}}}
    parsed = Metainfo.parse(single(meta_version=2, file_tree=tree))
    assert (parsed.name, parsed.piece_count) == ("a.bin", 2)


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


VALID = [single(), multi(), single(private=1), multi([b"a", b"b"], [b"a", b"c"], [b"d"])]


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
