"""From counts to the rating, in integers only; parts are in millionths (ppm).

With exact training all honest nodes reach nearly the same quality: it shows that the work was learning, and
the amount of work done in the fixed time tells nodes apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chain.baseline.net import Net
from chain.errors import InvalidRating, ParamsError
from chain.quality import Baseline

ONE = 1_000_000
"""1 in millionths."""

Matrix = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class ScoreRules:
    """What quality and energy count. Raises ParamsError when the values contradict."""

    lowest_quality: int
    """Quality (ppm) below which there is no rating."""
    reference_quality: int
    """Quality (ppm) from which it counts in full."""
    energy_span: int = 0
    """Up to so many ppm are added for little energy, or taken for much, or where none is told."""
    wasteful: int = 500
    """Samples per joule that count as much energy: the lower end of the span."""
    thrifty: int = 10_000
    """Samples per joule that count as little energy: the upper end."""
    impossible: int = 4_000_000
    """Samples per joule that no machine reaches: about 3 x 10^12 operations per joule."""

    def __post_init__(self) -> None:
        if not 0 <= self.lowest_quality < self.reference_quality <= ONE:
            raise ParamsError("the lowest quality must be below the reference, both within 0..1000000 ppm")
        if not 0 <= self.energy_span < ONE:
            raise ParamsError("the energy span must be within 0..999999 ppm")
        if not 0 < self.wasteful < self.thrifty < self.impossible:
            raise ParamsError("samples per joule must grow from wasteful to thrifty to impossible")


def rules_of(baseline: Baseline, energy_span: int) -> ScoreRules:
    """What a chain's voters and parameters say (`q_min`, `q_ref`, `energy_span_ppm`)."""
    return ScoreRules(baseline.q_min, baseline.q_ref, energy_span)


@dataclass(frozen=True, slots=True)
class Quality:
    """How good a classifier is, in ppm; precision and F1 are means over classes."""

    accuracy: int
    precision: int
    f1: int

    @property
    def combined(self) -> int:
        """F1 counts twice."""
        return (2 * self.f1 + self.accuracy + self.precision) // 4


@dataclass(frozen=True, slots=True)
class Score:
    """A rating and what it is made of.

    Args:
        rating: segments per minute x quality x energy, rounded down.
        segments: done in the window.
        window_ms: its length.
        quality: on the test samples.
        quality_factor: ppm, 0 or 500000..1000000.
        energy_factor: ppm, around 1000000.
        samples_per_joule: None where no energy was told.
    """

    rating: int
    segments: int
    window_ms: int
    quality: Quality
    quality_factor: int
    energy_factor: int
    samples_per_joule: int | None


def add(matrices: Sequence[Matrix]) -> tuple[tuple[int, ...], ...]:
    """The sum of confusion matrices of one size."""
    return tuple(
        tuple(sum(cells) for cells in zip(*rows, strict=True)) for rows in zip(*matrices, strict=True)
    )


def quality(confusion: Matrix) -> Quality:
    """Accuracy, macro precision and macro F1 of a confusion matrix [true class][predicted class].

    A class that neither occurs nor is predicted is left out of the means; 0 / 0 is 0.

    Raises:
        InvalidRating: not a square of counts, or without any sample.
    """
    size = len(confusion)
    if any(len(row) != size or min(row) < 0 for row in confusion):
        raise InvalidRating("a confusion matrix is a square of counts")
    occur = [sum(row) for row in confusion]
    predicted = [sum(column) for column in zip(*confusion, strict=True)]
    if not sum(occur):
        raise InvalidRating("a confusion matrix without samples")
    hits = [confusion[label][label] for label in range(size)]
    seen = [label for label in range(size) if occur[label] + predicted[label]]
    precision = sum(_share(hits[label], predicted[label]) for label in seen) // len(seen)
    f1 = sum(_share(2 * hits[label], occur[label] + predicted[label]) for label in seen) // len(seen)
    return Quality(_share(sum(hits), sum(occur)), precision, f1)


def quality_factor(rules: ScoreRules, combined: int) -> int:
    """0 below the lowest quality, then from a half to 1 at the reference; ppm."""
    if combined < rules.lowest_quality:
        return 0
    span = rules.reference_quality - rules.lowest_quality
    return ONE // 2 + min((combined - rules.lowest_quality) * ONE // span, ONE) // 2


def energy_factor(rules: ScoreRules, samples: int, joules: int) -> int:
    """1 - span to 1 + span, ppm; no report (0 joules) is the lower end.

    Raises:
        InvalidRating: less energy than any machine needs for that work.
    """
    if joules < 0 or (joules and samples > joules * rules.impossible):
        raise InvalidRating(f"{samples} samples cannot be trained on with {joules} J")
    if not joules:
        return ONE - rules.energy_span
    above = min(max(samples // joules - rules.wasteful, 0), rules.thrifty - rules.wasteful)
    return ONE - rules.energy_span + 2 * rules.energy_span * above // (rules.thrifty - rules.wasteful)


def score(
    rules: ScoreRules, net: Net, segments: int, window_ms: int, joules: int, confusion: Matrix
) -> Score:
    """The rating of a window.

    Args:
        segments: all that were done in it, those of unfinished episodes too.
        window_ms: its length.
        joules: spent in it; 0 when not told.
        confusion: of completed episodes on the test samples.

    Raises:
        InvalidRating: numbers that cannot be.
    """
    if segments < net.segments or window_ms < 1:
        raise InvalidRating(f"a rating needs a whole episode of {net.segments} segments, not {segments}")
    found, samples = quality(confusion), segments * net.segment_samples
    by_quality = quality_factor(rules, found.combined)
    by_energy = energy_factor(rules, samples, joules)
    rating = segments * 60_000 * by_quality * by_energy // (window_ms * ONE * ONE)
    return Score(
        rating, segments, window_ms, found, by_quality, by_energy, samples // joules if joules else None
    )


def _share(part: int, whole: int) -> int:
    return ONE * part // whole if whole else 0
