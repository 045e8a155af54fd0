"""A whole baseline test of this machine; and that the training learns as floats do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chain.baseline.draws import episode_seed
from chain.baseline.episode import batches, replay
from chain.baseline.kernel import NumpyTrainer, initial_weights
from chain.baseline.score import Quality, quality, rules_of
from chain.baseline.trace import Leaf
from chain.params import LAB
from p2pml.errors import UserError
from p2pml.node.baseline_run import Baseline, RunPlan, draw, load_baseline, rate, run_baseline
from p2pml.worker.lanes.pool import Window

REPO = Path(__file__).parents[2]
GIVEN = b"c" * 32
LAB_RULES = rules_of(LAB.baseline, LAB.energy_span_ppm)


def small(baseline: Baseline) -> Baseline:
    """The first inputs only, and short episodes, so that many of them pass in a second."""
    net = replace(baseline.net, inputs=200, hidden=64, steps=16, segments=3)
    cut = [replace(part, x=np.ascontiguousarray(part.x[:, :200])) for part in (baseline.train, baseline.test)]
    return Baseline(net, *cut)


def float_training(baseline: Baseline, rate: float) -> Quality:
    """The same net, initial weights and batches by SGD in floats, without rounding or cutting."""
    net = baseline.net
    seed = episode_seed(GIVEN, 0)
    first, second = (w.astype(np.float32) / 2**net.fraction for w in initial_weights(net, seed))
    # What the integer net does to its sums is a factor, taken into the weights here.
    first, second = first / 2**net.hidden_shift, second * 127 / 2**net.logit_shift * np.log(2) / 8
    x = baseline.train.x.astype(np.float32) / 127
    for segment in range(net.segments):
        for rows in batches(net, len(x), seed, segment):
            h = np.maximum(x[rows] @ first, 0)
            odds = np.exp((logits := h @ second) - logits.max(1, keepdims=True))
            error = odds / odds.sum(1, keepdims=True)
            error[np.arange(len(rows)), baseline.train.y[rows]] -= 1
            back = (error @ second.T) * (h > 0)
            second -= rate / len(rows) * (h.T @ error)
            first -= rate / len(rows) * (x[rows].T @ back)
    test = baseline.test
    predicted = (np.maximum(test.x.astype(np.float32) / 127 @ first, 0) @ second).argmax(1)
    counts = np.zeros((net.classes, net.classes), int)
    np.add.at(counts, (test.y, predicted), 1)
    return quality(counts.tolist())


def integer_training(baseline: Baseline) -> Quality:
    trainer = NumpyTrainer(baseline.net, baseline.train)
    replay(trainer, GIVEN, 0, 0, baseline.net.segments - 1)
    return quality(trainer.confusion(baseline.test))


def check_learning(baseline: Baseline, least: int, rates: Sequence[float] = (0.05, 0.1, 0.2)) -> None:
    found = integer_training(baseline)
    floats = max((float_training(baseline, rate) for rate in rates), key=lambda q: q.combined)
    print("integers", found, "floats", floats)
    assert min(found.accuracy, found.precision, found.f1) >= least
    assert found.combined >= floats.combined - 15_000


@pytest.mark.slow
def test_integers_learn_the_bundled_digits_as_floats_do() -> None:
    check_learning(load_baseline(), 900_000)


@pytest.mark.slow
@pytest.mark.long
def test_integers_learn_mnist_as_floats_do() -> None:
    path = Path(os.environ.get("P2PML_MNIST", REPO.parent / "shared" / "data" / "mnist.npz"))
    if not path.exists():
        pytest.skip(f"MNIST IS NOT HERE: put mnist.npz at {path} or name it in $P2PML_MNIST")
    check_learning(load_baseline(path), 940_000, [0.1])


@pytest.mark.slow
def test_no_training_is_no_quality() -> None:
    """The quality's lower bound is above what fresh weights give, and labels that mean nothing."""
    baseline = load_baseline()
    trainer = NumpyTrainer(baseline.net, baseline.train)
    trainer.begin(bytes(32))
    lowest = LAB_RULES.lowest_quality
    assert quality(trainer.confusion(baseline.test)).combined < lowest // 2
    shuffled = replace(baseline.train, y=np.random.default_rng(1).permutation(baseline.train.y))
    assert integer_training(replace(baseline, train=shuffled)).combined < lowest // 2


