"""Picking: availability against a naive count, rarest first, started first, random first, endgame."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from torrent.availability import Availability, random_bit
from torrent.config import SwarmConfig
from torrent.geometry import BLOCK, Block, Geometry
from torrent.picker import Picker

PIECE = 2 * BLOCK


def mask(*pieces: int) -> int:
    return sum(1 << piece for piece in pieces)


def picker(count: int, have: int = 0, wanted: int | None = None, seed: int = 0, **options: int) -> Picker:
    """Two blocks to a piece; rarest first from the start unless asked otherwise."""
    config = SwarmConfig(**{"random_first": 0, **options})
    everything = (1 << count) - 1
    geometry = Geometry(count * PIECE, PIECE)
    return Picker(geometry, have, everything if wanted is None else wanted, config, random.Random(seed))


def join(chosen: Picker, peer: str, pieces: int) -> None:
    chosen.join(peer)
    chosen.learn(peer, pieces)


def fetch(chosen: Picker, peer: str, blocks: list[Block]) -> None:
    for block in blocks:
        chosen.accept(peer, block, bytes(block.length))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2**12 - 1)), max_size=30), st.integers(0, 2**12 - 1))
def test_availability_agrees_with_counting(steps: list[tuple[bool, int]], candidates: int) -> None:
    seen, peers, counts = Availability(12), [], Counter[int]()
    for leaving, pieces in steps:
        if leaving and peers:
            gone = peers.pop(pieces % len(peers))
            seen.remove(gone)
            counts.subtract([n for n in range(12) if gone >> n & 1])
        else:
            peers.append(pieces)
            seen.add(pieces)
            counts.update([n for n in range(12) if pieces >> n & 1])
    assert [seen.copies(n) for n in range(12)] == [counts[n] for n in range(12)]
    assert seen.nowhere == mask(*(n for n in range(12) if not counts[n]))
    found = seen.rarest(candidates, random.Random(0))
    among = [n for n in range(12) if candidates >> n & 1]
    if not among:
        assert found is None
    else:
        assert found in among
        assert counts[found] == min(counts[n] for n in among)


@given(st.sets(st.integers(0, 200), min_size=1), st.integers(0, 2**32))
def test_a_random_bit_is_one_of_the_set(pieces: set[int], seed: int) -> None:
    assert random_bit(mask(*pieces), random.Random(seed)) in pieces


def test_random_bits_are_uniform_over_clusters_and_gaps() -> None:
    rng = random.Random(1)
    drawn = Counter(random_bit(mask(0, 1, 2, 500, 9_999), rng) for _ in range(5000))
    assert all(859 <= drawn[piece] <= 1141 for piece in (0, 1, 2, 500, 9_999))  # 5 sigma


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
    assert accepted is not None
    assert accepted.others == {"a"}
    assert chosen.accept("a", blocks[0], bytes(BLOCK)) is None


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
    assert chosen.set_wanted(0b11 ^ (1 << block.piece)) == {block.piece}
    assert chosen.accept("a", block, bytes(BLOCK)) is None
    assert {b.piece for b in chosen.pick("a", 9)} == {1 - block.piece}
    chosen.set_wanted(0b11)
    assert {b.piece for b in chosen.pick("a", 9)} == {block.piece}


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
                for other in accepted.others if accepted else ():
                    asked[other].remove(block)
                if accepted and accepted.complete:
                    fails = step < 200 and rng.random() < 0.2
                    (chosen.failed if fails else chosen.verified)(block.piece)
            case _:
                asked[peer] += chosen.pick(peer, rng.randrange(1, 4)) or chosen.pick_again(peer, 2)
    assert not chosen.missing
    assert chosen.held_bytes == 0
