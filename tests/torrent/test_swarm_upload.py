"""One swarm, scripted peers: what is read and sent, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torrent.config import SwarmConfig
from torrent.geometry import BLOCK, Block
from torrent.messages import (
    Cancel,
    Choke,
    Have,
    Interested,
    Piece,
    Request,
    Unchoke,
)
from torrent.swarm import (
    BlockRead,
    BlockReadFailed,
    BytesSent,
    PieceVerified,
    ReadBlock,
    Send,
)

Make = Callable[..., Any]


def reads(effects: list[Any]) -> list[Block]:
    return [Block(e.index, e.begin, e.length) for e in effects if isinstance(e, ReadBlock)]


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
