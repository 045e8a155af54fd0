"""Picking: priorities, rarest first, started first, random first, endgame."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrent.budget import Budget
from torrent.config import SwarmConfig
from torrent.geometry import BLOCK, Block, Geometry
from torrent.picker import Picker

PIECE = 2 * BLOCK


def mask(*pieces: int) -> int:
    return sum(1 << piece for piece in pieces)


def picker(count: int, have: int = 0, wanted: int | None = None, seed: int = 0, **options: int) -> Picker:
    """Two blocks to a piece; rarest first from the start unless asked otherwise."""
    config = SwarmConfig(**{"random_first": 0, **options})
    geometry = Geometry(count * PIECE, PIECE)
    return Picker(geometry, have, levels(count, wanted), config, random.Random(seed))


def levels(count: int, wanted: int | None = None) -> bytes:
    """The usual priority for every piece, or for those of a mask."""
    return bytes(4 if wanted is None or wanted >> piece & 1 else 0 for piece in range(count))


def join(chosen: Picker, peer: str, pieces: int) -> None:
    chosen.join(peer)
    chosen.learn(peer, pieces)


def fetch(chosen: Picker, peer: str, blocks: list[Block]) -> None:
    for block in blocks:
        chosen.accept(peer, block, bytes(block.length))


def test_rarest_first() -> None:
    chosen = picker(4)
    join(chosen, "seed", 0b1111)
    join(chosen, "b", mask(0, 1, 2))
    join(chosen, "c", mask(0, 1))
    join(chosen, "d", mask(0))
    order = []
    while blocks := chosen.pick("seed", 2):
        order.append(blocks[0].piece)
    assert order == [3, 2, 1, 0]


def test_rarest_first_follows_arrivals_and_departures() -> None:
    chosen = picker(3)
    join(chosen, "seed", 0b111)
    for peer in "abc":
        join(chosen, peer, mask(0, 1))
    chosen.learn("a", mask(2))
    chosen.learn("b", mask(2))
    chosen.learn("c", mask(2))
    for peer in "abc":
        chosen.leave(peer)
        join(chosen, peer, mask(1, 2))
    assert chosen.pick("seed", 1)[0].piece == 0


def test_ties_are_random() -> None:
    """Over 2,000 seeds each of 8 equally rare pieces is first about 250 times (5 sigma: ±74)."""
    first: Counter[int] = Counter()
    for seed in range(2000):
        chosen = picker(8, seed=seed)
        join(chosen, "seed", 0xFF)
        first[chosen.pick("seed", 1)[0].piece] += 1
    assert all(176 <= first[piece] <= 324 for piece in range(8))


def test_the_first_four_pieces_are_random_whatever_is_rare() -> None:
    """With three pieces present the rare one is no more likely than another; with four it is certain."""
    first: Counter[int] = Counter()
    for seed in range(300):
        chosen = picker(8, have=mask(5, 6, 7), seed=seed, random_first=4)
        join(chosen, "seed", 0xFF)
        join(chosen, "other", 0xFF ^ mask(0))
        first[chosen.pick("seed", 1)[0].piece] += 1
    assert set(first) == {0, 1, 2, 3, 4}
    assert all(25 <= first[piece] <= 95 for piece in range(5))  # 60 expected, 5 sigma: ±35
    late = picker(8, have=mask(4, 5, 6, 7), random_first=4)
    join(late, "seed", 0xFF)
    join(late, "other", 0xFF ^ mask(0))
    assert late.pick("seed", 1)[0].piece == 0


def test_a_started_piece_is_finished_first() -> None:
    chosen = picker(8)
    join(chosen, "a", 0xFF)
    join(chosen, "b", 0xFF)
    started = chosen.pick("a", 1)[0]
    assert chosen.pick("b", 1) == [Block(started.piece, BLOCK, BLOCK)]
    assert chosen.pick("b", 1)[0].piece != started.piece


def test_only_what_the_peer_has_and_what_is_wanted() -> None:
    chosen = picker(6, have=mask(0), wanted=mask(0, 1, 2, 3))
    join(chosen, "a", mask(0, 1, 4, 5))
    assert {block.piece for block in chosen.pick("a", 99)} == {1}
    assert not chosen.endgame or not chosen.pick_again("a", 9)
    join(chosen, "b", mask(4, 5))
    assert not chosen.interesting("b")
    assert chosen.interesting("a")


def test_what_a_peer_gives_up_is_asked_elsewhere_first_thing() -> None:
    chosen = picker(8)
    join(chosen, "a", 0xFF)
    join(chosen, "b", 0xFF)
    first, second = chosen.pick("a", 2)
    chosen.accept("a", first, bytes(BLOCK))
    chosen.release("a", second)
    assert chosen.pick("b", 1) == [second]


def test_endgame_asks_again_but_not_too_often() -> None:
    chosen = picker(2, endgame_copies=2)
    for peer in "abc":
        join(chosen, peer, 0b11)
    blocks = chosen.pick("a", 3)
    assert not chosen.endgame
    assert chosen.pick_again("b", 9) == []
    blocks += chosen.pick("b", 9)
    assert chosen.endgame
    assert sorted(chosen.pick_again("b", 9)) == sorted(blocks[:3])
    assert chosen.pick_again("c", 9) == blocks[3:]
    accepted = chosen.accept("b", blocks[0], bytes(BLOCK))
    assert accepted.needed == BLOCK
    assert accepted.others == [("a", blocks[0])]
    assert not chosen.accept("a", blocks[0], bytes(BLOCK)).needed


def test_pieces_that_nobody_has_do_not_hold_up_the_endgame() -> None:
    chosen = picker(3)
    join(chosen, "a", 0b011)
    join(chosen, "b", 0b011)
    chosen.pick("a", 9)
    assert chosen.endgame
    assert len(chosen.pick_again("b", 9)) == 4


def test_memory_held_by_unfinished_pieces_is_bounded() -> None:
    chosen = picker(50, piece_buffer=3 * PIECE)
    join(chosen, "a", (1 << 50) - 1)
    blocks = chosen.pick("a", 100)
    assert len(blocks) == 6
    assert chosen.held_bytes == 3 * PIECE
    fetch(chosen, "a", blocks[:2])
    assert chosen.pick("a", 100) == []
    chosen.verified(blocks[0].piece)
    assert len(chosen.pick("a", 100)) == 2


def test_a_piece_larger_than_the_memory_bound_still_comes() -> None:
    chosen = picker(2, piece_buffer=1)
    join(chosen, "a", 0b11)
    assert len(chosen.pick("a", 100)) == 2


def test_a_failed_piece_comes_from_one_peer_the_second_time() -> None:
    chosen = picker(1)
    join(chosen, "a", 1)
    join(chosen, "b", 1)
    fetch(chosen, "a", chosen.pick("a", 1))
    fetch(chosen, "b", chosen.pick("b", 1))
    assert chosen.failed(0) is not None
    again = chosen.pick("a", 1)
    assert chosen.pick("b", 9) == []
    assert chosen.pick_again("b", 9) == []
    chosen.release("a", again[0])
    assert len(chosen.pick("b", 9)) == 2
    assert chosen.pick("a", 9) == []


def test_a_piece_reserved_for_a_peer_that_leaves_is_free_again() -> None:
    chosen = picker(1)
    join(chosen, "a", 1)
    join(chosen, "b", 1)
    fetch(chosen, "a", chosen.pick("a", 1))
    fetch(chosen, "b", chosen.pick("b", 1))
    chosen.failed(0)
    fetch(chosen, "a", chosen.pick("a", 1))
    chosen.leave("a")
    assert len(chosen.pick("b", 9)) == 2


def test_dropping_a_wanted_piece_and_wanting_it_again() -> None:
    chosen = picker(2)
    join(chosen, "a", 0b11)
    block = chosen.pick("a", 1)[0]
    assert chosen.set_priorities(levels(2, 0b11 ^ (1 << block.piece))) == {block.piece}
    assert not chosen.accept("a", block, bytes(BLOCK)).needed
    assert {b.piece for b in chosen.pick("a", 9)} == {1 - block.piece}
    chosen.set_priorities(levels(2))
    assert {b.piece for b in chosen.pick("a", 9)} == {block.piece}


def test_a_peer_that_had_nothing_is_asked_again_when_it_has_something() -> None:
    chosen = picker(2)
    join(chosen, "a", 0b01)
    assert len(chosen.pick("a", 9)) == 2
    assert chosen.pick("a", 9) == []
    chosen.learn_one("a", 1)
    assert len(chosen.pick("a", 9)) == 2


def test_a_higher_priority_goes_before_rarity() -> None:
    chosen = picker(4)
    join(chosen, "seed", 0b1111)
    join(chosen, "b", mask(0, 1, 2))
    join(chosen, "c", mask(0, 1))
    chosen.set_priorities(bytes([7, 4, 4, 1]))
    order = []
    while blocks := chosen.pick("seed", 2):
        order.append(blocks[0].piece)
    assert order == [0, 2, 1, 3]


def test_priorities_change_under_way() -> None:
    """A started piece stays with its peer; what is dropped and wanted again has its new priority."""
    chosen = picker(5)
    join(chosen, "seed", 0b11111)
    started = chosen.pick("seed", 1)[0].piece
    others = [piece for piece in range(5) if piece != started]
    table = bytearray([1] * 5)
    table[others[0]] = 6
    assert chosen.set_priorities(bytes(table)) == set()
    assert chosen.pick("seed", 1)[0].piece == started
    assert chosen.pick("seed", 1)[0].piece == others[0]
    table[others[0]], table[others[3]] = 0, 2
    assert chosen.set_priorities(bytes(table)) == {others[0]}
    assert chosen.wanted == 4
    assert chosen.pick("seed", 2)[0].piece == others[3]


def test_a_lost_piece_is_wanted_again_at_its_priority() -> None:
    chosen = picker(3, have=mask(0, 1, 2))
    join(chosen, "seed", 0b111)
    assert chosen.complete
    assert not chosen.interesting("seed")
    for piece in (0, 1):
        chosen.lost(piece)
    chosen.set_priorities(bytes([1, 3, 0]))
    chosen.lost(2)
    assert chosen.missing == 0b011
    assert chosen.interesting("seed")
    assert [block.piece for block in chosen.pick("seed", 9)] == [1, 1, 0, 0]


@given(st.integers(0, 2**32))
def test_what_is_kept_by_steps_agrees_with_counting(seed: int) -> None:
    """Useful pieces of each peer, what is missing and what may be picked, among 2,500 pieces."""
    rng = random.Random(seed)
    count = 2500
    chosen = picker(count, have=rng.getrandbits(count), seed=seed)
    have, table, peers = {i for i in range(count) if chosen.has(i)}, bytearray(levels(count)), {}
    for step in range(30):
        piece = rng.randrange(count)
        match rng.randrange(6):
            case 0:
                peers[f"p{step}"] = rng.getrandbits(count) & rng.getrandbits(count)
                join(chosen, f"p{step}", peers[f"p{step}"])
            case 1 if peers:
                chosen.leave(gone := rng.choice(sorted(peers)))
                del peers[gone]
            case 2 if peers:
                chosen.learn_one(peer := rng.choice(sorted(peers)), piece)
                peers[peer] |= 1 << piece
            case 3:
                chosen.verified(piece)
                have.add(piece)
            case 4:
                chosen.lost(piece)
                have.discard(piece)
            case _:
                table[piece : piece + 900] = bytes([rng.randrange(8)]) * len(table[piece : piece + 900])
                chosen.set_priorities(bytes(table))
    missing = {i for i in range(count) if table[i] and i not in have}
    assert chosen.missing == mask(*missing)
    assert chosen.complete == (not missing)
    for peer, pieces in peers.items():
        can = {i for i in missing if pieces >> i & 1}
        assert chosen.interesting(peer) == bool(can)
        copies = {i: sum(other >> i & 1 for other in peers.values()) for i in can}
        best = min(((-table[i], copies[i]) for i in can), default=None)
        blocks = chosen.pick(peer, 1)
        assert bool(blocks) == bool(can)
        if best is not None:
            assert (-table[blocks[0].piece], copies[blocks[0].piece]) == best
            chosen.release(peer, blocks[0])
            return


def test_swarms_share_a_budget() -> None:
    """Whoever holds nothing may begin a piece all the same, and what ends gives back what it held."""
    budget = Budget(3 * PIECE)
    pickers = [
        Picker(Geometry(9 * PIECE, PIECE), 0, levels(9), SwarmConfig(), random.Random(n), budget)
        for n in range(3)
    ]
    for chosen in pickers:
        join(chosen, "a", 0b111111111)
    first, second, third = pickers
    assert len(first.pick("a", 2)) == 2
    assert len(second.pick("a", 100)) == 4
    assert budget.used == budget.total
    assert len(third.pick("a", 100)) == 2
    assert not first.pick("a", 100)
    second.close()
    assert budget.used == 2 * PIECE
    assert len(first.pick("a", 100)) == 2
    fetch(third, "a", [Block(index, begin, BLOCK) for index in third._asked for begin in (0, BLOCK)])
    third.verified(next(iter(third._verifying)))
    assert budget.used == first.held_bytes == 2 * PIECE


def test_of_neighbours_that_come_together_only_what_is_missing_is_taken() -> None:
    chosen = picker(1)
    join(chosen, "a", 1)
    first, *_ = blocks = chosen.pick("a", PIECE // BLOCK)
    chosen.accept("a", first, b"\x01" * BLOCK)
    together = Block(0, 0, PIECE)
    accepted = chosen.accept("b", together, bytes([2]) * PIECE)
    assert accepted.needed == PIECE - BLOCK
    assert accepted.others == [("a", block) for block in blocks[1:]]
    assert accepted.complete is not None
    assert [sender for sender, _ in accepted.complete.received()] == ["a"] + ["b"] * (len(blocks) - 1)
    assert accepted.complete.data == b"\x01" * BLOCK + b"\x02" * (PIECE - BLOCK)


@pytest.mark.parametrize(("begin", "length"), [(1, BLOCK), (0, BLOCK - 1), (BLOCK, BLOCK + 1)])
def test_what_is_not_cut_as_blocks_are_is_not_taken(begin: int, length: int) -> None:
    chosen = picker(1)
    join(chosen, "a", 1)
    chosen.pick("a", PIECE // BLOCK)
    assert not chosen.accept("a", Block(0, begin, length), bytes(length)).needed


@given(st.integers(0, 2**32), st.integers(1, 12))
def test_any_interleaving_ends_complete(seed: int, count: int) -> None:
    """Random picks, deliveries, releases, failures and departures; no block is lost and no memory is kept."""
    rng = random.Random(seed)
    chosen = picker(count, seed=seed)
    everything = (1 << count) - 1
    join(chosen, "seed", everything)
    asked: dict[str, list[Block]] = {"seed": []}
    for step in range(4000):
        if not chosen.missing:
            break
        peer = rng.choice(sorted(asked))
        match rng.randrange(6):
            case 0 if len(asked) < 4 and step < 200:
                asked[f"p{step}"] = []
                join(chosen, f"p{step}", rng.randrange(everything + 1))
            case 1 if peer != "seed":
                for block in asked.pop(peer):
                    chosen.release(peer, block)
                chosen.leave(peer)
            case 2 if asked[peer]:
                chosen.release(peer, asked[peer].pop())
            case 3 | 4 if asked[peer]:
                accepted = chosen.accept(peer, block := asked[peer].pop(0), bytes(BLOCK))
                for other, unneeded in accepted.others:
                    asked[other].remove(unneeded)
                if accepted.complete:
                    fails = step < 200 and rng.random() < 0.2
                    (chosen.failed if fails else chosen.verified)(block.piece)
            case _:
                asked[peer] += chosen.pick(peer, rng.randrange(1, 4)) or chosen.pick_again(peer, 2)
    assert not chosen.missing
    assert chosen.held_bytes == 0


def test_what_a_peer_refused_is_left_alone_and_not_forgotten() -> None:
    pieces = mask(3, 1030, 2500)
    chosen = picker(2600, wanted=pieces)
    join(chosen, "a", pieces)
    assert {block.piece for block in chosen.pick("a", 6, ~mask(3, 2500))} == {1030}
    assert chosen.pieces_of("a") == 3
    assert {block.piece for block in chosen.pick("a", 6)} == {3, 2500}
