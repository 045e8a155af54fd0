"""Sampled clients: reproducible, evenly drawn, and priced for the largest round."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pml.training.sampling import most_samples, sample_size, sampled

fractions = st.floats(0.001, 1.0)


@given(st.integers(1, 50), fractions, st.integers(0, 2**32 - 1), st.integers(0, 10_000))
def test_a_draw(clients: int, fraction: float, seed: int, round_: int) -> None:
    drawn = sampled(clients, fraction, seed, round_)
    assert drawn == sampled(clients, fraction, seed, round_)
    assert list(drawn) == sorted(set(drawn))
    assert len(drawn) == sample_size(clients, fraction)
    assert fraction * clients - 1e-6 <= len(drawn) < fraction * clients + 1
    assert set(drawn) <= set(range(clients))


@pytest.mark.parametrize(("fraction", "size"), [(0.1, 1), (0.3, 3), (0.31, 4), (1.0, 10), (0.001, 1)])
def test_sizes(fraction: float, size: int) -> None:
    assert sample_size(10, fraction) == size


def test_rounds_differ_and_nobody_is_left_out() -> None:
    counts = Counter(client for round_ in range(400) for client in sampled(10, 0.3, 1, round_))
    assert set(counts) == set(range(10))
    assert all(80 <= count <= 160 for count in counts.values())  # 120 expected, standard deviation 9
    assert sampled(10, 0.3, 1, 0) != sampled(10, 0.3, 2, 0)


@given(
    st.lists(st.integers(1, 1000), min_size=1, max_size=12),
    fractions,
    st.integers(0, 50),
    st.integers(0, 4),
)
def test_no_round_outgrows_the_price(samples: list[int], fraction: float, round_: int, spare: int) -> None:
    drawn = sampled(len(samples), fraction, 3, round_, spare)
    assert sum(samples[client] for client in drawn) <= most_samples(samples, fraction, spare) <= sum(samples)
