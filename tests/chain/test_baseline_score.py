"""Numbers of the rating, each worked out by hand or checked against its definition in fractions."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.baseline.net import MNIST
from chain.baseline.score import (
    ONE,
    Quality,
    ScoreRules,
    add,
    energy_factor,
    quality,
    quality_factor,
    rules_of,
    score,
)
from chain.errors import InvalidRating, ParamsError
from chain.params import MAIN

MAIN_RULES = rules_of(MAIN.baseline, MAIN.energy_span_ppm)
RULE = ScoreRules(lowest_quality=700_000, reference_quality=900_000, energy_span=50_000)
GOOD = ((90, 10), (5, 95))


def test_quality_by_hand() -> None:
    """Precision 90/95 and 95/105, F1 180/195 and 190/205."""
    assert quality(GOOD) == Quality(925_000, (947_368 + 904_761) // 2, (923_076 + 926_829) // 2)
    assert quality(GOOD).combined == (2 * 924_952 + 925_000 + 926_064) // 4


def test_a_class_that_is_not_there_is_left_out_and_one_never_predicted_is_not() -> None:
    assert quality(((10, 0, 0), (0, 10, 0), (0, 0, 0))) == Quality(ONE, ONE, ONE)
    assert quality(((10, 0, 0), (0, 10, 0), (10, 0, 0))) == Quality(666_666, 500_000, (666_666 + ONE) // 3)


@given(st.lists(st.lists(st.integers(0, 50), min_size=4, max_size=4), min_size=4, max_size=4))
def test_quality_is_what_its_names_mean(rows: list[list[int]]) -> None:
    total = sum(map(sum, rows))
    if not total:
        with pytest.raises(InvalidRating):
            quality(rows)
        return
    precisions, scores = [], []
    for label in range(4):
        true, false = rows[label][label], sum(row[label] for row in rows) - rows[label][label]
        missed = sum(rows[label]) - true
        if true + false + missed:
            p = Fraction(true, true + false) if true + false else Fraction(0)
            r = Fraction(true, true + missed) if true + missed else Fraction(0)
            precisions.append(p)
            scores.append(2 * p * r / (p + r) if p + r else Fraction(0))
    found = quality(rows)
    assert found.accuracy == ONE * sum(rows[i][i] for i in range(4)) // total
    for value, parts in ((found.precision, precisions), (found.f1, scores)):
        assert 0 <= Fraction(sum(parts), len(parts)) * ONE - value < 2


@pytest.mark.parametrize("matrix", [(), ((0, 0), (0, 0)), ((1, 2),), ((1, -1), (0, 1))])
def test_what_is_no_confusion_matrix_is_refused(matrix: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(InvalidRating):
        quality(matrix)


def test_matrices_add_up() -> None:
    assert add([GOOD, ((1, 2), (3, 4))]) == ((91, 12), (8, 99))


@pytest.mark.parametrize(
    ("combined", "factor"),
    [(0, 0), (699_999, 0), (700_000, 500_000), (800_000, 750_000), (900_000, ONE), (ONE, ONE)],
)
def test_quality_counts_between_a_half_and_one(combined: int, factor: int) -> None:
    assert quality_factor(RULE, combined) == factor


@pytest.mark.parametrize(
    ("samples", "joules", "factor"),
    [
        (1_000_000, 0, 950_000),  # not told
        (1_000_000, 10_000, 950_000),  # 100 a joule
        (1_000_000, 100, 1_050_000),  # 10,000 a joule
        (525_000, 100, 1_000_000),  # 5,250, the middle
        (4_000_000, 1, 1_050_000),
    ],
)
def test_energy_counts_within_the_span(samples: int, joules: int, factor: int) -> None:
    assert energy_factor(RULE, samples, joules) == factor
    assert energy_factor(MAIN_RULES, samples, joules) == ONE


def test_less_energy_than_nature_allows_is_refused() -> None:
    with pytest.raises(InvalidRating, match="4000001 samples cannot be trained on with 1 J"):
        energy_factor(RULE, 4_000_001, 1)


def test_a_rating_by_hand() -> None:
    found = score(RULE, MNIST, 1200, 60_000, 0, GOOD)
    assert (found.quality_factor, found.energy_factor) == (ONE, 950_000)
    assert found.rating == 1140
    assert score(MAIN_RULES, MNIST, 1200, 60_000, 0, GOOD).rating == 1200 * 938_105 // ONE
    assert score(RULE, MNIST, 200, 10_000, 0, GOOD).rating == 1140
    assert score(RULE, MNIST, 1200, 60_000, 3_932, GOOD).samples_per_joule == 2_500


def test_no_whole_episode_no_rating() -> None:
    score(RULE, MNIST, 8, 60_000, 0, GOOD)
    for segments, window in ((7, 60_000), (8, 0)):
        with pytest.raises(InvalidRating):
            score(RULE, MNIST, segments, window, 0, GOOD)


@given(st.integers(8, 10**6), st.integers(1, 7))
def test_a_rating_does_not_depend_on_how_the_work_is_divided(segments: int, parts: int) -> None:
    """k identities that share a machine have together what one has, but for what is rounded down."""
    whole = score(RULE, MNIST, segments * parts, 60_000, 0, GOOD).rating
    assert 0 <= whole - parts * score(RULE, MNIST, segments, 60_000, 0, GOOD).rating <= parts


@pytest.mark.parametrize(
    "change",
    [
        {"lowest_quality": 950_000},
        {"reference_quality": ONE + 1},
        {"energy_span": ONE},
        {"wasteful": 0},
        {"thrifty": 500},
        {"impossible": 10_000},
    ],
)
def test_rules_that_contradict_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ParamsError):
        replace(MAIN_RULES, **change)
