"""One swarm, scripted peers: what it asks of whom, and when it asks somebody else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torrent.config import SwarmConfig
from torrent.geometry import BLOCK, Block
from torrent.messages import (
    Cancel,
    Choke,
    Interested,
    Request,
    Unchoke,
)
from torrent.swarm import (
    Completed,
    PeerDisconnected,
    SetWanted,
)

Make = Callable[..., Any]


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
