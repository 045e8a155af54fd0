"""After a false piece of several senders: it starts anew, alone, and its senders spoil nothing else."""

from __future__ import annotations

import random

from torrent.config import SwarmConfig
from torrent.geometry import BLOCK, Block, Geometry
from torrent.picker import Picker

PIECE = 2 * BLOCK


def spoiled(count: int, *peers: str) -> Picker:
    """A piece that the first two of `peers` sent together has failed; all have everything."""
    config = SwarmConfig(random_first=0)
    chosen = Picker(Geometry(count * PIECE, PIECE), 0, bytes([4] * count), config, random.Random(3))
    for peer in peers:
        chosen.join(peer)
        chosen.learn(peer, (1 << count) - 1)
    sent = [(peer, chosen.pick(peer, 1)[0]) for peer in peers[:2]]
    assert len({block.piece for _, block in sent}) == 1
    for peer, block in sent:
        chosen.accept(peer, block, bytes(BLOCK))
    assert chosen.failed(sent[0][1].piece) is not None
    return chosen


def suspect(chosen: Picker) -> int:
    (index,) = chosen._suspect
    return index


def finish(chosen: Picker, peer: str, blocks: list[Block]) -> None:
    for block in blocks:
        chosen.accept(peer, block, bytes(block.length))


def test_the_failed_piece_comes_first_and_from_one() -> None:
    chosen = spoiled(40, "a", "b", "c")
    assert {block.piece for block in chosen.pick("c", 2)} == {suspect(chosen)}
    assert suspect(chosen) not in {block.piece for block in chosen.pick("a", 99)}


def test_on_parole_a_peer_gives_whole_pieces_alone() -> None:
    chosen = spoiled(40, "a", "b", "c", "d")
    chosen.pick("d", 2)
    shared = chosen.pick("c", 1)[0]
    alone = chosen.pick("a", 1)[0]
    assert alone.piece != shared.piece
    assert chosen.pick("c", 1)[0].piece == shared.piece
    assert chosen.pick("a", 1) == [Block(alone.piece, BLOCK, BLOCK)]
    assert chosen.on_parole({"a", "b", "c"}) == {"a": {alone.piece}, "b": set()}


def test_on_parole_a_block_for_a_shared_piece_is_not_taken() -> None:
    chosen = spoiled(40, "a", "b", "c", "d")
    chosen.pick("d", 2)
    late = chosen.pick("c", 1)[0]
    assert not chosen.accept("a", late, bytes(BLOCK)).needed
    assert chosen.accept("c", late, bytes(BLOCK)).needed


def test_parole_ends_when_the_piece_has_come_right() -> None:
    chosen = spoiled(40, "a", "b", "c")
    index = suspect(chosen)
    finish(chosen, "c", chosen.pick("c", 2))
    chosen.verified(index)
    assert chosen.on_parole({"a", "b", "c"}) == {}
    shared = chosen.pick("a", 1)[0]
    assert chosen.pick("b", 1)[0].piece == shared.piece


def test_with_everybody_on_parole_a_piece_begun_together_still_comes() -> None:
    """Nobody else is left to go on with it: it begins anew, alone."""
    chosen = spoiled(3, "a", "b", "c")
    index = suspect(chosen)
    chosen.pick("c", 2)
    begun = chosen.pick("c", 1)
    finish(chosen, "c", begun)
    chosen.leave("c")
    assert {block.piece for block in chosen.pick("a", 2)} == {index}
    rest = chosen.pick("b", 9)
    assert sorted(rest) == [Block(n, at, BLOCK) for n in range(3) if n != index for at in (0, BLOCK)]
    assert begun[0] in rest


def test_one_that_left_is_on_parole_no_more() -> None:
    chosen = spoiled(10, "a", "b", "c")
    chosen.leave("a")
    chosen.join("a")
    assert set(chosen.on_parole({"a", "b"})) == {"b"}
