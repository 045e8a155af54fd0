"""The fast extension (BEP 6): every request has its answer, and newcomers get something while choked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from torrent import peer as peer_module
from torrent.config import SwarmConfig
from torrent.errors import LocalError
from torrent.fast import MAX_NETWORKS, Grants, allowed_fast
from torrent.geometry import BLOCK, Block
from torrent.messages import (
    AllowedFast,
    BitfieldMessage,
    Cancel,
    Choke,
    Have,
    HaveAll,
    HaveNone,
    Interested,
    Message,
    Piece,
    Reject,
    Request,
    Suggest,
    Unchoke,
    reserved_bytes,
)
from torrent.peer import MAX_ALLOWED
from torrent.swarm import BlockRead, BlockReadFailed, BytesSent, PeerDisconnected, ReadBlock, SetWanted

Make = Callable[..., Any]
FAST = reserved_bytes(fast=True, extended=False)
ALONE = SwarmConfig(endgame_copies=1)
"""Without the endgame: a block is asked of one peer at a time."""


def reads(effects: list[Any]) -> list[Block]:
    return [Block(e.index, e.begin, e.length) for e in effects if isinstance(e, ReadBlock)]


def rejects(messages: list[Message]) -> list[Block]:
    return [m.block for m in messages if isinstance(m, Reject)]


# --- the allowed-fast set


def test_the_published_sets() -> None:
    """BEP 6's examples: 1313 pieces, info-hash of bytes 0xaa, 80.4.4.200."""
    found = [1059, 431, 808, 1217, 287, 376, 1188, 353, 508]
    assert allowed_fast(b"\xaa" * 20, "80.4.4.200", 1313, 7) == found[:7]
    assert allowed_fast(b"\xaa" * 20, "80.4.4.200", 1313, 9) == found


@given(st.binary(min_size=20, max_size=20), st.integers(1, 60), st.integers(0, 20), st.integers(0, 255))
def test_the_set_in_general(info_hash: bytes, pieces: int, count: int, last: int) -> None:
    found = allowed_fast(info_hash, "192.0.2.7", pieces, count)
    assert len(set(found)) == len(found) == min(pieces, count)
    assert all(0 <= index < pieces for index in found)
    assert found == allowed_fast(info_hash, f"192.0.2.{last}", pieces, count)


