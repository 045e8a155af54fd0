"""Neighbouring blocks that travel as one request, where the peer said that it serves larger ones."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrent.config import SwarmConfig
from torrent.extended import Terms
from torrent.geometry import BLOCK, Block, joined, units
from torrent.messages import (
    Cancel,
    Extended,
    HaveAll,
    Interested,
    Piece,
    Reject,
    Request,
    Unchoke,
    reserved_bytes,
)
from torrent.swarm import BlockRead, ReadBlock

Make = Callable[..., Any]
BOTH = reserved_bytes(fast=True, extended=True)
DEEP = SwarmConfig(min_depth=16, max_depth=16, endgame_copies=1)


def terms(largest: int | None, **more: Any) -> Extended:
    return Extended(0, Terms(largest_block=largest, **more).encode())


def connect(w: Any, peer: str = "a", largest: int | None = 4 * BLOCK) -> None:
    w.connect(peer, reserved=BOTH)
    w.say(peer, HaveAll(), terms(largest), Unchoke())


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9)), unique=True), st.integers(0, 5))
def test_joining_and_cutting_keep_the_blocks(places: list[tuple[int, int]], most: int) -> None:
    blocks = [Block(piece, number * BLOCK, BLOCK - 7 * (number == 9)) for piece, number in places]
    requests = list(joined(blocks, most))
    assert [unit for request in requests for unit in units(request)] == blocks
    assert all(request.length <= max(1, most) * BLOCK for request in requests)
    for left, right in pairwise(requests):  # none could have been longer
        apart = (left.piece, left.begin + left.length) != right[:2]
        assert apart or left.length >= most * BLOCK


@pytest.mark.parametrize(
    ("largest", "lengths"),
    [
        (None, [1] * 16),
        (0, [1] * 16),
        (BLOCK - 1, [1] * 16),
        (2 * BLOCK - 1, [1] * 16),
        (3 * BLOCK, [3, 3, 2, 3, 3, 2]),
        (10**15, [4, 4, 4, 4]),
    ],
)
def test_requests_are_as_large_as_the_peer_serves(
    wire: Make, content: Make, largest: int | None, lengths: list[int]
) -> None:
    """Never larger than a quarter of what is in flight."""
    w = wire(content(16 * BLOCK, piece_length=8 * BLOCK), config=DEEP)
    connect(w, largest=largest)
    assert [block.length // BLOCK for block in w.requests("a")] == lengths


def test_a_short_queue_has_small_requests(wire: Make, content: Make) -> None:
    w = wire(content(16 * BLOCK, piece_length=8 * BLOCK))
    connect(w, largest=8 * BLOCK)
    assert [block.length for block in w.requests("a")] == [BLOCK] * SwarmConfig().min_depth


def test_we_never_ask_for_more_than_we_would_serve(wire: Make, content: Make) -> None:
    config = SwarmConfig(min_depth=16, max_depth=16, max_block=2 * BLOCK)
    w = wire(content(16 * BLOCK, piece_length=8 * BLOCK), config=config)
    connect(w, largest=8 * BLOCK)
    assert {block.length for block in w.requests("a")} == {2 * BLOCK}


def test_we_say_what_we_serve(wire: Make, content: Make) -> None:
    w = wire(content(100_000), config=SwarmConfig(max_block=5 * BLOCK))
    w.connect("a", reserved=BOTH)
    (said,) = [m for m in w.heard("a") if isinstance(m, Extended)]
    assert Terms().updated(said.payload).largest_block == 5 * BLOCK


@pytest.mark.parametrize("cut", [False, True])
def test_one_answer_for_all_of_them(wire: Make, content: Make, cut: bool) -> None:
    """Or, from a peer that cuts it, several."""
    w = wire(content(16 * BLOCK - 100, piece_length=8 * BLOCK), config=DEEP)
    connect(w)
    while requests := w.requests("a"):
        for request in requests:
            for block in units(request) if cut else [request]:
                w.judge(w.give("a", block))
    assert w.swarm.complete
    stats = w.swarm.stats(w.now)
    assert (stats.sources, stats.wasted) == ({"a": 16 * BLOCK - 100}, 0)
    assert not w.drops()


def test_one_reject_frees_all_of_them(wire: Make, content: Make) -> None:
    w = wire(content(8 * BLOCK, piece_length=8 * BLOCK), config=DEEP)
    connect(w)
    connect(w, "b", largest=None)
    first, second = w.requests("a")
    assert not w.requests("b")
    w.say("a", Reject(first))
    assert sorted(w.requests("b")) == units(first)
    w.say("a", Reject(units(second)[0]))
    assert w.requests("b") == units(second)[:1]
    assert not w.drops()
    w.say("a", Reject(second))
    assert [d.reason for d in w.drops()] == ["rejects what it was not asked for"]


@pytest.mark.parametrize("length", [2**32 - 1, DEEP.max_block + 1])
def test_a_reject_larger_than_any_request(wire: Make, content: Make, length: int) -> None:
    w = wire(content(20 * BLOCK, piece_length=20 * BLOCK), config=DEEP)
    connect(w)
    w.say("a", Reject(Block(0, 0, length)))
    assert [d.reason for d in w.drops()] == [f"reject of Block(piece=0, begin=0, length={length})"]


def test_a_cancel_waits_until_none_of_them_is_needed(wire: Make, content: Make) -> None:
    config = SwarmConfig(min_depth=8, max_depth=8, endgame_copies=2)
    w = wire(content(2 * BLOCK, piece_length=2 * BLOCK), config=config)
    connect(w)
    (request,) = w.requests("a")
    connect(w, "b")
    first, second = sorted(w.requests("b"))
    w.give("b", first)
    assert not w.heard("a")
    w.judge(w.give("b", second))
    assert w.heard("a")[0] == Cancel(request)
    w.give("a", request)
    assert w.swarm.stats(w.now).wasted == 2 * BLOCK
    assert not w.drops()
    w.give("a", request)
    assert [d.peer for d in w.drops()] == ["a"]


def test_a_large_request_is_served(wire: Make, content: Make) -> None:
    w = wire(content(16 * BLOCK, piece_length=8 * BLOCK), have=[0, 1])
    w.connect("a", reserved=BOTH)
    block = Block(1, 0, 8 * BLOCK)
    w.say("a", Interested())
    (read,) = [e for e in w.say("a", Request(block)) if isinstance(e, ReadBlock)]
    w.do(BlockRead("a", read.index, read.begin, w.content.block(block)))
    assert w.heard("a")[-1] == Piece(1, 0, w.content.block(block))
    w.say("a", Request(Block(0, 0, DEEP.max_block + 1)))
    assert len(w.drops()) == 1
