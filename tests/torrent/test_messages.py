"""The wire: every message, any cut of the stream, hostile frames."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrent.errors import LocalError, ProtocolError
from torrent.geometry import Block
from torrent.messages import (
    MAX_FRAME,
    AllowedFast,
    BitfieldMessage,
    Cancel,
    Choke,
    Decoder,
    Extended,
    Handshake,
    Have,
    HaveAll,
    HaveNone,
    Interested,
    KeepAlive,
    Message,
    NotInterested,
    Piece,
    Reject,
    Request,
    Suggest,
    Unchoke,
    Unknown,
    reserved_bytes,
)

HELLO = Handshake(b"h" * 20, b"p" * 20)
u32 = st.integers(0, 2**32 - 1)
blocks = st.builds(Block, u32, u32, u32)
messages = st.one_of(
    st.sampled_from([KeepAlive(), Choke(), Unchoke(), Interested(), NotInterested(), HaveAll(), HaveNone()]),
    st.builds(Suggest, u32),
    st.builds(Reject, blocks),
    st.builds(AllowedFast, u32),
    st.builds(Extended, st.integers(0, 255), st.binary(max_size=40)),
    st.builds(Have, u32),
    st.builds(BitfieldMessage, st.binary(max_size=9)),
    st.builds(Request, blocks),
    st.builds(Cancel, blocks),
    st.builds(Piece, u32, u32, st.binary(max_size=40)),
)


def encode(items: list[Message]) -> bytes:
    return b"".join(item.encode() for item in items)  # type: ignore[union-attr]


def decode_in_cuts(data: bytes, cuts: list[int]) -> list[Message]:
    decoder = Decoder()
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [m for a, b in pairwise(edges) for m in decoder.feed(data[a:b])]


@given(st.lists(messages, max_size=8), st.lists(st.integers(0, 1000), max_size=10))
def test_any_cut_gives_the_same_messages(items: list[Message], cuts: list[int]) -> None:
    stream = [HELLO, *items]
    assert decode_in_cuts(encode(stream), cuts) == stream


def test_known_bytes() -> None:
    """The examples of BEP 3's tables."""
    assert Have(7).encode() == b"\0\0\0\x05\x04\0\0\0\x07"
    assert Request(Block(1, 2, 16384)).encode() == b"\0\0\0\r\x06\0\0\0\x01\0\0\0\x02\0\0\x40\0"
    assert Piece(1, 2, b"ab").encode() == b"\0\0\0\x0b\x07\0\0\0\x01\0\0\0\x02ab"
    assert Cancel(Block(1, 2, 3)).encode()[:5] == b"\0\0\0\r\x08"
    assert [m.encode()[4] for m in (Choke(), Unchoke(), Interested(), NotInterested())] == [0, 1, 2, 3]
    assert HELLO.encode() == b"\x13BitTorrent protocol" + bytes(8) + b"h" * 20 + b"p" * 20


def test_known_bytes_of_the_extensions() -> None:
    """The tables of BEP 6 and BEP 10."""
    assert Suggest(7).encode() == b"\0\0\0\x05\x0d\0\0\0\x07"
    assert HaveAll().encode() == b"\0\0\0\x01\x0e"
    assert HaveNone().encode() == b"\0\0\0\x01\x0f"
    assert Reject(Block(1, 2, 16384)).encode() == b"\0\0\0\r\x10\0\0\0\x01\0\0\0\x02\0\0\x40\0"
    assert AllowedFast(7).encode() == b"\0\0\0\x05\x11\0\0\0\x07"
    assert Extended(3, b"de").encode() == b"\0\0\0\x04\x14\x03de"


