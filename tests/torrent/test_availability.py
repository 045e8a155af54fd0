"""Sets of pieces in chunks, and counts of copies with what is on offer, against naive counting."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from torrent.availability import Availability
from torrent.pieceset import LOW, SHIFT, PieceSet, draw, random_bit

COUNT = 1100
"""Pieces in two chunks, the second nearly empty."""
near_the_seam = st.integers(1015, 1035)


def mask(*pieces: int) -> int:
    return sum(1 << piece for piece in pieces)


def bits(index: int) -> tuple[int, int]:
    return index >> SHIFT, 1 << (index & LOW)


@given(st.lists(st.tuples(st.booleans(), near_the_seam), max_size=30), st.sets(near_the_seam))
def test_a_piece_set_is_a_set(steps: list[tuple[bool, int]], start: set[int]) -> None:
    pieces = PieceSet(COUNT, mask(*start))
    for adding, index in steps:
        (pieces.add if adding else pieces.discard)(index)
        (start.add if adding else start.discard)(index)
    assert pieces.mask == mask(*start)
    assert pieces.count == len(start)
    assert [index in pieces for index in range(COUNT)] == [index in start for index in range(COUNT)]
    assert pieces.summary == mask(*{index >> SHIFT for index in start})
    assert dict(pieces.filled()).keys() == {index >> SHIFT for index in start}


@given(st.sets(near_the_seam), st.sets(near_the_seam), st.integers(0, 2**32))
def test_what_is_drawn_is_in_both(one: set[int], other: set[int], seed: int) -> None:
    found = draw(PieceSet(COUNT, mask(*one)), PieceSet(COUNT, mask(*other)), random.Random(seed))
    assert (found is None) == (not one & other)
    assert found is None or found in one & other


@given(
    st.sampled_from([1, 5, 1023, 1024, 1025, 1030]),
    st.lists(st.lists(st.tuples(st.integers(0, 1030), st.integers(1, 1030))), max_size=5),
    st.lists(st.tuples(st.integers(0, 1030), st.integers(1, 1030))),
)
def test_distributed_copies(
    count: int, peers: list[list[tuple[int, int]]], mine: list[tuple[int, int]]
) -> None:
    """Pieces are given as runs (start, length), cut at the torrent's end."""

    def pieces(runs: list[tuple[int, int]]) -> set[int]:
        return {index for start, length in runs for index in range(start, min(start + length, count))}

    availability = Availability(count)
    for runs in peers:
        for chunk, group in PieceSet(count, mask(*pieces(runs))).filled():
            availability.more(chunk, group)
    copies = Counter(index for runs in (*peers, mine) for index in pieces(runs))
    least = min(copies[index] for index in range(count))
    more = sum(copies[index] > least for index in range(count))
    assert availability.distributed(PieceSet(count, mask(*pieces(mine)))) == least + more / count


@given(st.sets(st.integers(0, 200), min_size=1), st.integers(0, 2**32))
def test_a_random_bit_is_one_of_the_set(pieces: set[int], seed: int) -> None:
    assert random_bit(mask(*pieces), random.Random(seed)) in pieces


def test_random_bits_are_uniform_over_clusters_and_gaps() -> None:
    rng = random.Random(1)
    drawn = Counter(random_bit(mask(0, 1, 2, 500, 9_999), rng) for _ in range(5000))
    assert all(859 <= drawn[piece] <= 1141 for piece in (0, 1, 2, 500, 9_999))  # 5 sigma


def test_every_chunk_is_drawn_from() -> None:
    """Forty pieces in as many chunks, the gaps between them of any width: each comes up in 2,000 draws."""
    rng = random.Random(2)
    places = sorted(rng.sample(range(200), 40))
    pieces = PieceSet(200 << SHIFT, mask(*(place << SHIFT for place in places)))
    assert {draw(pieces, pieces, rng) for _ in range(2000)} == {place << SHIFT for place in places}


@given(st.integers(0, 2**32))
def test_copies_and_the_rarest_agree_with_counting(seed: int) -> None:
    rng = random.Random(seed)
    seen, peers, counts = Availability(COUNT), [], Counter[int]()
    offered: dict[int, int] = {}
    for _ in range(60):
        index = rng.randrange(1015, 1035)
        match rng.randrange(5):
            case 0 if peers:
                gone = peers.pop(rng.randrange(len(peers)))
                for chunk, part in PieceSet(COUNT, mask(*gone)).filled():
                    seen.fewer(chunk, part)
                counts.subtract(gone)
            case 1 | 2:
                peers.append({n for n in range(1015, 1035) if rng.random() < 0.5})
                for chunk, part in PieceSet(COUNT, mask(*peers[-1])).filled():
                    seen.more(chunk, part)
                counts.update(peers[-1])
            case 3 if index not in offered:
                offered[index] = rng.randrange(1, 8)
                seen.offer(*bits(index), offered[index])
            case 4 if index in offered:
                seen.withdraw(*bits(index), offered.pop(index))
    assert [seen.copies(n) for n in range(COUNT)] == [counts[n] for n in range(COUNT)]
    assert seen.in_reach == any(counts[n] for n in offered)
    peer = {n for n in range(1015, 1035) if rng.random() < 0.5}
    found = seen.rarest(PieceSet(COUNT, mask(*peer)), rng)
    ranks = {n: (-offered[n], counts[n]) for n in peer & offered.keys()}
    assert (found is None) == (not ranks)
    if found is not None:
        assert ranks[found] == min(ranks.values())
        any_one = seen.any(PieceSet(COUNT, mask(*peer)), rng)
        assert any_one is not None
        assert ranks[any_one][0] == min(ranks.values())[0]
