"""One object, one encoding; malformed bytes raise DecodeError and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain import codec
from chain.codec import pack, unpack
from chain.errors import ChainError, DecodeError, InvalidError
from chain.header import SealedHeader
from chain.sync import decode_request, decode_response
from chain.training_records import Receipt, RoundRecord
from chain.transactions import Tx
from chain.types import Block, Body

DECODERS: list[Callable[[bytes], object]] = [
    Tx.decode, Block.decode, Body.decode, SealedHeader.decode, Receipt.decode, RoundRecord.decode,
    decode_request, decode_response,
]  # fmt: skip

items = st.recursive(
    st.integers(0, 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=20) | st.booleans(),
    lambda inner: st.lists(inner, max_size=5).map(tuple),
    max_leaves=30,
)


@given(items)
def test_roundtrip(item: Any) -> None:
    assert unpack(pack(item), 10_000) == item


@given(st.binary(max_size=60))
def test_what_decodes_is_canonical(data: bytes) -> None:
    try:
        item = unpack(data, 1000)
    except DecodeError:
        return
    assert pack(item) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        msgpack.packb({}),
        msgpack.packb({1: 2}),
        msgpack.packb(1.5),
        msgpack.packb(None),
        msgpack.packb(-1),
        msgpack.packb([1, None]),
        msgpack.packb(msgpack.ExtType(1, b"x")),
        msgpack.packb(msgpack.Timestamp(1)),
        msgpack.packb(1) + b"\x00",  # trailing byte
        b"\xcd\x00\x01",  # 1 as uint16
        b"\xc5\x00\x01a",  # one byte as bin16
        b"\xdc\x00\x01\x01",  # array16 of one
        b"\xd9\x01a",  # str8 of one
        b"\xa1\xff",  # not UTF-8
        b"\xa3\xed\xa0\x80",  # a surrogate in UTF-8
        b"\xdd\xff\xff\xff\xff",  # an array of 2^32 - 1 items
        b"\x91" * 100_000 + b"\x01",
        b"\x91" * 13 + b"\x01",
        b"\xc1",
    ],
)
def test_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        unpack(data, 200_000)


def test_size_is_checked_before_decoding() -> None:
    with pytest.raises(DecodeError, match="more than the allowed 3"):
        unpack(b"\xc1" * 4, 3)


@pytest.mark.parametrize("item", [1.0, None, -1, 2**64, {}, [1], (1, None), bytearray(b"x")])
def test_packing_anything_else_is_a_local_error(item: Any) -> None:
    with pytest.raises(ChainError) as caught:
        pack(item)
    assert not isinstance(caught.value, InvalidError)


def test_readers_are_strict() -> None:
    with pytest.raises(DecodeError):
        codec.uint(True, "n")
    with pytest.raises(DecodeError):
        codec.uint(5, "n", high=4)
    with pytest.raises(DecodeError):
        codec.octets(b"abc", 4, "b")
    with pytest.raises(DecodeError):
        codec.text("a\x1b[31m", 64, "t")
    with pytest.raises(DecodeError):
        codec.text("ä" * 33, 64, "t")
    with pytest.raises(DecodeError):
        codec.flag(1, "f")
    with pytest.raises(DecodeError):
        codec.array((1, 2), 3, "a")


@pytest.mark.parametrize("decode", DECODERS)
@settings(max_examples=50)
@given(data=st.binary(max_size=300) | items.map(pack))
def test_decoders_raise_only_invalid_error(decode: Callable[[bytes], object], data: bytes) -> None:
    with suppress(InvalidError):
        decode(data)


def test_every_changed_byte_of_a_block_is_refused_or_is_another_block(world: Any) -> None:
    block = world.mine(world.transfer(0, 1, 5))
    data = block.encode()
    assert Block.decode(data) == block
    for position in range(0, len(data), 7):
        bad = data[:position] + bytes([data[position] ^ 0x41]) + data[position + 1 :]
        try:
            other = Block.decode(bad)
        except InvalidError:
            continue
        assert other.encode() == bad
        assert other.fingerprint != block.fingerprint
        assert other != block


def test_truncated_and_extended_messages_are_refused(world: Any) -> None:
    data = world.mine(world.transfer(0, 1, 5)).encode()
    for end in (*range(0, len(data), 11), len(data) - 1):
        with pytest.raises(DecodeError):
            Block.decode(data[:end])
    with pytest.raises(DecodeError):
        Block.decode(data + b"\x00")
