"""The BitTorrent layer: bencode, metainfo files, the wire protocol, tar archives."""

from __future__ import annotations

import io
import tarfile

from tests.fuzz.runner import Feed, Target, decoder
from tests.torrent.metainfo_cases import hybrid, hybrid_multi, multi, single
from torrent import bencode
from torrent.bitfield import Bitfield
from torrent.errors import BencodeError, ProtocolError, RemoteError, TarError
from torrent.geometry import Block
from torrent.messages import BitfieldMessage, Decoder, Handshake, Have, Piece, Request
from torrent.metainfo import Metainfo
from torrent.tar import index_tar

HELLO = Handshake(bytes(20), b"-P20001-" + bytes(12)).encode()
WIRE_TOKENS = tuple(
    length.to_bytes(4, "big") + bytes([kind])
    for length in (0, 1, 5, 13, 14, 2**17, 2**32 - 1)
    for kind in range(22)
)
BENCODE_TOKENS = (
    *(
        b"d",
        b"l",
        b"e",
        b"i0e",
        b"i-1e",
        b"i-0e",
        b"0:",
        b"1:a",
        b"99999999999999999999:",
        b"l" * 200,
        b"4:info",
    ),
    *(
        b"6:lengthi99999999999999999999e",
        b"12:piece lengthi1e",
        b"4:path",
        b"2:..",
        b"5:files",
        b"9:file tree",
    ),
    *(
        b"6:pieces",
        b"12:meta versioni2e",
        b"10:name.utf-8",
        b"4:attr1:p",
        b"7:privatei1e",
        b"12:pieces root32:",
    ),
)


def bencoded(data: bytes) -> None:
    value = bencode.decode(data)
    assert bencode.decode(bencode.encode(value)) == value


def metainfo(data: bytes) -> None:
    parsed = Metainfo.parse(data)
    assert parsed.raw == data
    assert sum(file.length for file in parsed.files) > 0


def messages() -> Feed:
    decode = Decoder()

    def feed(data: bytes) -> None:
        for message in decode.feed(data):
            hash(message)

    return feed


def archive(data: bytes) -> None:
    members = index_tar(lambda at, length: data[at : at + length], len(data))
    assert all(0 <= member.offset <= member.offset + member.size <= len(data) for member in members)


def _tar(form: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, size in (("a.txt", 5), ("long/" * 30 + "b", 700)):
            member = tarfile.TarInfo(name)
            member.size = size
            tar.addfile(member, io.BytesIO(bytes(size)))
    return out.getvalue()


def bitfield(data: bytes) -> None:
    assert len(bytes(Bitfield.from_bytes(data, 21).to_bytes())) == 3


CHAT = (
    HELLO + Have(3).encode() + Request(Block(1, 0, 16384)).encode(),
    HELLO + BitfieldMessage(b"\xf0").encode() + Piece(1, 0, b"data" * 10).encode() + bytes(4),
)

TARGETS = (
    decoder(
        "bencode",
        bencoded,
        BencodeError,
        [single(), multi(), b"li-3ee", b"d1:ai1e1:bl0:ee"],
        tokens=BENCODE_TOKENS,
    ),
    decoder(
        "metainfo",
        metainfo,
        RemoteError,
        [single(), multi(), hybrid(), hybrid_multi()],
        tokens=BENCODE_TOKENS,
    ),
    Target("wire messages", messages, CHAT, ProtocolError, parts=True, tokens=WIRE_TOKENS, runs=4000),
    decoder("bitfields", bitfield, ProtocolError, [b"\xff\xff\xf8"]),
    decoder(
        "tar archives", archive, TarError, [_tar(tarfile.PAX_FORMAT), _tar(tarfile.GNU_FORMAT)], runs=8000
    ),
)