@pytest.mark.parametrize("address", ["", "::1", "1.2.3", "1.2.3.256", "host"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(LocalError):
        allowed_fast(bytes(20), address, 10, 3)


def test_networks_are_counted_apart_and_in_bounded_number() -> None:
    grants = Grants(bytes(20), 10, SwarmConfig(allowed_fast_bytes=100))
    assert grants.spend("192.0.2.1", 60)
    assert not grants.spend("192.0.2.2", 60)
    assert grants.spend("192.0.2.2", 40)
    assert grants.spend("192.0.3.1", 100)
    for n in range(MAX_NETWORKS - 1):
        assert grants.spend(f"10.{n >> 8}.{n & 255}.1", 1)
    assert not grants.spend("192.0.3.1", 1)
    assert grants.spend("192.0.2.1", 100)


# --- what there is at the start


@pytest.mark.parametrize(
    ("have", "fast", "old"),
    [
        ([], [HaveNone()], []),
        ([0, 3], [BitfieldMessage(b"\x90")], [BitfieldMessage(b"\x90")]),
        (range(4), [HaveAll()], [BitfieldMessage(b"\xf0")]),
    ],
)
def test_the_opening(
    wire: Make, content: Make, have: list[int], fast: list[Message], old: list[Message]
) -> None:
    w = wire(content(100_000), have=have)
    w.connect("fast", reserved=FAST)
    w.connect("old")
    assert w.heard("fast")[1:] == fast
    assert w.heard("old")[1:] == old
    silent = wire(content(100_000), have=have, config=SwarmConfig(fast=False, extended=False))
    silent.connect("fast", reserved=FAST)
    hello, *rest = silent.heard("fast")
    assert hello.reserved == bytes(8)
    assert rest == old


def test_have_all_and_have_none_are_believed(wire: Make, content: Make) -> None:
    w = wire(content(100_000))
    w.connect("all", reserved=FAST)
    w.connect("none", reserved=FAST)
    w.say("all", HaveAll())
    w.say("none", HaveNone())
    assert Interested() in w.heard("all")
    assert Interested() not in w.heard("none")
    assert [peer.pieces for peer in w.swarm.stats(w.now).peers] == [4, 0]
    w.say("none", Have(2))
    assert Interested() in w.heard("none")


OFFENCES: list[list[Message]] = [
    [HaveAll(), HaveAll()],
    [HaveAll(), HaveNone()],
    [HaveNone(), BitfieldMessage(b"\xf0")],
    [BitfieldMessage(b"\xf0"), HaveAll()],
    [Have(0), HaveNone()],
    [Choke(), HaveAll()],
    [Suggest(4)],
    [AllowedFast(4)],
    [AllowedFast(2**32 - 1)],
    [Reject(Block(0, 0, BLOCK))],
    [Reject(Block(9, 0, BLOCK))],
    [Reject(Block(0, 0, 2**32 - 1))],
    [Piece(0, 0, b"x")],
]


@pytest.mark.parametrize("messages", OFFENCES)
def test_offences(wire: Make, content: Make, messages: list[Message]) -> None:
    w = wire(content(100_000))
    w.connect("good", [0])
    w.connect("bad", reserved=FAST)
    assert not w.drops()
    w.say("bad", *messages)
    assert [d.peer for d in w.drops()] == ["bad"]
    assert w.swarm.peers == ("good",)


@pytest.mark.parametrize(
    "message", [Suggest(0), HaveAll(), HaveNone(), Reject(Block(0, 0, BLOCK)), AllowedFast(0)]
)
@pytest.mark.parametrize("ours", [True, False])
def test_without_negotiation_each_is_an_offence(
    wire: Make, content: Make, message: Message, ours: bool
) -> None:
    w = wire(content(100_000), config=SwarmConfig(fast=ours))
    w.connect("a", reserved=bytes(8) if ours else FAST)
    w.say("a", Unchoke())
    w.say("a", message)
    assert len(w.drops()) == 1
    assert w.drops()[0].reason.endswith("without the fast extension")


def test_a_suggestion_is_taken_note_of_by_nobody(wire: Make, content: Make) -> None:
    w = wire(content(100_000))
    w.connect("a", reserved=FAST)
    w.heard("a")
    assert w.say("a", Suggest(2)) == []
    assert not w.drops()


# --- what we asked for


def test_a_choke_leaves_the_requests_and_a_reject_frees_them_at_once(wire: Make, content: Make) -> None:
    w = wire(content(30_000), config=ALONE)
    w.connect("a", reserved=FAST)
    w.connect("b", [0])
    w.say("a", HaveAll(), Unchoke())
    first, second = w.requests("a")
    w.say("b", Unchoke())
    w.say("a", Choke())
    assert not w.requests("b")
    assert w.swarm.stats(w.now).peers[0].outstanding == 2
    w.say("a", Reject(first))
    assert w.requests("b") == [first]
    assert not w.requests("a")
    w.give("a", second)
    w.judge(w.give("b", first))
    assert w.swarm.stats(w.now).sources == {"a": second.length, "b": first.length}
    assert not w.drops()


def test_a_request_is_rejected_once(wire: Make, content: Make) -> None:
    w = wire(content(30_000), config=ALONE)
    w.connect("a", reserved=FAST)
    w.say("a", HaveAll(), Unchoke())
    first, second = w.requests("a")
    w.say("a", Choke(), Reject(first), Reject(second))
    assert not w.drops()
    w.say("a", Reject(second))
    assert [d.reason for d in w.drops()] == ["rejects what it was not asked for"]


def test_what_is_rejected_without_a_choke_is_left_alone_for_a_while(wire: Make, content: Make) -> None:
    w = wire(content(4 * BLOCK, piece_length=2 * BLOCK), config=SwarmConfig(refusal=15.0))
    w.connect("a", reserved=FAST)
    w.say("a", HaveAll(), Unchoke())
    asked = w.requests("a")
    assert len(asked) == 4
    for block in asked:
        w.say("a", Reject(block))
    assert not w.requests("a")
    w.wait(14)
    assert not w.requests("a")
    w.wait(2)
    assert sorted(w.requests("a")) == sorted(asked)
    assert not w.drops()


def test_what_is_rejected_is_not_asked_again_in_the_endgame(wire: Make, content: Make) -> None:
    w = wire(content(2 * BLOCK, piece_length=2 * BLOCK))
    for peer in ("a", "b"):
        w.connect(peer, reserved=FAST)
        w.say(peer, HaveAll(), Unchoke())
    first, _ = w.requests("a")
    assert first in w.requests("b")
    w.say("a", Reject(first))
    w.wait(3)
    assert not w.requests("a")
    w.give("b", first)
    assert not w.drops()


@pytest.mark.parametrize("choke_first", [True, False])
def test_after_the_next_unchoke_it_is_asked_again(wire: Make, content: Make, choke_first: bool) -> None:
    w = wire(content(2 * BLOCK, piece_length=2 * BLOCK))
    w.connect("a", reserved=FAST)
    w.say("a", HaveAll(), Unchoke())
    asked = w.requests("a")
    no = [Reject(block) for block in asked]
    for message in [Choke(), *no] if choke_first else [*no, Choke()]:
        w.say("a", message)
    assert not w.requests("a")
    w.say("a", Unchoke())
    assert sorted(w.requests("a")) == sorted(asked)


@pytest.mark.parametrize("answer", ["block", "reject"])
def test_a_cancelled_request_has_one_answer_too(wire: Make, content: Make, answer: str) -> None:
    w = wire(content(2 * BLOCK, piece_length=2 * BLOCK))
    w.connect("a", reserved=FAST)
    w.connect("b", [0])
    w.say("a", HaveAll(), Unchoke())
    first, _ = w.requests("a")
    w.say("b", Unchoke())
    w.give("b", first)
    assert w.heard("a") == [Cancel(first)]
    for _ in range(2):
        assert not w.drops()
        if answer == "block":
            w.give("a", first)
        else:
            w.say("a", Reject(first))
    assert [d.peer for d in w.drops()] == ["a"]


def test_two_requests_of_a_block_have_two_answers(wire: Make, content: Make) -> None:
    """One is given up after the time-out and made again; the peer then wakes."""
    w = wire(content(2 * BLOCK, piece_length=2 * BLOCK))
    w.connect("a", reserved=FAST)
    w.say("a", HaveAll(), Unchoke())
    first, second = w.requests("a")
    w.wait(21)
    (again,) = w.requests("a")
    other = second if again == first else first
    w.say("a", Reject(again))
    w.judge(w.give("a", again))
    w.judge(w.give("a", other))
    assert w.swarm.complete
    assert not w.drops()


def test_a_suspect_piece_is_not_left_with_a_peer_that_chokes(wire: Make, content: Make) -> None:
    """A piece that failed from several comes from one peer only; it must not wait for that one's unchoke."""
    w = wire(content(2 * BLOCK, piece_length=2 * BLOCK), config=replace(ALONE, min_depth=1, max_depth=1))
    for peer in ("a", "b"):
        w.connect(peer, reserved=FAST)
        w.say(peer, HaveAll(), Unchoke())
    (first,), (second,) = w.requests("a"), w.requests("b")
    w.judge(w.give("a", first, flip=True))
    w.judge(w.give("b", second))
    asked = {peer: w.requests(peer) for peer in ("a", "b")}
    (solo,) = [peer for peer, blocks in asked.items() if blocks]
    w.say(solo, Choke())
    w.give(solo, asked[solo][0])
    w.wait(2)
    assert len(w.requests("b" if solo == "a" else "a")) == 1
    assert not w.drops()


def test_three_requests_of_a_block_that_were_given_up_have_three_answers(wire: Make, content: Make) -> None:
    w = wire(content(BLOCK, piece_length=BLOCK))
    w.connect("a", reserved=FAST)
    w.say("a", HaveAll(), Unchoke())
    (block,) = w.requests("a")
    for _ in range(2):
        w.wait(21)
        assert w.requests("a") == [block]
    w.say("a", *[Reject(block)] * 3)
    assert not w.drops()
    w.say("a", Reject(block))
    assert len(w.drops()) == 1


def test_requests_beyond_memory_have_answers_that_are_no_offence(
    wire: Make, content: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_module, "MAX_CALLED_OFF", 1)
    w = wire(content(4 * BLOCK, piece_length=4 * BLOCK))
    w.connect("a", reserved=FAST)
    w.say("a", HaveAll(), Unchoke())
    asked = w.requests("a")
    w.do(SetWanted(frozenset()))
    w.say("a", *map(Reject, asked))
    assert not w.drops()
    w.say("a", Reject(asked[0]))
    assert len(w.drops()) == 1


def test_a_peer_can_allow_a_bounded_number_of_pieces(wire: Make, content: Make) -> None:
    count = 2 * MAX_ALLOWED
    w = wire(content(count * BLOCK, piece_length=BLOCK), config=SwarmConfig(min_depth=count))
    w.connect("a", reserved=FAST)
    w.say("a", HaveAll(), *map(AllowedFast, range(count)))
    assert {block.piece for block in w.requests("a")} == set(range(MAX_ALLOWED))


def test_a_block_that_is_asked_for_anew_while_the_first_request_waits(wire: Make, content: Make) -> None:
    """The piece was given up by a choke and begun again with the same peer: two requests, two answers."""
    w = wire(content(3 * BLOCK, piece_length=3 * BLOCK), config=replace(ALONE, min_depth=2, max_depth=2))
    for peer in ("a", "b"):
        w.connect(peer, reserved=FAST)
        w.say(peer, HaveAll(), Unchoke())
    for peer, blocks in [(peer, w.requests(peer)) for peer in ("a", "b")]:
        for block in blocks:
            w.judge(w.give(peer, block, flip=peer == "b"))
    asked = {peer: w.requests(peer) for peer in ("a", "b")}
    ((solo, (first, second)),) = [(peer, blocks) for peer, blocks in asked.items() if blocks]
    w.do(PeerDisconnected("b" if solo == "a" else "a"))
    w.say(solo, Choke())
    w.give(solo, second)
    w.say(solo, Unchoke())
    assert w.requests(solo) == [first]
    w.say(solo, Reject(first))
    w.say(solo, Reject(first))
    assert not w.drops()
    w.say(solo, Reject(first))
    assert len(w.drops()) == 1


# --- what we are asked for


def seeding(wire: Make, content: Make, **options: Any) -> Any:
    return wire(content(8 << 20, piece_length=1 << 20), have=range(8), **options)


def test_a_choke_rejects_what_is_queued_and_read(wire: Make, content: Make) -> None:
    config = SwarmConfig(upload_slots=1, optimistic_slots=0, send_buffer=2 * BLOCK, seed_quota=0)
    w = seeding(wire, content, config=config)
    w.connect("a", reserved=FAST)
    w.say("a", Interested())
    w.do(BytesSent("a", 10_000))
    w.connect("b", reserved=FAST)
    w.say("b", Interested())
    blocks = [Block(0, n * BLOCK, BLOCK) for n in range(5)]
    assert reads(w.say("a", *map(Request, blocks))) == blocks[:2]
    w.heard("a")
    w.wait(11)
    heard = w.heard("a")
    assert heard[0] == Choke()
    assert rejects(heard) == blocks
    assert Unchoke() in w.heard("b")
    for block in blocks[:2]:
        assert w.do(BlockRead("a", block.piece, block.begin, w.content.block(block))) == []
    assert w.do(BytesSent("a", 10 * BLOCK)) == []


def test_requests_that_cannot_be_served_are_rejected(wire: Make, content: Make) -> None:
    w = wire(content(100_000), have=[0])
    w.connect("a", reserved=FAST)
    w.heard("a")
    here, missing = Block(0, 0, BLOCK), Block(1, 0, BLOCK)
    assert not reads(w.say("a", Request(here)))
    assert w.heard("a") == [Reject(here)]
    w.say("a", Interested())
    assert not reads(w.say("a", Request(missing)))
    assert w.heard("a") == [Unchoke(), Reject(missing)]
    assert reads(w.say("a", Request(here)))
    w.do(BlockReadFailed("a", 0, 0, BLOCK))
    assert w.heard("a") == [Reject(here)]
    assert reads(w.say("a", Request(here)))
    w.say("a", Request(here))  # once more while the first is under way
    assert w.heard("a") == [Reject(here)]
    w.say("a", Cancel(here))
    assert w.heard("a") == [Reject(here)]
    w.do(BlockRead("a", 0, 0, w.content.block(here)))
    w.say("a", Cancel(here))
    assert not w.heard("a")
    assert not w.drops()


def test_an_old_peer_is_rejected_nothing(wire: Make, content: Make) -> None:
    w = wire(content(100_000), have=[0])
    w.connect("a")
    w.say("a", Request(Block(0, 0, BLOCK)), Interested(), Request(Block(1, 0, BLOCK)))
    w.say("a", Request(Block(0, 0, BLOCK)), Cancel(Block(0, 0, BLOCK)))
    assert not rejects(w.heard("a"))


steps = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 5)),
        st.tuples(st.just("cancel"), st.integers(0, 5)),
        st.tuples(st.sampled_from(["read", "fail", "sent"]), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.integers(1, 5)),
        st.tuples(st.sampled_from(["want", "tire"]), st.just(0)),
    ),
    max_size=40,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(steps)
