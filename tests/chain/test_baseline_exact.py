"""The integers are the same in float32, in int64 and in Python's own; and what bounds that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.baseline.dataset import Samples, net_for, prepare
from chain.baseline.draws import challenge
from chain.baseline.episode import batches, replay, train
from chain.baseline.kernel import NumpyTrainer
from chain.baseline.net import DIGITS, MAX_CONTRACTION, MNIST, Net
from chain.errors import ChainError, ParamsError
from tests.chain import baseline_reference as reference

TINY = Net(
    pixels=5, top=16, mix_shift=1, inputs=6, hidden=5, classes=3, batch=8, steps=3, segments=2,
    hidden_shift=5, logit_shift=5, back_shift=3, hidden_spread=40, output_spread=40,
)  # fmt: skip
GIVEN = challenge(bytes(32), 1, bytes(range(32)))


def tiny_data(net: Net, seed: int, count: int = 20) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, net.top + 1, (count, net.pixels), np.uint8)
    return x, rng.integers(0, net.classes, count)


@st.composite
def nets(draw: st.DrawFn) -> Net:
    small, shift = st.integers(1, 9), st.integers(0, 9)
    return Net(
        pixels=draw(small), top=draw(st.integers(1, 255)), mix_shift=draw(st.integers(0, 3)),
        inputs=draw(small), hidden=draw(small), classes=draw(st.integers(2, 6)), batch=draw(small),
        fraction=draw(st.integers(1, 16)), hidden_shift=draw(shift), logit_shift=draw(shift),
        back_shift=draw(shift), hidden_spread=draw(st.integers(1, 127)),
        output_spread=draw(st.integers(1, 127)), steps=draw(st.integers(1, 4)), segments=2,
    )  # fmt: skip


@given(nets(), st.integers(0, 2**32), st.binary(min_size=32, max_size=32), st.integers(0, 2**40))
@settings(max_examples=40, deadline=None)
def test_three_ways_to_compute_give_the_same_leaves(net: Net, seed: int, given: bytes, episode: int) -> None:
    x, y = tiny_data(net, seed)
    samples = prepare(net, x, y)
    assert samples.x.tolist() == reference.mixed(net, x.tolist())
    expected = reference.leaves(net, x.tolist(), y.tolist(), given, episode)
    for dtype in (np.float32, np.int64):
        found = replay(NumpyTrainer(net, samples, dtype), given, episode, 0, 1)
        assert [leaf.digest for leaf in found] == expected


def test_the_weights_of_such_a_net_do_change_and_reach_their_bound() -> None:
    """Otherwise the test above would compare nothing."""
    net = replace(TINY, fraction=1, steps=40)
    trainer = NumpyTrainer(net, prepare(net, *tiny_data(net, 7)), np.int64)
    trainer.begin(bytes(32))
    before = trainer.state()
    for leaf in train(trainer, GIVEN, 0):
        if leaf is not None:
            break
    values = np.frombuffer(trainer.state(), "<i4")
    assert trainer.state() != before
    assert np.abs(values).max() == 127 * 2


def saturated(net: Net) -> Samples:
    """Inputs at both ends of the range, so that sums come near their bounds."""
    rng = np.random.default_rng(3)
    x = rng.choice(np.array([-127, 127], np.int8), (net.batch, net.inputs))
    return Samples(x, rng.integers(0, net.classes, net.batch))


@pytest.mark.slow
@pytest.mark.parametrize(
    "net",
    [
        replace(MNIST, steps=2, segments=1),
        replace(MNIST, batch=520, inputs=1040, hidden=300, steps=2, segments=1),
        replace(MNIST, batch=520, hidden=1040, inputs=300, steps=2, segments=1, hidden_spread=127,
                output_spread=127),
    ],
)  # fmt: skip
def test_nets_at_the_bounds_are_exact(net: Net) -> None:
    samples = saturated(net)
    [fast] = replay(NumpyTrainer(net, samples), GIVEN, 0, 0, 0)
    [plain] = replay(NumpyTrainer(net, samples, np.int64), GIVEN, 0, 0, 0)
    assert fast == plain


def largest_sum(contraction: int) -> tuple[int, int]:
    """127 x 127 that often: in float32, and truly."""
    row = np.full((1, contraction), 127)
    floats = row.astype(np.float32)
    return int((floats @ floats.T)[0, 0]), int((row @ row.T)[0, 0])


def test_the_bound_is_where_float32_ends() -> None:
    assert MAX_CONTRACTION == 1040
    found, true = largest_sum(1040)
    assert found == true
    found, true = largest_sum(1041)
    assert found != true


@pytest.mark.parametrize("field", ["inputs", "hidden", "classes"])
def test_a_contraction_of_1041_is_refused(field: str) -> None:
    at_most = replace(MNIST, back_shift=1, **{field: 1040})
    assert getattr(at_most, field) == 1040
    with pytest.raises(ParamsError, match=rf"{field} is 1041, at most 1040 products"):
        replace(at_most, **{field: 1041})


def test_a_batch_of_1041_is_refused() -> None:
    replace(MNIST, batch=1040, fraction=1)
    with pytest.raises(ParamsError, match="batch is 1041, at most 1040"):
        replace(MNIST, batch=1041, fraction=1)


@pytest.mark.parametrize(("fraction", "batch"), [(16, 520), (15, 780)])
def test_an_update_that_float32_cannot_hold_is_refused(fraction: int, batch: int) -> None:
    replace(MNIST, fraction=fraction, batch=batch)
    with pytest.raises(ParamsError, match=r"the update of a weight may reach 167\d+"):
        replace(MNIST, fraction=fraction, batch=batch + 1)


def test_an_error_and_an_input_that_float32_cannot_hold_are_refused() -> None:
    replace(MNIST, classes=1040, back_shift=12)
    with pytest.raises(ParamsError, match="an error that goes back"):
        replace(MNIST, classes=1040, back_shift=13)
    replace(MNIST, pixels=132_103, mix_shift=8)
    with pytest.raises(ParamsError, match="a mixed input"):
        replace(MNIST, pixels=132_104, mix_shift=8)


@pytest.mark.parametrize(
    "change",
    [{"top": 0}, {"top": 256}, {"classes": 1}, {"hidden_spread": 128}, {"steps": 0}, {"fraction": True}],
)
def test_values_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ParamsError, match=next(iter(change))):
        replace(MNIST, **change)


def test_replay_gives_any_part_of_an_episode_and_nothing_else() -> None:
    samples = prepare(TINY, *tiny_data(TINY, 1))
    whole = [leaf for leaf in train(NumpyTrainer(TINY, samples), GIVEN, 9) if leaf is not None]
    assert [(leaf.episode, leaf.segment) for leaf in whole] == [(9, 0), (9, 1)]
    assert replay(NumpyTrainer(TINY, samples), GIVEN, 9, 1, 1) == (whole[1],)
    assert replay(NumpyTrainer(TINY, samples), GIVEN, 9, 0, 1) == tuple(whole)
    for first, last in ((0, 2), (-1, 1), (1, 0)):
        with pytest.raises(ChainError, match="segments 0 to 1"):
            replay(NumpyTrainer(TINY, samples), GIVEN, 9, first, last)


def test_a_trainer_remembers_nothing_of_an_earlier_episode() -> None:
    trainer = NumpyTrainer(TINY, prepare(TINY, *tiny_data(TINY, 1)))
    first = replay(trainer, GIVEN, 4, 0, 1)
    replay(trainer, GIVEN, 5, 0, 0)
    assert replay(trainer, GIVEN, 4, 0, 1) == first


def test_whoever_when_and_which_episode_decide_the_leaves() -> None:
    trainer = NumpyTrainer(TINY, prepare(TINY, *tiny_data(TINY, 1)))
    challenges = [challenge(mix, window, account) for mix in (bytes(32), b"m" * 32) for window in (1, 2)
                  for account in (bytes(32), b"a" * 32)]  # fmt: skip
    digests = {replay(trainer, given, episode, 0, 0)[0].digest for given in challenges for episode in (0, 1)}
    assert len(digests) == 16
    with pytest.raises(ChainError, match="32 bytes"):
        challenge(bytes(31), 1, bytes(32))


def test_batches_are_drawn_from_all_samples() -> None:
    rows = batches(DIGITS, 1497, bytes(32), 0)
    assert rows.shape == (32, 256)
    assert rows.min() >= 0
    assert rows.max() < 1497
    assert len(np.unique(rows)) > 1400  # 8192 draws miss one in 240


def test_a_tie_goes_to_the_lowest_class() -> None:
    net = replace(TINY, hidden_shift=15)  # nothing reaches the output layer: all logits are 0
    x, y = tiny_data(net, 1)
    trainer = NumpyTrainer(net, prepare(net, x, y))
    trainer.begin(bytes(32))
    counts = trainer.confusion(prepare(net, x, y))
    assert [row[1:] for row in counts] == [(0, 0)] * 3
    assert sum(row[0] for row in counts) == len(y)


def test_a_net_is_made_for_its_data() -> None:
    x = np.zeros((10, 2, 4), np.uint8)
    x[:, 0, 0] = 200
    net = net_for(x, np.array([0, 3]))
    assert (net.pixels, net.top, net.classes, net.mix_shift) == (8, 200, 4, 1)
    assert net_for(np.full((1, 640), 9, np.uint8), np.array([0])).mix_shift == 6
    for bad in (np.zeros((10, 4), np.uint8), x.astype(np.float32), x[:0]):
        with pytest.raises(ParamsError, match="samples of bytes"):
            net_for(bad, np.array([0]))


def test_samples_of_another_net_are_refused() -> None:
    x, y = tiny_data(TINY, 1)
    bad = [(x[:, :4], y), (x, y + 3), (x, y - 3), (x + 16, y), (x[:0], y[:0]), (x.astype(int), y), (x, y[1:])]
    for bad_x, bad_y in bad:
        with pytest.raises(ParamsError, match="baseline:"):
            prepare(TINY, bad_x, bad_y)