@pytest.mark.slow
async def test_a_window_on_this_machine() -> None:
    told: list[str] = []
    plan = RunPlan(seconds=2.0, lanes=2, nice=0, watts=40.0, challenge=GIVEN)
    outcome = await run_baseline(
        small(load_baseline()), plan, LAB_RULES, lambda text, look: told.append(text)
    )
    assert outcome.joules == 80
    assert outcome.energy_source == "declared"
    assert outcome.completed >= len(outcome.evaluated) == 3
    assert outcome.lanes == 2
    assert sum(map(sum, outcome.confusion)) == 3 * 300
    assert outcome.score.segments >= 9
    trying, starting, *rest = dict.fromkeys(told)
    assert trying == "trying out kernels"
    assert starting.startswith("starting 2 lanes")
    assert rest == ["training", "evaluating"]


def window(baseline: Baseline, episode: int, segments: int) -> Window:
    trainer = NumpyTrainer(baseline.net, baseline.train)
    return Window(replay(trainer, GIVEN, episode, 0, segments - 1), 1, None, 1)


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    return small(load_baseline())


def test_work_that_cannot_be_repeated_is_told(baseline: Baseline) -> None:
    plan = RunPlan(seconds=1.0, challenge=GIVEN)
    good = window(baseline, 5, 3)
    assert rate(baseline, plan, LAB_RULES, good).evaluated == (5,)
    bad = replace(good, leaves=(*good.leaves[:2], Leaf(5, 2, bytes(32))))
    with pytest.raises(UserError, match="episode 5 gives other numbers"):
        rate(baseline, plan, LAB_RULES, bad)


def test_a_window_without_a_whole_episode_is_told(baseline: Baseline) -> None:
    with pytest.raises(UserError, match="no lane finished an episode of 3 segments in 1 s") as told:
        rate(baseline, RunPlan(seconds=1.0), LAB_RULES, window(baseline, 0, 2))
    assert "--seconds" in told.value.fix


def test_a_declared_power_that_cannot_be_is_told(baseline: Baseline) -> None:
    plan = RunPlan(seconds=1.0, watts=1e-9, challenge=GIVEN)
    rules = replace(LAB_RULES, wasteful=1, thrifty=2, impossible=3)
    with pytest.raises(UserError, match="samples cannot be trained on with 1 J"):
        rate(baseline, plan, rules, window(baseline, 0, 3))


def test_counters_are_used_where_nothing_is_declared(baseline: Baseline) -> None:
    done = replace(window(baseline, 0, 3), joules=5)
    outcome = rate(baseline, RunPlan(seconds=1.0, challenge=GIVEN), LAB_RULES, done)
    assert (outcome.joules, outcome.energy_source) == (5, "counters")
    assert outcome.score.samples_per_joule == 3 * 16 * 256 // 5
    outcome = rate(baseline, RunPlan(seconds=1.0, challenge=GIVEN), LAB_RULES, replace(done, joules=None))
    assert (outcome.joules, outcome.energy_source) == (0, "none")


def test_the_episodes_that_are_evaluated_are_drawn(baseline: Baseline) -> None:
    class Made:
        completed = tuple(range(20))

        def __init__(self, root: bytes) -> None:
            self.root = root

    drawn: set[Any] = {draw(Made(bytes([i])), 3) for i in range(20)}  # type: ignore[arg-type]
    assert len(drawn) > 15
    assert all(len(set(chosen)) == 3 and list(chosen) == sorted(chosen) for chosen in drawn)


@pytest.mark.parametrize(
    ("arrays", "cause"),
    [
        ({"x": np.ones((4, 3), np.float32) / 3, "y": np.arange(4)}, "the samples are not bytes"),
        ({"x": np.zeros((4, 3), np.uint8), "y": np.arange(4)}, "not all 0"),
        ({"x": np.ones((4, 3), np.uint8), "y": np.array([0, 1, 2, 1040])}, "classes is 1041"),
        ({"x": np.ones((4, 3), np.uint8), "y": np.array([0, 1, 2, 64])}, "65 classes are more than the 64"),
        ({"z": np.ones(3)}, "needs arrays x_train and y_train"),
    ],
)
def test_data_that_cannot_be_trained_on_is_told(tmp_path: Path, arrays: dict[str, Any], cause: str) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=cause):
        load_baseline(path)
    with pytest.raises(UserError, match="cannot read"):
        load_baseline(tmp_path / "absent.npz")
