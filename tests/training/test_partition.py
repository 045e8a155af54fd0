"""Partitions: every row exactly once, reproducible, and skewed as asked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pml.training.partition import PartitionError, partition


def ten_classes(rows: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 10, rows).astype(np.int64)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["iid", "shards", "dirichlet"]),
    rows=st.integers(40, 300),
    clients=st.integers(1, 20),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_row_goes_to_exactly_one_client(kind: str, rows: int, clients: int, seed: int) -> None:
    labels = ten_classes(rows)
    parts = partition(kind, labels, clients, seed, alpha=0.05)
    assert len(parts) == clients
    assert all(len(part) > 0 for part in parts)
    assert sorted(np.concatenate(parts).tolist()) == list(range(rows))
    again = partition(kind, labels, clients, seed, alpha=0.05)
    assert all(np.array_equal(one, two) for one, two in zip(parts, again, strict=True))


def test_iid_parts_differ_by_at_most_one_row_and_seeds_matter() -> None:
    labels = ten_classes(103)
    parts = partition("iid", labels, 4, 1)
    assert sorted(len(part) for part in parts) == [25, 26, 26, 26]
    assert not np.array_equal(parts[0], partition("iid", labels, 4, 2)[0])


def test_shards_give_each_client_few_classes() -> None:
    labels = np.sort(ten_classes(2000))
    parts = partition("shards", labels, 10, 1, per_client=2)
    assert max(len(set(labels[part].tolist())) for part in parts) <= 4
    assert max(len(set(labels[part].tolist())) for part in partition("iid", labels, 10, 1)) == 10


def test_small_alpha_is_more_skewed() -> None:
    labels = ten_classes(2000)

    def largest_share(alpha: float) -> float:
        parts = partition("dirichlet", labels, 5, 3, alpha=alpha)
        return float(np.mean([np.bincount(labels[part], minlength=10).max() / len(part) for part in parts]))

    assert largest_share(0.05) > largest_share(100.0) + 0.2


@pytest.mark.parametrize("alpha", [0.3, 2.0])
def test_the_clients_shares_of_a_class_are_dirichlet_distributed(alpha: float) -> None:
    """A share of Dirichlet(alpha, …, alpha) is Beta(alpha, (K - 1) alpha): its mean and its variance."""
    labels, clients = np.repeat(np.arange(10), 1000), 5
    shares = np.array(
        [
            [np.bincount(labels[part], minlength=10) / 1000 for part in parts]
            for parts in (partition("dirichlet", labels, clients, seed, alpha=alpha) for seed in range(60))
        ]
    )  # [seed, client, class]
    assert np.allclose(shares.sum(axis=1), 1)
    assert shares.mean() == pytest.approx(1 / clients)
    expected = (clients - 1) / clients**2 / (clients * alpha + 1)
    assert shares.var(axis=(0, 2)).mean() == pytest.approx(expected, rel=0.1)
    # A client's classes are drawn independently of each other: sizes vary as the mean of ten such shares.
    assert shares.mean(axis=2).var() == pytest.approx(expected / 10, rel=0.2)


@pytest.mark.parametrize(("kind", "rows", "clients"), [("iid", 3, 4), ("shards", 7, 4), ("nothing", 9, 2)])
def test_what_cannot_be_divided(kind: str, rows: int, clients: int) -> None:
    with pytest.raises(PartitionError):
        partition(kind, ten_classes(rows), clients, 1)
