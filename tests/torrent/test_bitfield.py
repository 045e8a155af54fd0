"""The set of pieces and its wire form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrent.bitfield import Bitfield, indexes
from torrent.errors import LocalError, ProtocolError

sets = st.integers(1, 70).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1))))


@given(sets)
def test_wire_form_round_trip(case: tuple[int, set[int]]) -> None:
    length, pieces = case
    field = Bitfield(length, pieces)
    again = Bitfield.from_bytes(field.to_bytes(), length)
    assert again == field
    assert list(again) == sorted(pieces)
    assert list(again.missing()) == sorted(set(range(length)) - pieces)
    assert (again.count, again.complete) == (len(pieces), len(pieces) == length)


def test_piece_zero_is_the_high_bit_of_the_first_byte() -> None:
    assert Bitfield(10, {0, 9}).to_bytes() == b"\x80\x40"


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x00\x00", b"\x80\x20", b"\x00\x01"])
def test_refuses_wrong_size_and_spare_bits(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Bitfield.from_bytes(data, 10)


def test_add_and_discard() -> None:
    field = Bitfield.full(9)
    field.discard(8)
    assert 8 not in field
    assert not field.complete
    field.add(8)
    assert field == Bitfield.full(9)
    assert "x" not in field
    for index in (-1, 9):
        assert index not in field
        with pytest.raises(LocalError):
            field.add(index)


@given(st.sets(st.integers(0, 3000)))
def test_indexes_of_a_mask(pieces: set[int]) -> None:
    assert list(indexes(sum(1 << piece for piece in pieces))) == sorted(pieces)
