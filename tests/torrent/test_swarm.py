"""One swarm, scripted peers: what goes over the wire and what is asked of the store, event by event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from torrent.config import SwarmConfig
from torrent.errors import LocalError
from torrent.geometry import BLOCK, Block
from torrent.messages import (
    BitfieldMessage,
    Cancel,
    Choke,
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
    BlockRead,
    BlockReadFailed,
    BytesReceived,
    BytesSent,
    Completed,
    Disconnect,
    Halted,
    PeerConnected,
    PeerDisconnected,
    PieceFailed,
    PieceLost,
    PieceVerified,
    ReadBlock,
    Resumed,
    Send,
    SetWanted,
    VerifyAndWrite,
    WriteFailed,
)

Make = Callable[..., Any]


def kinds(messages: list[Message]) -> list[type]:
    return [type(message) for message in messages]


def reads(effects: list[Any]) -> list[Block]:
    return [Block(e.index, e.begin, e.length) for e in effects if isinstance(e, ReadBlock)]


# --- greeting


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


# --- downloading


def test_a_whole_download_from_one_peer(wire: Make, content: Make) -> None:
    w = wire(content(100_000))
    w.connect("seed", range(4))
    w.say("seed", Unchoke())
    asked = []
    while blocks := w.requests("seed"):
        asked += blocks
        for block in blocks:
            w.judge(w.give("seed", block))
    assert sorted(asked) == [
        Block(piece, begin, min(BLOCK, w.content.metainfo.piece_size(piece) - begin))
        for piece in range(4)
        for begin in range(0, w.content.metainfo.piece_size(piece), BLOCK)
    ]
    assert w.effects.count(Completed()) == 1
    assert w.swarm.complete
    assert w.swarm.have.complete
    stats = w.swarm.stats(w.now)
    assert stats.sources == {"seed": 100_000}
    assert (stats.have, stats.missing, stats.wasted) == (4, 0, 0)


def test_nothing_is_asked_while_choked_and_a_choke_frees_the_requests(wire: Make, content: Make) -> None:
    w = wire(content(30_000))
    w.connect("a", [0])
    w.connect("b", [0])
    assert not w.requests("a")
    w.say("a", Unchoke())
    asked = w.requests("a")
    assert len(asked) == 2
    w.say("b", Unchoke())
    w.heard("b")
    w.say("a", Choke())
    assert not w.requests("a")
    for block in asked:
        w.judge(w.give("b", block))
    assert w.swarm.complete
    assert w.swarm.stats(w.now).sources == {"b": 30_000}


def test_a_disconnect_in_mid_piece_sends_the_rest_elsewhere(wire: Make, content: Make) -> None:
    w = wire(content(65_536, piece_length=65_536))
    w.connect("a", [0])
    w.say("a", Unchoke())
    first, *rest = w.requests("a")
    w.give("a", first)
    w.connect("b", [0])
    w.say("b", Unchoke())
    w.heard("b")
    w.do(PeerDisconnected("a"))
    w.wait(2)
    asked = [*w.requests("b")]
    for block in rest:
        w.judge(w.give("b", block))
    assert first not in asked
    assert w.swarm.stats(w.now).sources == {"a": BLOCK, "b": 3 * BLOCK}
    assert w.swarm.complete


def test_a_stalled_peer_is_snubbed_and_its_requests_go_elsewhere(wire: Make, content: Make) -> None:
    w = wire(content(16 * BLOCK, piece_length=8 * BLOCK), config=SwarmConfig(min_depth=8))
    w.connect("slow", [0])
    w.connect("other", [0])
    w.connect("choking", [1])  # keeps the endgame away: its piece cannot be asked for yet
    w.say("slow", Unchoke())
    w.say("other", Unchoke())
    stuck = w.requests("slow")
    assert len(stuck) == 8
    assert not w.requests("other")
    w.wait(19)
    assert not w.swarm.stats(w.now).peers[0].snubbed
    assert not w.requests("other")
    w.wait(2)
    assert w.swarm.stats(w.now).peers[0].snubbed
    once_more, elsewhere = w.requests("slow"), w.requests("other")
    assert len(once_more) <= 1
    assert sorted(once_more + elsewhere) == sorted(stuck)
    for block in elsewhere:
        w.judge(w.give("other", block))
    w.wait(21)
    for block in w.requests("other"):
        w.judge(w.give("other", block))
    assert w.swarm.have.count == 1


def test_a_late_answer_of_a_snubbed_peer_still_counts(wire: Make, content: Make) -> None:
    w = wire(content(2 * BLOCK, piece_length=2 * BLOCK))
    w.connect("slow", [0])
    w.say("slow", Unchoke())
    first, second = w.requests("slow")
    w.wait(21)
    w.judge(w.give("slow", first))
    w.judge(w.give("slow", second))
    assert w.swarm.complete
    assert w.swarm.stats(w.now).wasted == 0


def test_endgame_asks_twice_and_cancels_the_loser(wire: Make, content: Make) -> None:
    w = wire(content(2 * BLOCK, piece_length=2 * BLOCK))
    w.connect("a", [0])
    w.connect("b", [0])
    w.say("a", Unchoke())
    asked = w.requests("a")
    w.say("b", Unchoke())
    assert sorted(w.requests("b")) == sorted(asked)
    w.heard("a")
    w.give("b", asked[0])
    assert w.heard("a") == [Cancel(asked[0])]
    # what was under way already is wasted but no offence
    w.give("a", asked[0])
    assert w.swarm.stats(w.now).wasted == BLOCK
    w.judge(w.give("a", asked[1]))
    assert Cancel(asked[1]) in w.heard("b")
    assert w.swarm.stats(w.now).sources == {"a": BLOCK, "b": BLOCK}
    assert not w.drops()


def test_only_the_wanted_file_is_fetched(wire: Make, content: Make) -> None:
    sample = content(40_000, 40_000, 40_000)
    files = sample.metainfo.files
    middle = [n for n, file in enumerate(files) if file.path == ("file1",)]
    w = wire(sample, wanted=middle)
    w.connect("seed", range(6))
    w.say("seed", Unchoke())
    seen = set()
    while blocks := w.requests("seed"):
        seen |= {block.piece for block in blocks}
        for block in blocks:
            w.judge(w.give("seed", block))
    assert seen == sample.metainfo.pieces_of(middle) == {2, 3}
    assert w.swarm.complete
    assert w.effects.count(Completed()) == 1
    assert not w.swarm.have.complete


def test_wanting_more_and_less_later(wire: Make, content: Make) -> None:
    sample = content(40_000, 40_000, 40_000)
    w = wire(sample, wanted=[])
    w.connect("seed", range(6))
    w.say("seed", Unchoke())
    assert w.swarm.complete
    assert Interested() not in w.heard("seed")
    w.do(SetWanted(frozenset({0})))
    assert not w.swarm.complete
    asked = w.requests("seed")
    assert {block.piece for block in asked} == {0, 1}
    w.do(SetWanted(frozenset({2})))
    heard = w.heard("seed")
    assert {m.block for m in heard if isinstance(m, Cancel)} == set(asked)
    assert {m.block.piece for m in heard if isinstance(m, Request)} == {2, 3}
    w.do(SetWanted(None))
    assert w.swarm.stats(w.now).missing == 6


def test_unsolicited_blocks_are_tolerated_up_to_a_point(wire: Make, content: Make) -> None:
    w = wire(content(100_000))
    w.connect("a")
    for _ in range(SwarmConfig().unsolicited):
        w.give("a", Block(0, 0, BLOCK))
    assert not w.drops()
    w.give("a", Block(0, 0, BLOCK))
    assert [d.reason for d in w.drops()] == ["sends blocks that were not asked for"]
    assert w.swarm.stats(w.now).have == 0


# --- lies


def test_a_piece_that_is_false_from_one_source_bans_it(wire: Make, content: Make) -> None:
    w = wire(content(2 * BLOCK, piece_length=2 * BLOCK))
    w.connect("liar", [0])
    w.say("liar", Unchoke())
    for block in w.requests("liar"):
        w.judge(w.give("liar", block, flip=True))
    assert w.drops() == [Disconnect("liar", "sent false data", banned=True)]
    assert w.swarm.banned == {"liar"}
    assert w.swarm.stats(w.now).sources == {}
    w.connect("liar", greet=False)
    assert w.effects[-1] == Disconnect("liar", "banned: it sent false data", banned=True)
    assert w.swarm.peers == ()
    w.connect("honest", [0])
    w.say("honest", Unchoke())
    for block in w.requests("honest"):
        w.judge(w.give("honest", block))
    assert w.swarm.complete


def test_a_piece_false_from_several_convicts_the_one_that_differs(wire: Make, content: Make) -> None:
    w = wire(content(2 * BLOCK, piece_length=2 * BLOCK))
    w.connect("liar", [0])
    w.connect("honest", [0])
    w.say("liar", Unchoke())
    w.say("honest", Unchoke())
    first, second = w.requests("liar")
    w.judge(w.give("liar", first, flip=True))
    w.judge(w.give("honest", second))
    assert not w.drops()
    w.heard("liar")
    again = [block for peer in ("liar", "honest") for block in w.requests(peer)]
    assert sorted(set(again)) == [first, second]
    w.do(PeerDisconnected("liar"))
    w.wait(1)
    for block in (first, second):
        w.judge(w.give("honest", block))
    assert w.swarm.complete
    assert w.swarm.banned == {"liar"}
    assert w.swarm.stats(w.now).sources == {"honest": 2 * BLOCK}


def test_after_a_shared_failure_the_piece_comes_from_one_peer(wire: Make, content: Make) -> None:
    """Whoever repeats the lie alone is convicted at once."""
    w = wire(content(2 * BLOCK, piece_length=2 * BLOCK))
    w.connect("liar", [0])
    w.connect("honest", [0])
    w.say("liar", Unchoke())
    w.say("honest", Unchoke())
    first, second = w.requests("liar")
    w.heard("honest")
    w.judge(w.give("honest", second))
    w.heard("liar")
    w.judge(w.give("liar", first, flip=True))
    asked = {peer: w.requests(peer) for peer in ("liar", "honest")}
    (only,) = [peer for peer, blocks in asked.items() if blocks]
    for block in asked[only]:
        w.judge(w.give(only, block, flip=only == "liar"))
    assert w.swarm.banned == {"liar"}


def test_a_disk_error_blames_nobody_and_halts_requests(wire: Make, content: Make) -> None:
    w = wire(content(8 * BLOCK, piece_length=BLOCK), config=SwarmConfig(min_depth=8))
    w.connect("seed", range(8))
    w.say("seed", Unchoke())
    blocks = w.requests("seed")
    w.do(PieceVerified(7))
    w.heard("seed")
    w.give("seed", blocks[0])
    assert w.do(WriteFailed(blocks[0].piece, "disk full")) == [Halted("disk full")]
    w.give("seed", blocks[1])
    assert w.do(WriteFailed(blocks[1].piece, "disk full")) == []
    w.heard("seed")
    w.wait(5)
    assert not w.requests("seed")
    assert not w.drops()
    w.say("seed", Interested())
    assert reads(w.say("seed", Request(Block(7, 0, BLOCK)))) == [Block(7, 0, BLOCK)]
    w.do(Resumed())
    asked = w.requests("seed")
    assert {blocks[0].piece, blocks[1].piece} <= {block.piece for block in asked}


def test_a_lost_piece_is_fetched_again(wire: Make, content: Make) -> None:
    w = wire(content(2 * BLOCK, piece_length=BLOCK), have=[0, 1])
    w.connect("seed", [0, 1])
    w.say("seed", Unchoke())
    assert not w.requests("seed")
    w.do(PieceLost(1))
    assert not w.swarm.complete
    (block,) = w.requests("seed")
    w.judge(w.give("seed", block))
    assert w.swarm.complete
    assert w.effects.count(Completed()) == 1


# --- uploading


def open_leecher(w: Any, peer: str = "a") -> None:
    w.connect(peer)
    w.say(peer, Interested())
    assert Unchoke() in w.heard(peer)


def test_serving_a_block(wire: Make, content: Make) -> None:
    w = wire(content(100_000), have=range(4))
    open_leecher(w)
    block = Block(1, BLOCK, BLOCK)
    assert reads(w.say("a", Request(block))) == [block]
    w.do(BlockRead("a", 1, BLOCK, w.content.block(block)))
    assert w.heard("a") == [Piece(1, BLOCK, w.content.block(block))]
    assert w.swarm.stats(w.now).served == {"a": BLOCK}


def test_nothing_is_read_for_a_choked_peer_or_of_a_missing_piece(wire: Make, content: Make) -> None:
    w = wire(content(100_000), have=[0])
    w.connect("a")
    assert not reads(w.say("a", Request(Block(0, 0, BLOCK))))
    w.say("a", Interested())
    assert not reads(w.say("a", Request(Block(1, 0, BLOCK))))
    assert reads(w.say("a", Request(Block(0, 0, BLOCK))))
    assert not w.drops()


def test_a_cancelled_request_is_not_answered(wire: Make, content: Make) -> None:
    w = wire(content(100_000), have=range(4))
    open_leecher(w)
    block = Block(0, 0, BLOCK)
    w.say("a", Request(block), Cancel(block))
    w.do(BlockRead("a", 0, 0, w.content.block(block)))
    assert not w.heard("a")


def test_an_unreadable_block_is_dropped(wire: Make, content: Make) -> None:
    w = wire(content(100_000), have=range(4))
    open_leecher(w)
    w.say("a", Request(Block(0, 0, BLOCK)))
    assert w.do(BlockReadFailed("a", 0, 0, BLOCK)) == []
    assert reads(w.say("a", Request(Block(0, 0, BLOCK))))


def test_reading_stops_while_the_peer_does_not_take_what_is_sent(wire: Make, content: Make) -> None:
    w = wire(content(8 << 20, piece_length=1 << 20), have=range(8), config=SwarmConfig(send_buffer=4 * BLOCK))
    open_leecher(w)
    w.do(BytesSent("a", 10_000))
    blocks = [Block(0, n * BLOCK, BLOCK) for n in range(20)]
    first = reads(w.say("a", *map(Request, blocks)))
    assert first == blocks[:4]
    effects = [e for b in first for e in w.do(BlockRead("a", b.piece, b.begin, w.content.block(b)))]
    assert not reads(effects)
    sent = sum(len(e.data) for e in effects if isinstance(e, Send))
    assert reads(w.do(BytesSent("a", sent))) == blocks[4:8]


def test_a_peer_that_never_reads_is_disconnected(wire: Make, content: Make) -> None:
    w = wire(content(100_000), have=range(4), config=SwarmConfig(max_unsent=50))
    w.connect("a")
    w.wait(2)
    assert [d.reason for d in w.drops()] == ["does not read"]


def test_a_flood_of_requests_ends_the_connection(wire: Make, content: Make) -> None:
    config = SwarmConfig(max_requests=10, send_buffer=BLOCK)
    w = wire(content(8 << 20, piece_length=1 << 20), have=range(8), config=config)
    open_leecher(w)
    w.do(BytesSent("a", 10_000))
    w.say("a", *(Request(Block(0, n * BLOCK, BLOCK)) for n in range(11)))
    assert not w.drops()
    w.say("a", *(Request(Block(1, n * BLOCK, BLOCK)) for n in range(11)))
    assert [d.reason for d in w.drops()] == ["too many requests queued"]


def test_choking_drops_the_queue(wire: Make, content: Make) -> None:
    config = SwarmConfig(
        upload_slots=1, optimistic_slots=0, send_buffer=BLOCK, choke_round=10.0, seed_quota=0
    )
    w = wire(content(8 << 20, piece_length=1 << 20), have=range(8), config=config)
    open_leecher(w)
    w.do(BytesSent("a", 10_000))
    w.connect("b")
    w.say("b", Interested())
    assert Unchoke() not in w.heard("b")
    w.say("a", *(Request(Block(0, n * BLOCK, BLOCK)) for n in range(5)))
    w.wait(11)
    assert Unchoke() in w.heard("b")
    assert Choke() in w.heard("a")
    assert w.do(BlockRead("a", 0, 0, w.content.block(Block(0, 0, BLOCK)))) == []
    assert w.do(BytesSent("a", 10 * BLOCK)) == []


def test_every_peer_hears_of_a_new_piece(wire: Make, content: Make) -> None:
    w = wire(content(100_000))
    w.connect("a")
    w.connect("b", [1])
    w.heard("a"), w.heard("b")
    w.do(PieceVerified(1))
    assert Have(1) in w.heard("a")
    assert Have(1) in w.heard("b")
    w.do(PieceVerified(1))
    assert not w.heard("a")


# --- time


def test_time_outs(wire: Make, content: Make) -> None:
    w = wire(content(100_000))
    assert w.swarm.deadline() is None
    w.connect("mute", greet=False)
    w.connect("idle")
    w.connect("alive")
    assert w.swarm.deadline() == w.now + 1.0
    w.wait(21)
    assert [(d.peer, d.reason) for d in w.drops()] == [("mute", "no handshake")]
    for _ in range(3):
        w.wait(80)
        w.say("alive", KeepAlive())
    assert [(d.peer, d.reason) for d in w.drops()][1:] == [("idle", "silent")]
    assert w.heard("alive").count(KeepAlive()) == 2
    w.do(PeerDisconnected("alive"))
    assert w.swarm.deadline() is None
    assert w.swarm.tick(w.now + 1000) == []


def test_a_tick_too_early_does_nothing(wire: Make, content: Make) -> None:
    w = wire(content(100_000))
    w.connect("a")
    assert w.swarm.tick(w.now + 0.5) == []


def test_events_of_unknown_peers_are_ignored(wire: Make, content: Make) -> None:
    w = wire(content(100_000), have=[0])
    for event in (
        PeerDisconnected("x"),
        BytesReceived("x", b"junk"),
        BytesSent("x", 5),
        BlockRead("x", 0, 0, b"d"),
        BlockReadFailed("x", 0, 0, 1),
        PieceFailed(1),
        WriteFailed(2, "why"),
    ):
        assert [e for e in w.do(event) if not isinstance(e, Halted)] == []


def test_a_verification_that_ends_after_everybody_left(wire: Make, content: Make) -> None:
    w = wire(content(BLOCK, piece_length=BLOCK))
    w.connect("a", [0])
    w.say("a", Unchoke())
    (block,) = w.requests("a")
    effects = w.give("a", block)
    w.do(PeerDisconnected("a"))
    assert isinstance(effects[0], VerifyAndWrite)
    w.judge(effects)
    assert w.swarm.complete
    assert w.swarm.stats(w.now).sources == {"a": BLOCK}
