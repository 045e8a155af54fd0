from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pml.formats.optimizers import Optimizer
from p2pml.worker.protocol import (
    PROTOCOL_VERSION,
    Build,
    Built,
    Cancel,
    Evaluate,
    Evaluated,
    Failed,
    Hello,
    Message,
    Part,
    Progress,
    ProtocolError,
    Rest,
    Resting,
    ServerStep,
    Span,
    Spanned,
    Stepped,
    Train,
    Trained,
    Unable,
    Want,
    decode,
    encode,
)

ONE_OF_EACH: list[Message] = [
    Hello(PROTOCOL_VERSION, 77, {"python": "3"}, 1, True, 4.5, 1 << 29),
    Unable("no"),
    Build("{}", 2**63),
    Built(b"w", "{}", 3),
    Train("{}", b"w", "/s", Optimizer("sgdm", 0.1, {"momentum": 0.9}), 10, 2, 1, 0, 5, 0.5, True),
    Trained(b"u", 10, 4, 2.0, 1.0, 10),
    Evaluate("{}", b"w", "/d"),
    Evaluated(0.5, 0.9, 100),
    Span("{}", b"w", b"s", "/s", Optimizer("adam", 1), 10, 1, 0, 5),
    Spanned(b"w", b"s"),
    ServerStep(Optimizer("adam", 1), b"w", b"d"),
    Stepped(b"w", b"s"),
    Progress(1, 2, float("inf")),
    Failed("why", "trace", refused=True, died=True),
    Cancel(),
    Rest(True),
    Resting("load"),
    Want("ab" * 32, 5),
    Part("ab" * 32, 5, 9, b"data"),
]


def test_another_version_is_named_whatever_its_fields_are() -> None:
    older = msgpack.packb(["Hello", 0, 3, 77, {"python": "3"}, 1, 4.5, 1])
    with pytest.raises(ProtocolError, match=f"protocol version 3 instead of {PROTOCOL_VERSION}"):
        decode(older)


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda message: type(message).__name__)
def test_every_message_survives(message: Message) -> None:
    assert decode(encode(9, message)) == (9, message)


def test_every_kind_of_message_is_tried() -> None:
    from p2pml.worker import protocol

    assert {type(message).__name__ for message in ONE_OF_EACH} == set(protocol._KINDS)


@given(st.binary(max_size=60))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


@pytest.mark.parametrize(
    "parts",
    [
        [],
        ["Cancel"],
        ["Cancel", True, "x"],
        ["Cancel", 1],
        ["Cancel", 1, 2],
        ["Request", 1],
        ["Build", 1, "{}", 1.5],
        ["Build", 1, "{}", True],
        ["Hello", 0, 1, 2, {"a": 1}, 1, 1.0, 1],
        ["ServerStep", 1, ["adam", 1.0], b"", b"", b""],
        ["ServerStep", 1, ["adam", 1.0, {"x": "y"}], b"", b"", b""],
        ["ServerStep", 1, ["adam", 1.0, []], b"", b"", b""],
        {"a": 1},
    ],
)
def test_wrong_shapes_and_types_are_refused(parts: object) -> None:
    with pytest.raises(ProtocolError):
        decode(msgpack.packb(parts))