def test_each_request_has_exactly_one_answer(
    wire: Make, content: Make, actions: list[tuple[str, int]]
) -> None:
    """Whatever is asked, cancelled, choked, read or unreadable, and in whatever order."""
    config = SwarmConfig(
        upload_slots=1, optimistic_slots=0, send_buffer=2 * BLOCK, seed_quota=0, choke_round=5.0
    )
    w = wire(content(6 * BLOCK, piece_length=2 * BLOCK), have=[0, 1], config=config)
    w.connect("a", reserved=FAST, ipv4="192.0.2.7")
    w.connect("rival", reserved=FAST)
    w.say("a", HaveNone(), Interested())
    w.say("rival", Interested())
    asked: Counter[Block] = Counter()
    pending: list[Block] = []
    for action, number in [*actions, *[("sent", 0), ("read", 0)] * 40]:
        block = Block(number // 2, number % 2 * BLOCK, BLOCK)
        effects: list[Any] = []
        before = len(w.effects)
        match action:
            case "ask":
                asked[block] += 1
                effects = w.say("a", Request(block))
            case "cancel":
                effects = w.say("a", Cancel(block))
            case "sent":
                effects = w.do(BytesSent("a", 1 << 20))
            case "wait":
                w.wait(number)
                effects = w.effects[before:]
            case "want" | "tire":
                effects = w.say("rival", Interested())
            case _ if pending:
                read = pending.pop(number % len(pending))
                data = w.content.block(read)
                right = BlockRead("a", read.piece, read.begin, data)
                wrong = BlockReadFailed("a", read.piece, read.begin, read.length)
                effects = w.do(right if action == "read" else wrong)
        pending += reads([e for e in effects if getattr(e, "peer", "") == "a"])
    answers = Counter(
        m.block if isinstance(m, Reject) else Block(m.index, m.begin, len(m.data))
        for m in w.heard("a")
        if isinstance(m, Reject | Piece)
    )
    assert not w.drops()
    assert not pending
    assert answers == asked


# --- while choked


def granted(messages: list[Message]) -> list[int]:
    return [m.index for m in messages if isinstance(m, AllowedFast)]


def test_a_newcomer_is_served_while_it_is_choked(wire: Make, content: Make) -> None:
    w = wire(content(40 * BLOCK, piece_length=BLOCK), have=range(30))
    everything = allowed_fast(w.content.metainfo.info_hash, "192.0.2.7", 40, 10)
    expected = [index for index in everything if index < 30]
    w.connect("a", reserved=FAST, ipv4="192.0.2.7")
    assert not granted(w.heard("a"))
    w.say("a", HaveNone())
    assert granted(w.heard("a")) == expected
    block = Block(expected[0], 0, BLOCK)
    assert reads(w.say("a", Request(block))) == [block]
    w.do(BlockRead("a", block.piece, 0, w.content.block(block)))
    assert w.heard("a") == [Piece(block.piece, 0, w.content.block(block))]
    other = Block(next(i for i in range(30) if i not in expected), 0, BLOCK)
    assert not reads(w.say("a", Request(other)))
    assert w.heard("a") == [Reject(other)]


def test_what_is_granted_outlives_a_choke(wire: Make, content: Make) -> None:
    config = SwarmConfig(upload_slots=1, optimistic_slots=0, send_buffer=BLOCK, seed_quota=0)
    w = wire(content(4 * BLOCK, piece_length=BLOCK), have=range(4), config=config)
    w.connect("a", reserved=FAST, ipv4="192.0.2.7")
    w.say("a", HaveNone(), Interested())
    w.do(BytesSent("a", 10_000))
    w.connect("b", reserved=FAST)
    w.say("b", Interested())
    w.say("a", *(Request(Block(n, 0, BLOCK)) for n in range(4)))
    w.wait(11)
    heard = w.heard("a")
    assert Choke() in heard
    assert not rejects(heard)


@pytest.mark.parametrize(
    ("reserved", "ipv4", "opening"),
    [
        (FAST, None, HaveNone()),
        (bytes(8), "192.0.2.7", BitfieldMessage(bytes(5))),
        (FAST, "192.0.2.7", HaveAll()),
        (FAST, "192.0.2.7", BitfieldMessage(b"\xff\xc0\0\0\0")),
    ],
)
def test_who_is_granted_nothing(
    wire: Make, content: Make, reserved: bytes, ipv4: str | None, opening: Message
) -> None:
    w = wire(content(40 * BLOCK, piece_length=BLOCK), have=range(40))
    w.connect("a", reserved=reserved, ipv4=ipv4)
    w.say("a", opening)
    assert not granted(w.heard("a"))
    assert not reads(w.say("a", *(Request(Block(n, 0, BLOCK)) for n in range(40))))


def test_a_network_gets_so_much_and_no_more(wire: Make, content: Make) -> None:
    config = SwarmConfig(allowed_fast_bytes=3 * BLOCK, allowed_fast=4)
    w = wire(content(4 * BLOCK, piece_length=BLOCK), have=range(4), config=config)
    served = []
    for peer, ipv4 in (("a", "192.0.2.7"), ("b", "192.0.2.8"), ("c", "192.0.3.7")):
        w.connect(peer, reserved=FAST, ipv4=ipv4)
        w.say(peer, HaveNone())
        served.append(len(reads(w.say(peer, *(Request(Block(n, 0, BLOCK)) for n in (0, 1))))))
    assert served == [2, 1, 2]
    assert len(rejects(w.heard("b"))) == 1


def test_we_ask_for_what_a_choking_peer_allows(wire: Make, content: Make) -> None:
    w = wire(content(8 * BLOCK, piece_length=2 * BLOCK))
    w.connect("a", reserved=FAST)
    w.say("a", HaveAll())
    assert not w.requests("a")
    w.say("a", AllowedFast(2))
    first, second = w.requests("a")
    assert {first.piece, second.piece} == {2}
    w.say("a", Reject(first))
    w.wait(3)
    assert not w.requests("a")
    w.say("a", AllowedFast(2))
    assert w.requests("a") == [first]
    w.give("a", second)
    w.judge(w.give("a", first))
    assert w.swarm.have.count == 1
    w.wait(3)
    assert not w.requests("a")
    assert not w.drops()


def test_a_piece_that_the_peer_lacks_is_not_asked_for_though_allowed(wire: Make, content: Make) -> None:
    w = wire(content(8 * BLOCK, piece_length=2 * BLOCK))
    w.connect("a", reserved=FAST)
    w.say("a", BitfieldMessage(b"\x80"), AllowedFast(2))
    assert not w.requests("a")
