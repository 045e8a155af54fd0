"""The info dictionary on the wire (BEP 9): messages, giving it away, fetching it for an info-hash."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrent.errors import LocalError, MetainfoError, ProtocolError
from torrent.events import (
    BytesReceived,
    Disconnect,
    PeerConnected,
    PeerDisconnected,
    Send,
)
from torrent.extended import HANDSHAKE, NUMBERS, UT_METADATA, Terms
from torrent.files import File
from torrent.geometry import BLOCK
from torrent.messages import Decoder, Extended, Handshake, Interested, Message, reserved_bytes
from torrent.metadata import COPIES, DATA, REJECT, REQUEST, MetadataMessage
from torrent.metadata_fetch import MAX_PEERS, WINDOW, MetadataFetch, MetadataFound
from torrent.metainfo import MAX_METAINFO_BYTES, Metainfo, create, plan
from torrent.swarm import Swarm

Make = Callable[..., Any]
EXTENDED = reserved_bytes(fast=False, extended=True)
OURS = NUMBERS[UT_METADATA]
THEIRS = 7


def large(parts: int = 3) -> Metainfo:
    """A torrent whose info dictionary has ``parts`` parts, the last one short."""
    pieces = (parts - 1) * BLOCK // 20 + 10
    files = plan([(("data",), pieces * BLOCK)], BLOCK)
    return create("data", files, BLOCK, random.Random(parts).randbytes(20 * pieces), single_file=True)


counts = st.integers(0, 10**18)
messages = st.one_of(
    st.builds(MetadataMessage, st.sampled_from([REQUEST, REJECT]), counts),
    st.builds(MetadataMessage, st.just(DATA), counts, st.binary(max_size=50), counts),
)


@given(messages)
def test_messages_come_back(message: MetadataMessage) -> None:
    assert MetadataMessage.decode(message.encode()) == message


def test_known_bytes() -> None:
    """The examples of BEP 9."""
    assert MetadataMessage(REQUEST, 0).encode() == b"d8:msg_typei0e5:piecei0ee"
    data = MetadataMessage(DATA, 0, b"x" * 9, 3425)
    assert data.encode() == b"d8:msg_typei1e5:piecei0e10:total_sizei3425ee" + b"x" * 9
    assert MetadataMessage(REJECT, 0).encode() == b"d8:msg_typei2e5:piecei0ee"
    assert MetadataMessage.decode(b"d8:msg_typei9e5:piecei0ee") is None
    assert MetadataMessage.decode(b"d8:msg_typei1e5:piecei2eeabc") == MetadataMessage(DATA, 2, b"abc")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"le",
        b"de",
        b"d8:msg_typei0ee",
        b"d5:piecei0ee",
        b"d8:msg_typei-1e5:piecei0ee",
        b"d8:msg_typei0e5:piecei-1ee",
        b"d8:msg_type1:05:piecei0ee",
        b"d5:piecei0e8:msg_typei0ee",
        b"d8:msg_typei0e5:piecei0eex",
        b"d8:msg_typei2e5:piecei0eex",
        b"d8:msg_typei1e5:piecei0e10:total_sizei-1ee",
        b"d8:msg_typei1e5:piecei0ee" + bytes(BLOCK + 1),
        b"d1:a300:" + bytes(300) + b"8:msg_typei0e5:piecei0ee",
    ],
)
def test_refuses(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        MetadataMessage.decode(payload)


# --- giving


def answers(messages: list[Message]) -> list[MetadataMessage | None]:
    return [MetadataMessage.decode(m.payload) for m in messages if isinstance(m, Extended) and m.number]


def ask(*parts: int) -> list[Extended]:
    return [Extended(OURS, MetadataMessage(REQUEST, part).encode()) for part in parts]


def terms(size: int | None = None) -> Extended:
    return Extended(HANDSHAKE, Terms({UT_METADATA: THEIRS}, metadata_size=size).encode())


def test_the_info_dictionary_is_given(wire: Make, content: Make) -> None:
    sample = content(BLOCK * 2000, piece_length=BLOCK)
    info = bytes(sample.metainfo.raw_info)
    w = wire(sample)
    w.connect("a", reserved=EXTENDED)
    (said,) = [m for m in w.heard("a") if isinstance(m, Extended)]
    told = Terms().updated(said.payload)
    assert (told.ids, told.metadata_size) == ({UT_METADATA: OURS}, len(info))
    w.say("a", *ask(0))
    assert not w.heard("a")  # it has not said how to answer
    w.say("a", terms(), *ask(2, 0, 1, 3))
    heard = w.heard("a")
    assert {m.number for m in heard} == {THEIRS}
    assert answers(heard) == [
        MetadataMessage(DATA, 2, info[2 * BLOCK :], len(info)),
        MetadataMessage(DATA, 0, info[:BLOCK], len(info)),
        MetadataMessage(DATA, 1, info[BLOCK : 2 * BLOCK], len(info)),
        MetadataMessage(REJECT, 3),
    ]
    w.say("a", *ask(10**18), Extended(OURS, MetadataMessage(DATA, 0, b"x").encode()))
    assert answers(w.heard("a")) == [MetadataMessage(REJECT, 10**18)]
    assert not w.drops()
    w.say("a", Extended(OURS, b"d"))
    assert len(w.drops()) == 1


def test_a_connection_gets_so_much_of_it_and_no_more(wire: Make, content: Make) -> None:
    w = wire(content(BLOCK * 2000, piece_length=BLOCK))
    w.connect("a", reserved=EXTENDED)
    w.say("a", terms())
    w.heard("a")
    w.say("a", *ask(*[0, 1, 2] * COPIES, 0))
    kinds = [m.kind for m in answers(w.heard("a")) if m is not None]
    assert kinds == [DATA] * 3 * COPIES + [REJECT]


def test_that_of_a_private_torrent_is_not_given(wire: Make, content: Make) -> None:
    w = wire(content(100_000, private=True))
    w.connect("a", reserved=EXTENDED)
    (said,) = [m for m in w.heard("a") if isinstance(m, Extended)]
    told = Terms().updated(said.payload)
    assert (told.ids, told.metadata_size) == ({}, None)
    w.say("a", terms(), *ask(0))
    assert not w.heard("a")


# --- fetching


class Fetching:
    """A fetch whose peers are scripted; ``parts`` of the true dictionary by ``give``."""

    def __init__(self, metainfo: Metainfo) -> None:
        self.metainfo = metainfo
        self.info = bytes(metainfo.raw_info)
        self.now = 50.0
        self.fetch = MetadataFetch(metainfo.info_hash, rng=random.Random(1), client=b"-PM0010-")
        self.effects: list[Any] = []
        self.decoders: dict[str, Decoder] = {}
        self.said: dict[str, list[Message]] = {}

    def do(self, event: Any) -> None:
        self.note(self.fetch.receive(event, self.now))

    def note(self, effects: list[Any]) -> None:
        self.effects += effects
        for effect in effects:
            if isinstance(effect, Send):
                self.said[effect.peer] += self.decoders[effect.peer].feed(effect.data)

    def say(self, peer: str, *items: Message) -> None:
        self.do(BytesReceived(peer, b"".join(item.encode() for item in items)))  # type: ignore[union-attr]

    def connect(self, peer: str, size: int | None = -1, reserved: bytes = EXTENDED) -> None:
        self.decoders[peer], self.said[peer] = Decoder(), []
        self.do(PeerConnected(peer))
        self.say(peer, Handshake(self.metainfo.info_hash, peer.encode().ljust(20), reserved))
        if reserved == EXTENDED:
            self.say(peer, Interested(), terms(len(self.info) if size == -1 else size))

    def asked(self, peer: str) -> list[int]:
        """Parts that the peer was asked for since the last call."""
        heard, self.said[peer] = self.said[peer], []
        found = [m for m in heard if isinstance(m, Extended) and m.number == THEIRS]
        parts = [MetadataMessage.decode(m.payload) for m in found]
        assert all(part is not None and part.kind == REQUEST for part in parts)
        return [part.piece for part in parts if part is not None]

    def give(self, peer: str, part: int, flip: bool = False) -> None:
        data = bytearray(self.info[part * BLOCK : (part + 1) * BLOCK])
        data[0] ^= flip
        self.say(peer, Extended(OURS, MetadataMessage(DATA, part, bytes(data), len(self.info)).encode()))

    def drops(self) -> list[tuple[str, str, bool]]:
        return [(e.peer, e.reason, e.banned) for e in self.effects if isinstance(e, Disconnect)]

    @property
    def found(self) -> list[MetadataFound]:
        return [e for e in self.effects if isinstance(e, MetadataFound)]


def test_it_is_fetched_from_a_swarm(content: Make) -> None:
    """The two machines, each as it is."""
    metainfo = large(40)
    swarm = Swarm(metainfo, [], rng=random.Random(2))
    fetch = MetadataFetch(metainfo.info_hash, rng=random.Random(1), client=b"-PM0010-")
    todo = [("swarm", e) for e in swarm.receive(PeerConnected("f"), 0.0)]
    todo += [("fetch", e) for e in fetch.receive(PeerConnected("s"), 0.0)]
    found = None
    while todo and found is None:
        by, effect = todo.pop(0)
        if isinstance(effect, Send) and by == "swarm":
            todo += [("fetch", e) for e in fetch.receive(BytesReceived("s", effect.data), 0.0)]
        elif isinstance(effect, Send):
            todo += [("swarm", e) for e in swarm.receive(BytesReceived("f", effect.data), 0.0)]
        elif isinstance(effect, MetadataFound):
            found = effect
    assert found is not None
    assert Metainfo.parse(found.metainfo()).files == (File(("data",), metainfo.total_length, 0),)
    assert found.info == metainfo.raw_info == fetch.found


def test_parts_are_asked_for_in_a_window_and_may_come_in_any_order() -> None:
    f = Fetching(large(WINDOW + 4))
    f.connect("a")
    assert f.asked("a") == list(range(WINDOW))
    for part in reversed(range(WINDOW)):
        f.give("a", part)
    assert f.asked("a") == list(range(WINDOW, WINDOW + 4))
    for part in range(WINDOW, WINDOW + 4):
        assert not f.found
        f.give("a", part)
    assert f.found[0].info == f.info
    assert f.drops() == [("a", "metadata is complete", False)]
    assert f.fetch.peers == ()
    assert f.fetch.deadline() is None
    f.connect("late", reserved=bytes(8))
    assert f.drops()[1:] == [("late", "not needed", False)]


def test_a_liar_is_known_and_the_next_one_asked() -> None:
    f = Fetching(large(2))
    f.connect("liar")
    f.connect("honest")
    assert (f.asked("liar"), f.asked("honest")) == ([0, 1], [])
    f.give("liar", 0, flip=True)
    f.give("liar", 1)
    assert f.drops() == [("liar", "sent false metadata", True)]
    assert f.asked("honest") == [0, 1]
    f.give("honest", 1)
    f.give("honest", 0)
    assert f.found[0].info == f.info


@pytest.mark.parametrize("way", ["rejects", "leaves", "is silent"])
def test_who_does_not_give_it_is_left(way: str) -> None:
    f = Fetching(large(2))
    f.connect("a")
    f.connect("b")
    f.give("a", 0)
    if way == "rejects":
        f.say("a", Extended(OURS, MetadataMessage(REJECT, 1).encode()))
    elif way == "leaves":
        f.do(PeerDisconnected("a"))
    else:
        deadline = f.fetch.deadline()
        assert deadline == 70.0
        f.now = 69.9
        f.note(f.fetch.tick(f.now))
        assert not f.asked("b")
        f.now = deadline
        f.note(f.fetch.tick(f.now))
    assert f.fetch.peers == ("b",)
    assert f.drops() == ([] if way == "leaves" else [("a", "gave no metadata", False)])
    assert f.asked("b") == [0, 1]


def test_who_says_nothing_is_left_and_who_waits_is_not() -> None:
    f = Fetching(large(2))
    f.connect("a")
    f.connect("waits")
    f.connect("old", reserved=bytes(8))
    assert f.drops() == [("old", "speaks no extensions", False)]
    f.connect("says nothing", size=None)
    assert f.drops()[1:] == [("says nothing", "has no metadata", False)]
    f.now += 19
    f.give("a", 0)
    f.now += 19
    f.note(f.fetch.tick(f.now))
    assert f.fetch.peers == ("a", "waits")


@pytest.mark.parametrize(
    ("size", "messages", "reason"),
    [
        (0, [], "has no metadata"),
        (MAX_METAINFO_BYTES + 1, [], "metadata of 10000001 bytes"),
        (-1, [Extended(OURS, MetadataMessage(DATA, 5, b"x").encode())], "sends metadata that was not ask"),
        (-1, [Extended(OURS, MetadataMessage(REJECT, 5).encode())], "sends metadata that was not asked f"),
        (-1, [Extended(OURS, MetadataMessage(DATA, 0, b"x").encode())], "metadata part of 1 bytes"),
        (-1, [Extended(OURS, b"x")], "metadata message: malformed value at byte 0"),
        (-1, [Extended(HANDSHAKE, b"x")], "extended handshake: malformed value at byte 0"),
        (-1, [Extended(77, b"x"), Extended(HANDSHAKE, b"x")], "extended handshake: malformed"),
    ],
)
def test_offences(size: int, messages: list[Message], reason: str) -> None:
    f = Fetching(large(2))
    f.connect("a", size)
    if messages:
        f.say("a", *messages)
    ((peer, said, banned),) = f.drops()
    assert (peer, said[: len(reason)], banned) == ("a", reason, False)
    assert f.fetch.peers == ()


def test_handshakes_that_end_the_connection() -> None:
    f = Fetching(large(2))
    for peer in ("self", "other"):
        f.decoders[peer], f.said[peer] = Decoder(), []
        f.do(PeerConnected(peer))
    (own,) = f.said["self"]
    assert isinstance(own, Handshake)
    f.say("self", own)
    f.say("other", Handshake(bytes(20), b"p" * 20, EXTENDED))
    assert f.drops() == [
        (peer, "handshake for another torrent, or of ourselves", False) for peer in ("self", "other")
    ]


def test_a_size_that_changes_later_changes_nothing() -> None:
    f = Fetching(large(3))
    f.connect("a")
    assert f.asked("a") == [0, 1, 2]
    f.say("a", terms(2**60))
    for part in range(3):
        f.give("a", part)
    assert f.found[0].info == f.info


def test_peers_are_bounded() -> None:
    f = Fetching(large(2))
    for n in range(MAX_PEERS):
        f.connect(f"p{n}")
    f.do(PeerConnected("one more"))
    assert f.drops() == [("one more", "not needed", False)]
    with pytest.raises(LocalError):
        f.do(PeerConnected("p0"))


def test_what_was_found_may_still_be_no_torrent() -> None:
    with pytest.raises(MetainfoError):
        Metainfo.parse(MetadataFound(b"d1:a1:be").metainfo())
