"""The training protocol's messages: they come back as they were sent, and nothing else is let in."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pml.formats.keras_json import MAX_TEXT
from p2pml.net import wire
from p2pml.net.errors import Malformed
from p2pml.net.train import (
    CHUNK_BYTES,
    FROM_PARTICIPANT,
    FROM_REQUESTER,
    MAX_CLIENTS,
    MAX_INVITE,
    MAX_METAINFO,
    MAX_PEERS,
    Accept,
    Ask,
    Chunk,
    Commit,
    Countersigned,
    Done,
    Hold,
    Invite,
    Message,
    Model,
    Offer,
    Pull,
    Ready,
    Refuse,
    Task,
    Update,
    Working,
    decode,
    encode,
)

ID = bytes(range(32))
SIG = bytes(64)
INVITE = Invite(
    1,
    ID,
    ID,
    ID,
    "job",
    "{}",
    "sgd",
    0.1,
    {"momentum": 0.9},
    10,
    2,
    3,
    4,
    5,
    6,
    "fedavg",
    0.0,
    "float32",
    "wards",
    "{}",
    "",
    SIG,
)
MESSAGES: list[Message] = [
    INVITE,
    Ask(4, ID, ID, "wards", "{}", SIG),
    Offer(1500),
    Accept(ID, ID, 7),
    Hold(b"d4:infoe", (1, 0), ("12D3Koo",)),
    Ready((0, 1)),
    Model(3, ID, 1000, 999),
    Chunk(0, b"x" * CHUNK_BYTES),
    Task(3, 1, ID, 800, ID, SIG),
    Working(3, 1, "train", 5, 10),
    Commit(b"\x98", SIG, 1000, 1.5, 0.25),
    Pull(3, 1, 500),
    Update(3, 1, 500, b"y"),
    Countersigned(b"\x93"),
    Refuse("task", 3, 1, "no"),
    Done("over"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_survives_the_wire(message: Message) -> None:
    assert decode(wire.decode(wire.encode(encode(message)))) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_field_is_checked(message: Message) -> None:
    plain = wire.decode(wire.encode(encode(message)))
    for index in range(1, len(fields(message)) + 1):
        for wrong in (None, -1, [[]], {"a": "b"}, True):
            if wrong == plain[index]:
                continue
            with pytest.raises(Malformed):
                decode([*plain[:index], wrong, *plain[index + 1 :]])
    for other in ([*plain, 0], plain[:-1], plain[1:], [], "TASK", {"TASK": 1}, ["NOTHING"]):
        with pytest.raises(Malformed):
            decode(other)


@pytest.mark.parametrize(
    "message",
    [
        Chunk(0, b"x" * (CHUNK_BYTES + 1)),
        replace(INVITE, lr=math.nan),
        replace(INVITE, model="x" * (2 << 20)),
        replace(INVITE, epochs=0),
        replace(INVITE, epochs=65_536),
        replace(INVITE, settle_every=0),
        Commit(b"", SIG, 10, 1.0, math.inf),
        Model(0, ID, 0, 0),
        Hold(b"", (10**6,), ()),
        Hold(b"", (), ("x" * 500,)),
        Refuse("task", 0, 0, "x" * 501),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_is_out_of_bounds_is_not_even_sent(message: Message) -> None:
    with pytest.raises(ValueError, match="cannot be sent"):
        encode(message)
    plain = [type(message).__name__.upper(), *(getattr(message, item.name) for item in fields(message))]
    with pytest.raises(Malformed):
        decode([list(value) if isinstance(value, tuple) else value for value in plain])


@pytest.mark.parametrize(
    ("message", "most"),
    [
        (replace(INVITE, model="x" * MAX_TEXT, name="n" * 64, division="ü" * 4096), MAX_INVITE),
        (Ask(2**16, ID, ID, "n" * 64, "x" * MAX_TEXT, SIG), MAX_INVITE),
        (Hold(bytes(MAX_METAINFO), tuple(range(MAX_CLIENTS)), ("p" * 128,) * MAX_PEERS), FROM_REQUESTER),
        (Update(2**32, 4095, 2**29, bytes(CHUNK_BYTES)), FROM_PARTICIPANT),
        (Ready(tuple(range(MAX_CLIENTS))), FROM_PARTICIPANT),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_longest_message_of_each_kind_is_let_in(message: Message, most: int) -> None:
    assert len(wire.encode(encode(message))) <= most


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(), inner, max_size=3),
    )
)
def test_anything_else_is_malformed(value: Any) -> None:
    with pytest.raises(Malformed):
        decode(value)
