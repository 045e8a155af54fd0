"""False pieces, disk errors, lost pieces: who is to blame and what is fetched anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torrent.config import SwarmConfig
from torrent.geometry import BLOCK, Block
from torrent.messages import (
    Interested,
    Request,
    Unchoke,
)
from torrent.swarm import (
    Completed,
    Disconnect,
    Halted,
    PeerDisconnected,
    PieceLost,
    PieceVerified,
    ReadBlock,
    Resumed,
    WriteFailed,
)

Make = Callable[..., Any]


def reads(effects: list[Any]) -> list[Block]:
    return [Block(e.index, e.begin, e.length) for e in effects if isinstance(e, ReadBlock)]


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
