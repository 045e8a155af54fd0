"""The extension protocol (BEP 10): terms said and heard, and what a swarm makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrent import bencode
from torrent.config import SwarmConfig
from torrent.errors import ProtocolError
from torrent.extended import MAX_CLIENT, MAX_HANDSHAKE, UT_METADATA, Terms
from torrent.geometry import BLOCK
from torrent.messages import (
    BitfieldMessage,
    Choke,
    Extended,
    HaveAll,
    Interested,
    Message,
    Unchoke,
    reserved_bytes,
)
from torrent.swarm import PieceLost, PieceVerified, SetWanted

Make = Callable[..., Any]
EXTENDED = reserved_bytes(fast=False, extended=True)
BOTH = reserved_bytes(fast=True, extended=True)

counts = st.none() | st.integers(0, 10**18)
terms = st.builds(
    Terms,
    st.dictionaries(st.just(UT_METADATA), st.integers(1, 255)),
    counts,
    counts,
    st.booleans(),
    st.text(st.characters(categories=["L", "N"]), max_size=MAX_CLIENT),
    counts,
)


def said(messages: list[Message]) -> list[Terms]:
    """The terms in extended handshakes."""
    return [Terms().updated(m.payload) for m in messages if isinstance(m, Extended) and m.number == 0]


def handshake(**terms: Any) -> Extended:
    return Extended(0, bencode.encode({key.encode(): value for key, value in terms.items()}))


# --- the dictionary


@given(terms)
def test_terms_come_back(given_terms: Terms) -> None:
    payload = given_terms.encode()
    assert Terms().updated(payload) == given_terms
    assert Terms().updated(payload).encode() == payload


def test_known_bytes() -> None:
    ours = Terms({UT_METADATA: 3}, reqq=250, metadata_size=31235, client="p2pml 0.1")
    assert ours.encode() == (
        b"d1:md11:ut_metadatai3ee13:metadata_sizei31235e4:reqqi250e11:upload_onlyi0e1:v9:p2pml 0.1e"
    )


def test_a_later_handshake_changes_what_it_names() -> None:
    first = Terms({UT_METADATA: 3}, reqq=10, metadata_size=7, upload_only=True, client="x")
    assert first.updated(b"de") == first
    assert first.updated(b"d1:md5:otheri1eee") == first
    assert first.updated(b"d1:md11:ut_metadatai0eee").ids == {}
    assert first.updated(b"d1:md11:ut_metadatai9eee").ids == {UT_METADATA: 9}
    assert first.updated(b"d11:upload_onlyi0ee") == Terms({UT_METADATA: 3}, 10, 7, False, "x")
    assert first.ids == {UT_METADATA: 3}


def test_what_is_not_spoken_is_skipped_and_not_kept() -> None:
    payload = b"d6:ipv6_x3:abc1:md6:ut_holi4e6:ut_pexi1ee1:pi6881e6:yourip4:\x7f\0\0\x01e"
    assert Terms().updated(payload) == Terms()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"x",
        b"i0e",
        b"le",
        b"d",
        b"dex",
        b"d1:v1:ae1:",
        b"d1:v1:a1:mdee",
        b"d1:mdee" + b"d1:mdee",
        b"d1:mlee",
        b"d1:mi0ee",
        b"d1:md1:ai256eee",
        b"d1:md1:ai-1eee",
        b"d1:md1:a1:1ee",
        b"d4:reqqi-1ee",
        b"d4:reqq1:1e",
        b"d4:reqqi99999999999999999999ee",
        b"d13:metadata_sizei-1ee",
        b"d13:metadata_sizelee",
        b"d11:upload_onlyi-1ee",
        b"d11:upload_only1:1e",
        b"d1:vi1ee",
        b"d11:p2pml_blocki-1ee",
        b"d11:p2pml_block1:1e",
        b"d1:a" + b"l" * 9 + b"e" * 9 + b"e",
        b"d1:v%d:" % MAX_HANDSHAKE + b"a" * MAX_HANDSHAKE + b"e",
    ],
)
def test_refuses(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        Terms().updated(payload)


def test_the_name_is_short_and_printable() -> None:
    name = Terms().updated(bencode.encode({b"v": b"a\x1b[31m\xff\n" + b"b" * 300})).client
    assert name == "a[31m\N{REPLACEMENT CHARACTER}" + "b" * (MAX_CLIENT - 6)


# --- in a swarm


def test_terms_follow_the_opening(wire: Make, content: Make) -> None:
    w = wire(content(100_000), have=[0, 3], config=SwarmConfig(max_requests=77))
    w.connect("a", reserved=EXTENDED)
    _, field, ours = w.heard("a")
    assert field == BitfieldMessage(b"\x90")
    (terms,) = said([ours])
    assert (terms.reqq, terms.upload_only, terms.client) == (77, False, "p2pml 0.1")
    w.connect("old")
    assert not said(w.heard("old"))


def test_the_terms_are_shown(wire: Make, content: Make) -> None:
    w = wire(content(100_000))
    w.connect("a", reserved=EXTENDED)
    w.say("a", handshake(v=b"other 1.0", upload_only=1))
    (peer,) = w.swarm.stats(w.now).peers
    assert (peer.client, peer.upload_only) == ("other 1.0", True)


@pytest.mark.parametrize("terms_first", [True, False])
def test_terms_may_come_before_the_pieces(wire: Make, content: Make, terms_first: bool) -> None:
    w = wire(content(100_000))
    w.connect("a", reserved=BOTH)
    w.say("a", *([handshake(), HaveAll()] if terms_first else [HaveAll(), handshake()]))
    assert not w.drops()
    assert Interested() in w.heard("a")


def test_offences(wire: Make, content: Make) -> None:
    w = wire(content(100_000))
    w.connect("old")
    w.connect("bad", reserved=EXTENDED)
    w.say("old", handshake())
    w.say("bad", Extended(0, b"dx"))
    assert [(d.peer, d.reason) for d in w.drops()] == [
        ("old", "extended message without the extension protocol"),
        ("bad", "extended handshake: malformed value at byte 1"),
    ]
    off = wire(content(100_000), config=SwarmConfig(extended=False))
    off.connect("a", reserved=EXTENDED)
    off.say("a", handshake())
    assert len(off.drops()) == 1


def test_unknown_extended_messages_are_skipped(wire: Make, content: Make) -> None:
    w = wire(content(100_000))
    w.connect("a", reserved=EXTENDED)
    w.heard("a")
    w.say("a", Extended(77, b"\xff\xff"), handshake(m={b"ut_pex": 1}), Extended(78, b""))
    assert not w.heard("a")
    assert not w.drops()


def test_requests_are_bounded_by_the_peers_queue(wire: Make, content: Make) -> None:
    w = wire(content(64 * BLOCK, piece_length=64 * BLOCK), config=SwarmConfig(min_depth=16))
    w.connect("a", [0], reserved=EXTENDED)
    w.say("a", handshake(reqq=3), Unchoke())
    waiting = w.requests("a")
    assert len(waiting) == 3
    for _ in range(20):
        w.give("a", waiting.pop(0))
        waiting += w.requests("a")
        assert len(waiting) == 3
    w.say("a", handshake(reqq=5))
    w.wait(1)
    for _ in range(10):
        w.give("a", waiting.pop(0))
        waiting += w.requests("a")
    assert len(waiting) == 5


def test_who_fetches_nothing_says_so_and_takes_it_back(wire: Make, content: Make) -> None:
    w = wire(content(BLOCK, BLOCK, piece_length=BLOCK), wanted=[0])
    w.connect("a", reserved=EXTENDED)
    assert [t.upload_only for t in said(w.heard("a"))] == [False]
    w.do(PieceVerified(0))
    assert [t.upload_only for t in said(w.heard("a"))] == [True]
    w.do(SetWanted(None))
    assert [t.upload_only for t in said(w.heard("a"))] == [False]
    w.do(PieceVerified(1))
    assert [t.upload_only for t in said(w.heard("a"))] == [True]
    w.connect("b", reserved=EXTENDED)
    assert [t.upload_only for t in said(w.heard("b"))] == [True]
    w.do(PieceLost(0))
    assert [t.upload_only for t in said(w.heard("b"))] == [False]
    w.do(SetWanted(None))
    assert not said(w.heard("b"))


def test_who_fetches_nothing_is_offered_nothing(wire: Make, content: Make) -> None:
    w = wire(content(100_000), have=range(4))
    w.connect("a", reserved=EXTENDED)
    w.say("a", handshake(upload_only=1), Interested())
    w.wait(30)
    assert Unchoke() not in w.heard("a")
    w.say("a", handshake(upload_only=0))
    assert Unchoke() in w.heard("a")
    w.say("a", handshake(upload_only=1))
    w.wait(11)
    assert Choke() in w.heard("a")


def test_two_seeds_part(wire: Make, content: Make) -> None:
    w = wire(content(2 * BLOCK, piece_length=BLOCK), have=[0])
    w.connect("seed", reserved=BOTH)
    w.say("seed", HaveAll(), handshake(upload_only=1))
    w.connect("old seed", [0, 1])
    w.connect("partial", [0], reserved=EXTENDED)
    w.say("partial", handshake(upload_only=1))
    w.connect("silent", [0, 1], reserved=EXTENDED)
    w.wait(5)
    assert not w.drops()
    w.do(PieceVerified(1))
    assert not w.drops()
    w.wait(1)
    assert [(d.peer, d.reason, d.banned) for d in w.drops()] == [("seed", "both are seeds", False)]


def test_a_partial_seed_keeps_its_peers(wire: Make, content: Make) -> None:
    """It may want more later, and then needs them."""
    w = wire(content(BLOCK, BLOCK, piece_length=BLOCK), have=[0], wanted=[0])
    w.connect("seed", reserved=BOTH)
    w.say("seed", HaveAll(), handshake(upload_only=1))
    w.wait(10)
    assert not w.drops()
