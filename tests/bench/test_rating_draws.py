"""The chi-square of draws: right for draws by the table, and red for draws by another."""

from __future__ import annotations

import pytest

from chain.genesis import Founder, Genesis
from chain.params import DEMO
from chain.producer import ProposerKeys
from chain.weights import Weight, WeightTable
from tests.bench.rating_draws import drawn_first, fairness, tail


@pytest.mark.parametrize(
    ("square", "degrees", "p"),
    [
        (3.841, 1, 0.05),
        (5.991, 2, 0.05),
        (7.815, 3, 0.05),
        (11.070, 5, 0.05),
        (22.458, 6, 0.001),
        (0.0, 4, 1.0),
    ],
)
def test_the_tail_is_that_of_the_tables_in_books(square: float, degrees: int, p: float) -> None:
    assert tail(square, degrees) == pytest.approx(p, rel=2e-3)


def test_draws_follow_tables_that_change_and_no_others() -> None:
    keys = [ProposerKeys.from_seeds(bytes([i]) * 32, bytes([i + 100]) * 32) for i in range(1, 5)]
    genesis = Genesis("t", 0, DEMO, tuple(Founder(k.public, k.vrf_public, 10, "") for k in keys), ())

    def table(*ratings: int) -> WeightTable:
        entries = [Weight(k.public, k.vrf_public, r) for k, r in zip(keys, ratings, strict=True) if r]
        return WeightTable(tuple(sorted(entries, key=lambda entry: entry.public)))

    honest = {
        epoch: (bytes([epoch]) * 32, table(10, 10, 10, 10) if epoch < 20 else table(30, 5, 0, 10))
        for epoch in range(50)
    }
    drawn = drawn_first(genesis, honest)
    found = fairness(genesis, [held for _, held in honest.values()], drawn)
    assert (found["slots"], found["tables"], found["degrees"], sum(found["drawn"])) == (800, 2, 3, 800)
    assert found["p"] > 1e-4
    assert fairness(genesis, [table(10, 10, 10, 10)] * len(honest), drawn)["p"] < 1e-4
