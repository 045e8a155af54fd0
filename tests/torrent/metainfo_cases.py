"""Metainfo files by hand: what must be refused and with which words, and what is odd yet right.

`HOSTILE` and `ODD` are tables; the functions above them put the bytes together from two bases, a single-file
and a multi-file torrent, v1 or hybrid, with fields of ``info`` replaced or deleted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torrent import bencode, merkle
from torrent.merkle import data_root

DELETE = object()
PIECE = 16_384
HASHES = bytes(range(40))


def encode(info: dict[str, Any], changes: dict[str, Any], outer: dict[str, Any] | None = None) -> bytes:
    """``info`` with the changes, a blank for each underscore of a key, bencoded with ``outer`` around it."""
    info = info | {key.replace("_", " "): value for key, value in changes.items()}
    kept = {key.encode(): value for key, value in info.items() if value is not DELETE}
    around = {key.replace("_", " ").encode(): value for key, value in (outer or {}).items()}
    return bencode.encode({b"info": kept, **{k: v for k, v in around.items() if v is not DELETE}})


def single(outer: dict[str, Any] | None = None, **changes: Any) -> bytes:
    """A single file ``a.bin`` of 20,000 bytes in two pieces."""
    info = {"length": 20_000, "name": b"a.bin", "piece length": PIECE, "pieces": HASHES}
    return encode(info, changes, outer)


def multi(*paths: list[bytes], **changes: Any) -> bytes:
    """A folder ``d``; each path becomes a file of 8,000 bytes, three of them fill two pieces."""
    entries = [entry(8_000, path) for path in paths or ([b"a"], [b"b"], [b"c"])]
    count = -(-8_000 * len(entries) // PIECE)
    info = {"files": entries, "name": b"d", "piece length": PIECE, "pieces": bytes(20 * count)}
    return encode(info, changes)


def entry(length: Any = 20_000, path: Any = DELETE, **more: Any) -> dict[bytes, Any]:
    """One entry of ``files``."""
    fields = {b"length": length, b"path": [b"a"] if path is DELETE else path}
    fields |= {key.replace("_", " ").encode(): value for key, value in more.items()}
    return {key: value for key, value in fields.items() if value is not DELETE}


def pad(length: int) -> dict[bytes, Any]:
    return entry(length, [b".pad", str(length).encode()], attr=b"p")


LARGE = b"x" * 20_000
"""Two pieces."""
LAYER = data_root(LARGE[:PIECE], 1) + data_root(LARGE[PIECE:], 1)
ROOT = merkle.file_root(LAYER, PIECE)
SMALL_ROOT = data_root(b"y" * 100, 1)


def leaf(length: Any = 20_000, root: Any = ROOT, **more: Any) -> dict[bytes, Any]:
    """A file of a v2 tree."""
    fields = {b"length": length, b"pieces root": root, **{k.encode(): v for k, v in more.items()}}
    return {b"": {key: value for key, value in fields.items() if value is not DELETE}}


def hybrid(tree: Any = DELETE, layers: Any = DELETE, **changes: Any) -> bytes:
    """The single file, hybrid."""
    info = {
        "length": 20_000,
        "name": b"a.bin",
        "piece length": PIECE,
        "pieces": HASHES,
        "meta version": 2,
        "file tree": {b"a.bin": leaf()} if tree is DELETE else tree,
    }
    return encode(info, changes, {"piece layers": {ROOT: LAYER} if layers is DELETE else layers})


def hybrid_multi(files: Any = DELETE, tree: Any = DELETE, layers: Any = DELETE, **changes: Any) -> bytes:
    """A folder with ``a`` (20,000 bytes) and ``b/c`` (100 bytes), hybrid, three pieces."""
    listed = [entry(20_000, [b"a"]), pad(12_768), entry(100, [b"b", b"c"])] if files is DELETE else files
    built = {b"a": leaf(), b"b": {b"c": leaf(100, SMALL_ROOT)}} if tree is DELETE else tree
    pieces = -(-sum(item.get(b"length", 0) for item in listed) // PIECE)
    info = {
        "files": listed,
        "name": b"d",
        "piece length": PIECE,
        "pieces": bytes(20 * pieces),
        "meta version": 2,
        "file tree": built,
    }
    return encode(info, changes, {"piece layers": {ROOT: LAYER} if layers is DELETE else layers})


class Case(NamedTuple):
    name: str
    data: bytes
    reason: str


C = Case
V2_ONLY = {"name": b"a", "piece length": PIECE}

HOSTILE = [
    # --- not strict bencoding
    C("empty", b"", "malformed value"),
    C("a number", b"i1e", "not a dictionary"),
    C("a list", b"le", "not a dictionary"),
    C("text", b"hello", "malformed value"),
    C("an HTML page", b"<!DOCTYPE html><html></html>", "malformed value"),
    C("number with a plus", b"d4:infod6:lengthi+5eee", "malformed integer"),
    C("number with a blank", b"d4:infod6:lengthi 5eee", "malformed integer"),
    C("number with an underscore", b"d4:infod6:lengthi1_0eee", "malformed integer"),
    C("number with a leading zero", b"d4:infod6:lengthi05eee", "malformed integer"),
    C("minus zero", b"d4:infod6:lengthi-0eee", "malformed integer"),
    C("number of forty digits", b"d4:infod6:lengthi" + b"9" * 40 + b"eee", "malformed integer"),
    C("number of a million digits", b"i" + b"9" * 1_000_000 + b"e", "malformed integer"),
    C("floating point", b"d4:infod6:lengthi1.5eee", "malformed integer"),
    C("string length with an underscore", b"d1_0:aaaaaaaaaai1ee", "malformed value"),
    C("string length with a leading zero", b"d04:infodee", "malformed value"),
    C("negative string length", b"d-1:infodee", "malformed value"),
    C("string past the end", b"d4:info9:abce", "runs past the end"),
    C("string of four gigabytes", b"d4:info4294967295:abce", "runs past the end"),
    C("keys out of order", b"d4:infode1:ai1ee", "out of order or repeated"),
    C("info twice", b"d4:infode4:infodee", "out of order or repeated"),
    C("keys of info out of order", b"d4:infod4:name1:a6:lengthi5eee", "out of order or repeated"),
    C("a key without a value", b"d4:infoe", "key without a value"),
    C("a number as key", b"di1ei1ee", "malformed value"),
    C("bytes after the end", single() + b"x", "after the end"),
    C("a second torrent after the end", single() + single(), "after the end"),
    C("a newline after the end", single() + b"\n", "after the end"),
    C("cut short", single()[:-1], "malformed value"),
    C("cut in a string", single()[:-25], "runs past the end"),
    C("lists nested too deep", b"d1:a" + b"l" * 101 + b"e" * 102, "nested deeper"),
    C("a hundred thousand lists", b"l" * 100_000, "nested deeper"),
    C("larger than 10 MB", b"d1:a10000000:" + bytes(10_000_000) + b"e", "more than 10000000"),
    # --- info and name
    C("no info", b"de", "'info' is missing"),
    C("info is a string", b"d4:info1:ae", "'info' is of the wrong type"),
    C("info is a list", b"d4:infolee", "'info' is of the wrong type"),
    C("empty info", b"d4:infodee", "exactly one of 'length' and 'files'"),
    C("info one level down", b"d1:a" + single() + b"e", "'info' is missing"),
    C("no name", single(name=DELETE), "'name' is missing"),
    C("no name of a folder", multi(name=DELETE), "'name' is missing"),
    C("name is a number", single(name=5), "'name' is of the wrong type"),
    C("name is a list", single(name=[b"a"]), "'name' is of the wrong type"),
    C("empty name", single(name=b""), "path component ''"),
    C("name is dot", multi(name=b"."), r"path component '\.'"),
    C("name is dot dot", multi(name=b".."), r"path component '\.\.'"),
    C("name with a slash", single(name=b"a/b"), "separator or a control"),
    C("name climbs out", single(name=b"../../.ssh/authorized_keys"), "separator or a control"),
    C("absolute name", single(name=b"/etc/passwd"), "separator or a control"),
    C("name with a backslash", single(name=b"a\\b"), "separator or a control"),
    C("name with NUL", single(name=b"a\0b"), "separator or a control"),
    C("name with a newline", single(name=b"a\nb"), "separator or a control"),
    C("name with an escape sequence", single(name=b"\x1b[2J"), "separator or a control"),
    C("name with an 8-bit escape", single(name="\x9b2J".encode()), "separator or a control"),
    C("name is not UTF-8", single(name=b"\xff\xfe"), "not UTF-8"),
    C("name is a UTF-8 surrogate", single(name=b"\xed\xa0\x80"), "not UTF-8"),
    C("slash as overlong UTF-8", single(name=b"..\xc0\xaf.."), "not UTF-8"),
    C("name too long", single(name=b"n" * 256), "component of 256 bytes"),
    # --- numbers
    C("no piece length", single(piece_length=DELETE), "'piece length' is missing"),
    C("piece length zero", single(piece_length=0), "piece length 0"),
    C("piece length negative", single(piece_length=-PIECE), "piece length -16384"),
    C("piece length above 512 MiB", single(piece_length=(512 << 20) + 1), "piece length 536870913"),
    C("piece length is a string", single(piece_length=b"16384"), "'piece length' is of the wrong type"),
    C("no pieces", single(pieces=DELETE), "'pieces' is missing"),
    C("pieces is a list", single(pieces=[]), "'pieces' is of the wrong type"),
    C("pieces empty", single(pieces=b""), "0 hashes for 2 pieces"),
    C("pieces not a multiple of 20", single(pieces=HASHES + b"x"), "not a multiple of 20"),
    C("one hash too few", single(pieces=HASHES[:20]), "1 hashes for 2 pieces"),
    C("one hash too many", single(pieces=HASHES + bytes(20)), "3 hashes for 2 pieces"),
    C("length and files", single(files=[entry()]), "exactly one of 'length' and 'files'"),
    C("neither length nor files", single(length=DELETE), "exactly one of 'length' and 'files'"),
    C("length negative", single(length=-1), "file length -1"),
    C("length zero", single(length=0, pieces=b""), "no file holds any data"),
    C("length is a string", single(length=b"20000"), "'length' is of the wrong type"),
    C("length above 2^48", single(length=(1 << 48) + 1), "file length 281474976710657"),
    C("length beyond 63 bits", single(length=2**63), "file length 9223372036854775808"),
    C("more than 2^21 pieces", single(length=(1 << 21) + 1, piece_length=1), "2097153 pieces, more than"),
    C("private is a string", single(private=b"1"), "'private' is of the wrong type"),
    # --- files
    C("files is empty", multi(files=[]), "empty list of files"),
    C("files is a dictionary", multi(files={}), "'files' is of the wrong type"),
    C("a file is a string", multi(files=[b"a"]), "entry of 'files' is not a dictionary"),
    C("a file without a path", multi(files=[{b"length": 5}]), "'path' is missing"),
    C("a path that is a number", multi(files=[entry(path=5)]), "'path' is of the wrong type"),
    C("a path that is a string", multi(files=[entry(path=b"a")]), "'path' is of the wrong type"),
    C("a path of numbers", multi(files=[entry(path=[1])]), "component is not a string"),
    C("a path of lists", multi(files=[entry(path=[[b"a"]])]), "component is not a string"),
    C("a file without a length", multi(files=[entry(DELETE)]), "'length' is missing"),
    C("lengths that cancel out", multi(files=[entry(30_000), entry(-10_000, [b"b"])]), "file length -10000"),
    C("only empty files", multi(files=[entry(0), entry(0, [b"b"])], pieces=b""), "no file holds any data"),
    C("only padding", multi(files=[pad(20_000)], pieces=HASHES), "no file holds any data"),
    C("only a link", multi(files=[entry(attr=b"l")], pieces=b""), "no file holds any data"),
    C(
        "sum of lengths above 2^48",
        multi(files=[entry(1 << 48), entry(1 << 48, [b"b"])]),
        "total length 562949953421312",
    ),
    C("padding above 2^48", multi(files=[entry(), pad(1 << 48)]), "total length 2814749767"),
    C("attributes are a number", multi(files=[entry(attr=1)]), "'attr' is of the wrong type"),
    # --- paths
    C("empty path", multi([], [b"b"], [b"c"]), "empty path"),
    C("empty component", multi([b"a", b""], [b"b"], [b"c"]), "path component ''"),
    C("dot component", multi([b".", b"a"], [b"b"], [b"c"]), r"path component '\.'"),
    C("climbs out", multi([b"..", b"..", b"etc", b"passwd"], [b"b"], [b"c"]), r"path component '\.\.'"),
    C("climbs out at the end", multi([b"a", b".."], [b"b"], [b"c"]), r"path component '\.\.'"),
    C("climbs out in padding", multi(files=[entry(), entry(9, [b".."], attr=b"p")]), r"component '\.\.'"),
    C("climbs out in a link", multi(files=[entry(), entry(9, [b".."], attr=b"l")]), r"component '\.\.'"),
    C("absolute path", multi([b"/etc/passwd"], [b"b"], [b"c"]), "separator or a control"),
    C("backslashes", multi([b"a\\..\\b"], [b"b"], [b"c"]), "separator or a control"),
    C("drive letter", multi([b"C:\\x"], [b"b"], [b"c"]), "separator or a control"),
    C("NUL in a path", multi([b"a.txt\0.exe"], [b"b"], [b"c"]), "separator or a control"),
    C("DEL in a path", multi([b"a\x7f"], [b"b"], [b"c"]), "separator or a control"),
    C("tab in a path", multi([b"a\tb"], [b"b"], [b"c"]), "separator or a control"),
    C("path is not UTF-8", multi([b"\xe9t\xe9"], [b"b"], [b"c"]), "not UTF-8"),
    C("component too long", multi([b"x" * 256], [b"b"], [b"c"]), "component of 256 bytes"),
    C("component too long in UTF-8 only", multi(["é".encode() * 128], [b"b"], [b"c"]), "of 256 bytes"),
    C("path too deep", multi([b"x"] * 65, [b"b"], [b"c"]), "path too long"),
    C("path too long", multi([b"x" * 200] * 21, [b"b"], [b"c"]), "path too long"),
    C("same path twice", multi([b"a"], [b"a"], [b"c"]), "two files at 'a'"),
    C("same but for case", multi([b"README"], [b"readme"], [b"c"]), "two files at 'readme'"),
    C("same but for a folder's case", multi([b"D", b"a"], [b"d", b"a"], [b"c"]), "two files at 'd/a'"),
    C("same but for full case folding", multi(["straße".encode()], [b"STRASSE"], [b"c"]), "two files"),
    C("same but for normal form", multi(["\u00e9".encode()], ["e\u0301".encode()], [b"c"]), "two files"),
    C("same but for form and case", multi(["\u00c9".encode()], ["e\u0301".encode()], [b"c"]), "two files"),
    C(
        "same but for the order of marks, of which one folds to a letter",
        multi(["α\u0345\u0301".encode()], ["α\u0301\u0345".encode()], [b"c"]),
        "two files",
    ),
    C("file and folder", multi([b"a"], [b"a", b"b"], [b"c"]), "both a file and a folder"),
    C("folder and file", multi([b"a", b"b"], [b"a"], [b"c"]), "both a file and a folder"),
    C("file and deep folder", multi([b"X", b"Y", b"z"], [b"x", b"y"], [b"c"]), "both a file and a folder"),
    # --- v2
    C("v2 only", encode(V2_ONLY, {"meta_version": 2}), "v2-only"),
    C("v2 only with a tree", encode(V2_ONLY, {"meta_version": 2, "file_tree": {}}), "v2-only"),
    C("meta version 1", hybrid(meta_version=1), "meta version 1"),
    C("meta version 3", hybrid(meta_version=3), "meta version 3"),
    C("meta version is a string", hybrid(meta_version=b"2"), "'meta version' is of the wrong type"),
    C("a tree without a version", hybrid(meta_version=DELETE), "without 'meta version'"),
    C("a version without a tree", single(meta_version=2), "'file tree' is missing"),
    C("the tree is a list", hybrid([]), "'file tree' is of the wrong type"),
    C("the tree is empty", hybrid({}), "empty folder"),
    C("an empty folder in the tree", hybrid({b"a.bin": leaf(), b"b": {}}), "empty folder"),
    C("a node is a number", hybrid({b"a.bin": 5}), "tree is not a dictionary"),
    C("a leaf is a number", hybrid({b"a.bin": {b"": 5}}), "tree is not a dictionary"),
    C("a leaf at the top", hybrid(leaf()), "empty path"),
    C("file and folder in the tree", hybrid({b"a.bin": leaf() | {b"x": leaf()}}), "both a file and a folder"),
    C("the tree climbs out", hybrid({b"..": {b"x": leaf()}}), r"path component '\.\.'"),
    C("the tree has a slash", hybrid({b"/etc/x": leaf()}), "separator or a control"),
    C("piece length 10,000", hybrid(piece_length=10_000), "not a power of two"),
    C("piece length 8 KiB", hybrid(piece_length=8_192, pieces=bytes(60)), "not a power of two"),
    C("another name in v2", hybrid({b"b.bin": leaf()}), "name different files"),
    C("another length in v2", hybrid({b"a.bin": leaf(19_999)}), "name different files"),
    C("one file more in v2", hybrid({b"a.bin": leaf(), b"b": leaf()}), "name different files"),
    C("one file less in v2", hybrid_multi(tree={b"a": leaf()}), "name different files"),
    C("a link in v2 only", hybrid({b"a.bin": leaf(attr=b"l")}), "name different files"),
    C(
        "another order in v1",
        hybrid_multi([entry(100, [b"b", b"c"]), pad(16_284), entry(20_000, [b"a"])]),
        "name different files",
    ),
    C("no padding in v1", hybrid_multi([entry(), entry(100, [b"b", b"c"])]), "does not begin on piece 2"),
    C(
        "a piece of padding too much",
        hybrid_multi([entry(), pad(12_768 + PIECE), entry(100, [b"b", b"c"])]),
        "does not begin on piece 2",
    ),
    C(
        "padding in front",
        hybrid_multi([pad(PIECE), entry(), pad(12_768), entry(100, [b"b", b"c"])]),
        "does not begin on piece 0",
    ),
    C(
        "a piece of padding behind",
        hybrid_multi([entry(), pad(12_768), entry(100, [b"b", b"c"]), pad(2 * PIECE)]),
        "5 pieces in the v1 half, 3 in the v2 half",
    ),
    C("no root", hybrid({b"a.bin": leaf(root=DELETE)}), "'pieces root' is missing"),
    C("root of 20 bytes", hybrid({b"a.bin": leaf(root=bytes(20))}), "a 'pieces root' of 20 bytes"),
    C("root of an empty file", hybrid({b"a.bin": leaf(0)}), "an empty file with a 'pieces root'"),
    C("negative length in v2", hybrid({b"a.bin": leaf(-1)}), "file length -1"),
    C("no length in v2", hybrid({b"a.bin": leaf(DELETE)}), "'length' is missing"),
    C("no layers", hybrid(layers={}), "no piece layer for 'a.bin'"),
    C("layers are a list", hybrid(layers=[]), "'piece layers' is of the wrong type"),
    C("a layer is a number", hybrid(layers={ROOT: 5}), "no piece layer for 'a.bin'"),
    C("layer too short", hybrid(layers={ROOT: LAYER[:32]}), "layer of 32 bytes for the 2 pieces"),
    C("layer too long", hybrid(layers={ROOT: LAYER + bytes(32)}), "layer of 96 bytes for the 2 pieces"),
    C("layer cut", hybrid(layers={ROOT: LAYER[:-1]}), "layer of 63 bytes for the 2 pieces"),
    C("layer of other data", hybrid(layers={ROOT: LAYER[32:] + LAYER[:32]}), "does not lead to its"),
    C("root of other data", hybrid({b"a.bin": leaf(root=b"r" * 32)}, {b"r" * 32: LAYER}), "does not lead"),
    C("a layer for nobody", hybrid(layers={ROOT: LAYER, b"r" * 32: LAYER}), "belongs to no file"),
    C(
        "a layer for a file of one piece",
        hybrid_multi(layers={ROOT: LAYER, SMALL_ROOT: SMALL_ROOT}),
        "belongs to no file",
    ),
]

ODD: list[tuple[str, bytes]] = [
    ("the single base", single()),
    ("the multi base", multi()),
    ("the hybrid base", hybrid()),
    ("the hybrid multi base", hybrid_multi()),
    ("unknown keys in info", single(x_unknown=[1, {b"deep": b"value"}], source=b"X")),
    ("unknown keys outside", single({"zz": 1, "announce": b"udp://x", "url list": b"http://x"})),
    ("announce list of lists", single({"announce list": [[b"udp://a", b"udp://b"], [b"udp://c"]]})),
    ("dht nodes", single({"nodes": [[b"127.0.0.1", 6881]]})),
    ("comment that is not UTF-8", single({"comment": b"\xff"})),
    ("creation date in 1969", single({"creation date": -1})),
    ("encoding claims Latin-1", single({"encoding": b"ISO-8859-1"})),
    ("private 0", single(private=0)),
    ("private 2 is not private", single(private=2)),
    ("one byte", single(length=1, pieces=bytes(20))),
    ("piece length 1", single(length=2, piece_length=1)),
    ("piece length 512 MiB", single(piece_length=512 << 20, pieces=bytes(20))),
    ("piece length not a power of two", single(piece_length=10_001)),
    ("just whole pieces", single(length=2 * PIECE)),
    ("name of 255 bytes", single(name=b"n" * 255)),
    ("name of dots", single(name=b"...")),
    ("hidden name", single(name=b".hidden")),
    ("name with blanks around", single(name=b" a ")),
    ("name like a device of Windows", single(name=b"CON")),
    ("name with a colon", single(name=b"a:b")),
    ("Japanese name", single(name="日本語".encode())),
    ("decomposed name", single(name="e\u0301".encode())),
    ("right-to-left name", single(name="שלום".encode())),
    ("name.utf-8 beside", single(**{"name.utf-8": b"other"})),
    ("one file in a folder", multi(files=[entry()])),
    ("one file in a folder of its name", multi(files=[entry(path=[b"d"])])),
    ("an empty file first", multi(files=[entry(0, [b"e"]), entry()])),
    ("empty files among others", multi(files=[entry(0, [b"e"]), entry(), entry(0, [b"z"])])),
    ("64 folders deep", multi([b"x"] * 64, [b"b"], [b"c"])),
    ("same name in two folders", multi([b"1", b"a"], [b"2", b"a"], [b"a"])),
    ("names that differ by an accent", multi([b"e"], ["\u00e9".encode()], [b"f"])),
    ("unaligned padding", multi(files=[entry(8_000), pad(100), entry(10_000, [b"b"]), pad(100)])),
    ("padding first", multi(files=[pad(100), entry(19_900)])),
    ("padding twice by one name", multi(files=[entry(8_000), pad(9), entry(8_400, [b"b"]), pad(9)])),
    ("padding named as a file", multi(files=[entry(), entry(9, [b"a"], attr=b"p")])),
    ("padding of no length", multi(files=[entry(), pad(0)])),
    ("attributes that mean nothing here", multi(files=[entry(attr=b"xh?")])),
    ("a link to anywhere", multi(files=[entry(), entry(DELETE, [b"l"], attr=b"l", symlink_path=[b".."])])),
    ("a link over a file", multi(files=[entry(), entry(0, attr=b"l", symlink_path=[b"x"])])),
    ("hash sums per file", multi(files=[entry(md5sum=b"0" * 32, sha1=bytes(20))])),
    ("path.utf-8 beside", multi(files=[entry(**{"path.utf-8": [b".."]})])),
    ("hybrid with padding behind", hybrid_multi([entry(), pad(12_768), entry(100, [b"b", b"c"]), pad(9)])),
    ("hybrid of one small file", hybrid({b"a.bin": leaf(100, SMALL_ROOT)}, {}, length=100, pieces=bytes(20))),
    ("layers in a v1 torrent", single({"piece layers": {b"x": b"y"}})),
    (
        "one file twice in a hybrid",
        hybrid_multi([entry(), pad(12_768), entry(path=[b"b"])], {b"a": leaf(), b"b": leaf()}),
    ),
    (
        "an empty file in a hybrid",
        hybrid_multi([entry(), entry(0, [b"b"])], {b"a": leaf(), b"b": leaf(0, DELETE)}),
    ),
    (
        "a link in both halves of a hybrid",
        hybrid_multi(
            [entry(), entry(0, [b"l"], attr=b"l")], {b"a": leaf(), b"l": leaf(0, DELETE, attr=b"l")}
        ),
    ),
]
