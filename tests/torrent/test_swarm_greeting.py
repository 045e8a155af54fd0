"""How a connection begins, and what ends it at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from torrent.errors import LocalError
from torrent.geometry import Block
from torrent.messages import (
    BitfieldMessage,
    Cancel,
    Handshake,
    Have,
    Interested,
    KeepAlive,
    Message,
    NotInterested,
    Piece,
    Request,
    Unchoke,
    Unknown,
)
from torrent.swarm import (
    BytesReceived,
    PeerConnected,
    PieceVerified,
)

Make = Callable[..., Any]


def kinds(messages: list[Message]) -> list[type]:
    return [type(message) for message in messages]


def test_the_greeting(wire: Make, content: Make) -> None:
    w = wire(content(100_000), have=[0, 3])
    w.connect("a", greet=False)
    (hello,) = w.heard("a")
    assert isinstance(hello, Handshake)
    assert hello.info_hash == w.content.metainfo.info_hash
    assert hello.peer_id.startswith(b"-PM")
    assert (hello.fast, hello.extended) == (True, True)
    w.say("a", Handshake(hello.info_hash, b"p" * 20))
    assert w.heard("a") == [BitfieldMessage(b"\x90")]


def test_a_piece_that_comes_before_the_greeting_is_told_once(wire: Make, content: Make) -> None:
    w = wire(content(100_000))
    w.connect("a", greet=False)
    w.do(PieceVerified(1))
    assert kinds(w.heard("a")) == [Handshake]
    w.say("a", Handshake(w.content.metainfo.info_hash, b"p" * 20))
    assert w.heard("a") == [BitfieldMessage(b"\x40")]


def test_no_bitfield_when_there_is_nothing(wire: Make, content: Make) -> None:
    w = wire(content(100_000))
    w.connect("a")
    assert kinds(w.heard("a")) == [Handshake]


def test_interest_follows_what_the_peer_has(wire: Make, content: Make) -> None:
    w = wire(content(100_000), have=[0])
    w.connect("a", [0])
    assert Interested() not in w.heard("a")
    w.say("a", Have(1))
    assert w.heard("a") == [Interested()]
    w.say("a", Unchoke())
    for block in w.requests("a"):
        w.judge(w.give("a", block))
    assert sorted(kinds(w.heard("a")), key=str) == [Have, NotInterested]


def test_a_handshake_for_another_torrent(wire: Make, content: Make) -> None:
    w = wire(content(100_000))
    w.connect("a", greet=False)
    w.say("a", Handshake(b"x" * 20, b"p" * 20))
    assert [d.reason for d in w.drops()] == ["handshake for another torrent"]


def test_a_connection_to_itself(wire: Make, content: Make) -> None:
    w = wire(content(100_000))
    w.connect("a", greet=False)
    (own,) = w.heard("a")
    w.say("a", own)
    assert [d.reason for d in w.drops()] == ["connected to itself"]


OFFENCES: list[list[Message]] = [
    [BitfieldMessage(b"")],
    [BitfieldMessage(b"\xf8\0")],
    [BitfieldMessage(b"\xff")],
    [BitfieldMessage(b"\x80"), BitfieldMessage(b"\x80")],
    [Have(0), BitfieldMessage(b"\x80")],
    [Interested(), BitfieldMessage(b"\x80")],
    [Have(4)],
    [Have(2**32 - 1)],
    [Request(Block(4, 0, 1))],
    [Request(Block(0, 0, 0))],
    [Request(Block(0, 32_768, 1))],
    [Request(Block(3, 0, 5_000))],
    [Request(Block(0, 2**32 - 1, 2))],
    [Request(Block(0, 0, 2**32 - 1))],
    [Cancel(Block(9, 0, 1))],
    [Piece(4, 0, b"x")],
    [Piece(0, 0, b"")],
    [Piece(0, 32_760, b"x" * 9)],
]


@pytest.mark.parametrize("messages", OFFENCES)
def test_offences_end_the_connection_and_nothing_else(
    wire: Make, content: Make, messages: list[Message]
) -> None:
    w = wire(content(100_000))
    w.connect("good", [0])
    w.connect("bad")
    w.say("bad", *messages)
    assert [d.peer for d in w.drops()] == ["bad"]
    assert w.swarm.peers == ("good",)
    assert w.swarm.banned == frozenset()
    assert w.say("bad", Have(0)) == []


def test_unknown_messages_and_a_late_first_bitfield_are_no_offence(wire: Make, content: Make) -> None:
    w = wire(content(100_000))
    w.connect("a")
    w.do(BytesReceived("a", b"\0\0\0\x03\x09\x1a\xe1"))
    w.say("a", KeepAlive(), BitfieldMessage(b"\x80"))
    assert not w.drops()
    assert Unknown(9) not in w.heard("a")


def test_a_peer_connects_once(wire: Make, content: Make) -> None:
    w = wire(content(100_000))
    w.connect("a")
    with pytest.raises(LocalError):
        w.do(PeerConnected("a"))
