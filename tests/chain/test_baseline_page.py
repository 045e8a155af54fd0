"""The worked values in docs/spec/baseline.md are those of the code.

`python -m tests.chain.test_baseline_page` prints the table anew.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from chain.baseline.dataset import net_for, prepare
from chain.baseline.draws import challenge, episode_seed, mix_bits
from chain.baseline.episode import batches, replay
from chain.baseline.kernel import ODDS, NumpyTrainer, initial_weights
from chain.baseline.net import DIGITS, MNIST
from chain.baseline.score import quality
from chain.baseline.trace import Trace

REPO = Path(__file__).parents[2]
PAGE = REPO / "docs" / "spec" / "baseline.md"
GIVEN = challenge(bytes(32), 1, bytes(32))
SEED = episode_seed(GIVEN, 0)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def numbers(values: object) -> str:
    return " ".join(str(int(value)) for value in np.asarray(values).reshape(-1))


def quick_values() -> dict[str, str]:
    first, second = initial_weights(DIGITS, SEED)
    return {
        "challenge": GIVEN.hex(),
        "seed of episode 0": SEED.hex(),
        "SHA-256 of the mixing bits, digits": sha(mix_bits(DIGITS)),
        "SHA-256 of the mixing bits, MNIST": sha(mix_bits(MNIST)),
        "odds 0 … 8": numbers(ODDS[:9]),
        "odds 127": numbers(ODDS[127]),
        "SHA-256 of the odds, int32": sha(ODDS.astype("<i4").tobytes()),
        "hidden weights 0 … 3 of row 0": numbers(first[0, :4]),
        "output weights 0 … 3 of row 0": numbers(second[0, :4]),
        "samples 0 … 7 of step 0": numbers(batches(DIGITS, 1497, SEED, 0)[0, :8]),
    }


def trained_values() -> dict[str, str]:
    with np.load(REPO / "p2pml" / "data" / "digits.npz") as arrays:
        x, y, test_x, test_y = (arrays[key] for key in ("x_train", "y_train", "x_test", "y_test"))
    net = net_for(x, y)
    assert net == DIGITS
    samples = prepare(net, x, y)
    trainer = NumpyTrainer(net, samples)
    other = replay(trainer, GIVEN, 1, 0, 1)
    leaves = replay(trainer, GIVEN, 0, 0, 7)
    found = quality(trainer.confusion(prepare(net, test_x, test_y)))
    return {
        "inputs 0 … 7 of training sample 0": numbers(samples.x[0, :8]),
        "SHA-256 of all training inputs, int8": sha(samples.x.tobytes()),
        "digest of segment 0": leaves[0].digest.hex(),
        "digest of segment 7": leaves[7].digest.hex(),
        "root of segments 0, 1 of episodes 0, 1": Trace(net, [*leaves[:2], *other]).root.hex(),
        "accuracy, precision, F1 after episode 0": f"{found.accuracy} {found.precision} {found.f1}",
    }


def on_the_page() -> dict[str, str]:
    return dict(re.findall(r"^\| ([^|`]+) \| `([^`]+)` \|$", PAGE.read_text(), re.MULTILINE))


def test_what_is_drawn_is_what_the_page_says() -> None:
    assert quick_values().items() <= on_the_page().items()


@pytest.mark.slow
def test_what_is_computed_is_what_the_page_says() -> None:
    assert trained_values().items() <= on_the_page().items()


def test_the_page_has_no_other_values() -> None:
    assert len(on_the_page()) == 16


if __name__ == "__main__":
    for name, value in {**quick_values(), **trained_values()}.items():
        print(f"| {name} | `{value}` |")
