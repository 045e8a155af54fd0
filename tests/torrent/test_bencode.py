"""Strict bencoding: what is refused, what survives a round trip, and that nothing else ever escapes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torrent import bencode
from torrent.errors import BencodeError, LocalError

HOSTILE = [
    b"",
    b"e",
    b"i",
    b"ie",
    b"i-e",
    b"i+5e",
    b"i 5e",
    b"i5 e",
    b"i1_0e",
    b"i05e",
    b"i-0e",
    b"i-05e",
    b"i5",
    b"i0x1e",
    b"i1.0e",
    b"i" + b"9" * 20 + b"e",
    b"1_0:aaaaaaaaaa",
    b"01:a",
    b"+1:a",
    b"-1:a",
    b" 1:a",
    b"2:a",
    b"1:",
    b"1",
    b":",
    b"99999999999:a",
    b"l",
    b"li1e",
    b"lee",
    b"d",
    b"d1:ae",
    b"d1:a",
    b"di1ei2ee",
    b"dlei2ee",
    b"d1:bi1e1:ai2ee",
    b"d1:ai1e1:ai2ee",
    b"d2:aai1e1:ai2ee",
    b"i1ei2e",
    b"d1:ai1eex",
    b"i1e\n",
    b"x",
    b"\x00",
    b"l" * 101 + b"e" * 101,
    b"d1:a" * 101 + b"i1e" + b"e" * 101,
]

values = st.recursive(
    st.integers(-(2**62), 2**62) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("data", HOSTILE)
def test_refuses(data: bytes) -> None:
    with pytest.raises(BencodeError):
        bencode.decode(data)


def test_depth_of_one_hundred_is_taken() -> None:
    bencode.decode(b"l" * 100 + b"e" * 100)


def test_too_many_values_are_refused_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bencode, "MAX_TOKENS", 50)
    bencode.decode(b"l" + b"i1e" * 40 + b"e")
    with pytest.raises(BencodeError, match="too many"):
        bencode.decode(b"l" + b"i1e" * 60 + b"e")


@given(values)
def test_round_trip(value: bencode.Value) -> None:
    data = bencode.encode(value)
    assert bencode.decode(data) == value
    assert bencode.encode(bencode.decode(data)) == data


@given(st.dictionaries(st.binary(max_size=6), values, max_size=5))
def test_spans_are_the_raw_values(table: dict[bytes, bencode.Value]) -> None:
    data = bencode.encode(table)
    decoded, spans = bencode.decode_with_spans(data)
    assert decoded == table
    assert set(spans) == set(table)
    for key, (start, end) in spans.items():
        assert data[start:end] == bencode.encode(table[key])


def test_spans_are_of_the_outermost_dictionary_only() -> None:
    assert bencode.scan(b"d1:ad1:bi1eee") == {b"a": (4, 12)}
    assert bencode.scan(b"ld1:bi1eee") == {}


@given(st.binary(max_size=60) | st.text("dile0123456789:-abc", max_size=60).map(str.encode))
def test_fuzz_only_bencode_errors_escape(data: bytes) -> None:
    try:
        value = bencode.decode(data)
    except BencodeError:
        return
    assert bencode.encode(value) == data


@given(values, st.integers(0, 200), st.integers(0, 255))
def test_fuzz_a_changed_byte(value: bencode.Value, place: int, byte: int) -> None:
    data = bytearray(bencode.encode(value))
    data[place % len(data)] = byte
    try:
        changed = bencode.decode(bytes(data))
    except BencodeError:
        return
    assert bencode.encode(changed) == bytes(data)


@settings(max_examples=30)
@given(values)
def test_every_prefix_is_refused(value: bencode.Value) -> None:
    data = bencode.encode(value)
    for cut in range(len(data)):
        with pytest.raises(BencodeError):
            bencode.decode(data[:cut])


def test_encoding_a_foreign_type_is_our_mistake() -> None:
    with pytest.raises(LocalError):
        bencode.encode({b"a": 1.5})  # type: ignore[dict-item]