@pytest.mark.parametrize(
    ("fast", "extended", "reserved"),
    [
        (False, False, "0000000000000000"),
        (True, False, "0000000000000004"),
        (False, True, "0000000000100000"),
        (True, True, "0000000000100004"),
    ],
)
def test_reserved_bits(fast: bool, extended: bool, reserved: str) -> None:
    hello = Handshake(b"h" * 20, b"p" * 20, reserved_bytes(fast=fast, extended=extended))
    assert hello.encode()[20:28].hex() == reserved
    assert (hello.fast, hello.extended) == (fast, extended)
    inverse = Handshake(b"h" * 20, b"p" * 20, bytes(byte ^ 0xFF for byte in hello.reserved))
    assert (inverse.fast, inverse.extended) == (not fast, not extended)


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0",
        b"GET / HTTP/1.1",
        b"\x13BitTorrent protocoX",
        HELLO.encode() + struct.pack(">I", MAX_FRAME + 1),
        HELLO.encode() + b"\xff\xff\xff\xff",
        HELLO.encode() + frame(b"\x00x"),
        HELLO.encode() + frame(b"\x01\x00"),
        HELLO.encode() + frame(b"\x02\x02\x02"),
        HELLO.encode() + frame(b"\x03\x00"),
        HELLO.encode() + frame(b"\x04"),
        HELLO.encode() + frame(b"\x04" + bytes(3)),
        HELLO.encode() + frame(b"\x04" + bytes(5)),
        HELLO.encode() + frame(b"\x06" + bytes(11)),
        HELLO.encode() + frame(b"\x06" + bytes(13)),
        HELLO.encode() + frame(b"\x07" + bytes(7)),
        HELLO.encode() + frame(b"\x08" + bytes(4)),
        HELLO.encode() + frame(b"\x0d" + bytes(3)),
        HELLO.encode() + frame(b"\x0e\0"),
        HELLO.encode() + frame(b"\x0f\0"),
        HELLO.encode() + frame(b"\x10" + bytes(11)),
        HELLO.encode() + frame(b"\x11" + bytes(5)),
        HELLO.encode() + frame(b"\x14"),
    ],
)
def test_refuses(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Decoder().feed(data)


def test_the_largest_frame_is_taken() -> None:
    piece = Piece(0, 0, bytes(1 << 20))
    assert Decoder().feed(HELLO.encode() + piece.encode()) == [HELLO, piece]


def test_a_frame_too_large_is_refused_before_it_is_held() -> None:
    decoder = Decoder()
    decoder.feed(HELLO.encode())
    with pytest.raises(ProtocolError):
        decoder.feed(struct.pack(">I", MAX_FRAME + 1))


def test_unknown_ids_are_skipped() -> None:
    stream = HELLO.encode() + frame(b"\x09\x1a\xe1") + frame(b"\x15\x00d") + Unchoke().encode()
    assert Decoder().feed(stream) == [HELLO, Unknown(9), Unknown(21), Unchoke()]


def outcome(data: bytes, step: int) -> tuple[list[Message], bool]:
    """Messages before the end or the first error, whether there was one; feeds ``step`` bytes at a time."""
    decoder, seen = Decoder(), []
    for at in range(0, len(data), step):
        try:
            seen += decoder.feed(data[at : at + step])
        except ProtocolError:
            return seen, True
    return seen, False


@given(
    st.booleans(),
    st.binary(max_size=120),
    st.lists(messages, max_size=3),
    st.integers(0, 300),
    st.integers(0, 255),
)
def test_fuzz_whole_and_byte_at_a_time(
    raw: bool, noise: bytes, items: list[Message], place: int, byte: int
) -> None:
    data = bytearray(encode([HELLO, *items]) + noise)
    if not raw:
        data[place % len(data)] = byte
    whole, failed = outcome(bytes(data), len(data))
    single, failed_too = outcome(bytes(data), 1)
    assert failed == failed_too
    # whole, an error hides what came before it in the same read
    assert single[: len(whole)] == whole
    assert failed or single == whole


@pytest.mark.parametrize("length", [0, 67, 69])
def test_handshake_of_the_wrong_size(length: int) -> None:
    with pytest.raises(ProtocolError):
        Handshake.decode(HELLO.encode().ljust(69, b"x")[:length])


def test_a_malformed_handshake_of_ours_is_our_mistake() -> None:
    with pytest.raises(LocalError):
        Handshake(b"short", b"p" * 20).encode()
