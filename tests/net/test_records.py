"""The record codec: whatever is sealed opens again, however it is cut; anything else is the peer's fault."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from p2pml.net.errors import Closed, Malformed, RemoteError
from p2pml.net.secure.records import MAX_PLAINTEXT, MAX_RECORD, RecordReader, RecordWriter

KEY = bytes(range(32))


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 400))
def test_what_was_sealed_opens_again_however_it_is_cut(chunks: list[bytes], step: int) -> None:
    wire = RecordWriter(KEY).seal(chunks)
    whole = RecordReader(KEY)
    assert whole.feed(wire) == [chunk for chunk in chunks if chunk]
    assert whole.buffered == 0
    cut = RecordReader(KEY)
    opened = [payload for i in range(0, len(wire), step) for payload in cut.feed(wire[i : i + step])]
    assert opened == [chunk for chunk in chunks if chunk]


def test_byte_by_byte_holds_no_more_than_one_record() -> None:
    wire = RecordWriter(KEY).seal([b"x" * 1000, b"y", b"z" * 3000])
    reader = RecordReader(KEY)
    got = b""
    for byte in wire:
        got += b"".join(reader.feed(bytes([byte])))
        assert reader.buffered <= 3018
    assert got == b"x" * 1000 + b"y" + b"z" * 3000


def test_a_large_chunk_takes_records_of_the_largest_size() -> None:
    data = bytes(2 * MAX_PLAINTEXT + 5)
    wire = RecordWriter(KEY).seal([data])
    assert len(wire) == len(data) + 3 * (2 + 16)
    assert int.from_bytes(wire[:2], "big") == MAX_RECORD
    payloads = RecordReader(KEY).feed(wire)
    assert [len(payload) for payload in payloads] == [MAX_PLAINTEXT, MAX_PLAINTEXT, 5]


def test_the_wire_is_that_of_the_noise_specification() -> None:
    wire = RecordWriter(KEY, number=3).seal([b"hello"])
    nonce = b"\0" * 4 + (3).to_bytes(8, "little")
    assert wire == (21).to_bytes(2, "big") + ChaCha20Poly1305(KEY).encrypt(nonce, b"hello", None)
    assert RecordReader(KEY, number=3).feed(wire) == [b"hello"]


@given(st.binary(max_size=400), st.integers(1, 400))
def test_garbage_raises_nothing_but_a_remote_error(data: bytes, step: int) -> None:
    reader = RecordReader(KEY)
    try:
        opened = [payload for i in range(0, len(data), step) for payload in reader.feed(data[i : i + step])]
    except RemoteError:
        return
    assert opened == []  # nobody without the key can make a record


@given(st.data())
def test_a_flipped_bit_a_lost_and_a_doubled_record_are_refused(data: st.DataObject) -> None:
    records = [RecordWriter(KEY, number).seal([b"x" * 20]) for number in range(3)]
    flipped = bytearray(b"".join(records))
    place = data.draw(st.integers(0, len(flipped) * 8 - 1))
    if place // 8 % 38 < 2:
        place += 16  # a changed length only makes the reader wait
    flipped[place // 8] ^= 1 << place % 8
    for bad in (bytes(flipped), records[0] + records[2], records[0] + records[0]):
        with pytest.raises(Malformed):
            RecordReader(KEY).feed(bad)


def test_a_record_shorter_than_its_tag_is_refused() -> None:
    with pytest.raises(Malformed, match="shorter than its tag"):
        RecordReader(KEY).feed(b"\x00\x0f")


def test_numbers_are_never_used_twice() -> None:
    writer = RecordWriter(KEY, number=2**64 - 2)
    last = writer.seal([b"last"])
    with pytest.raises(Closed):
        writer.seal([b"one more"])
    reader = RecordReader(KEY, number=2**64 - 2)
    assert reader.feed(last) == [b"last"]
    with pytest.raises(Malformed, match="after the last number"):
        reader.feed(last)
