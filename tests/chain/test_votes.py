"""Votes as bytes, what contradicts what, and the record that keeps a validator from contradicting itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.codec import pack
from chain.crypto import Keypair
from chain.errors import DecodeError
from chain.signing import SigningRecord
from chain.votes import MAX_VOTE_BYTES, Checkpoint, Link, Vote, conflict, sign_vote

KEYS = Keypair.from_seed(bytes(31) + b"\x07")
CHAIN = bytes([9]) * 32


def vote(slot: int, source: int, target: int, head: int = 1, branch: int = 1) -> Vote:
    link = Link(Checkpoint(source, bytes([branch]) * 32), Checkpoint(target, bytes([branch]) * 32))
    return Vote(KEYS.public, slot, link, bytes([head]) * 32, bytes(64))


def test_round_trip_and_signature() -> None:
    signed = sign_vote(KEYS, CHAIN, 7, vote(7, 5, 7).link, bytes(32))
    assert Vote.decode(signed.encoded) == signed
    assert len(signed.encoded) <= MAX_VOTE_BYTES
    assert signed.signed_for(CHAIN)
    assert not signed.signed_for(bytes(32)), "a vote counts on its own chain only"
    assert not replace(signed, slot=8).signed_for(CHAIN)
    assert not replace(signed, head=bytes([1]) * 32).signed_for(CHAIN)


@pytest.mark.parametrize(
    "item",
    [
        (),
        (KEYS.public, 1, (0, bytes(32)), (1, bytes(32)), bytes(32)),
        (KEYS.public, 2**53 + 1, (0, bytes(32)), (1, bytes(32)), bytes(32), bytes(64)),
        (KEYS.public[:31], 1, (0, bytes(32)), (1, bytes(32)), bytes(32), bytes(64)),
        (KEYS.public, 1, (0, bytes(31)), (1, bytes(32)), bytes(32), bytes(64)),
        (KEYS.public, 1, (0, bytes(32)), (1, bytes(32)), bytes(32), bytes(63)),
        (KEYS.public, 1, 0, (1, bytes(32)), bytes(32), bytes(64)),
    ],
)
def test_malformed_votes_are_refused(item: Any) -> None:
    with pytest.raises(DecodeError):
        Vote.decode(pack(item))


def test_what_contradicts_what() -> None:
    one = vote(10, 4, 10)
    assert conflict(one, vote(10, 4, 10, branch=2)) == "double vote"
    assert conflict(one, vote(10, 3, 10)) == "double vote"
    assert conflict(one, vote(12, 3, 12)) == "surround vote"
    assert conflict(one, vote(9, 5, 9)) == "surround vote"
    assert conflict(one, vote(10, 4, 10, head=2)) == "two heads in one slot"
    assert conflict(one, one) == ""
    assert conflict(one, vote(11, 4, 11)) == ""
    assert conflict(one, vote(11, 10, 11)) == ""
    assert conflict(one, vote(11, 4, 10, head=2)) == "", "another head in another slot is a change of mind"
    other = replace(vote(10, 4, 10, branch=2), voter=bytes(32))
    assert conflict(one, other) == "", "two people may differ"


WISHES = st.lists(
    st.tuples(
        st.integers(1, 12), st.integers(0, 11), st.integers(1, 12), st.integers(1, 2), st.integers(1, 2)
    ),
    max_size=12,
)


@given(WISHES)
def test_whatever_the_record_lets_pass_never_contradicts_itself(wishes: list[tuple[int, ...]]) -> None:
    record, signed = SigningRecord(), list[Vote]()
    for slot, source, target, head, branch in wishes:
        wish = vote(slot, source, target, head, branch)
        if source < target and record.may_vote(wish):
            record = SigningRecord.decode(record.voted(wish).encode())
            signed.append(wish)
    assert not [(a, b) for a in signed for b in signed if conflict(a, b)]


def test_one_seal_per_slot() -> None:
    record = SigningRecord().sealed(5)
    assert SigningRecord.decode(record.encode()) == record
    assert not record.may_seal(5)
    assert not record.may_seal(4)
    assert record.may_seal(6)


@pytest.mark.parametrize("data", [b"", b"\xc0", pack((1, 2)), pack((1, 2, b"x")), pack((1, 2, b"", 3))])
def test_a_damaged_record_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        SigningRecord.decode(data)
