"""How long a look at a claim takes: `python -m tests.bench.rating_segment [--mnist mnist.npz]`. Prints JSON.

Milliseconds of one core, by the NumPy kernel: of a segment; of the longest replay that a court may need (an
episode to its end); of that with the evaluation of a confusion matrix. The anchor, beside each segment: the
products of matrices alone that a segment is made of, in float32 by the same BLAS.
"""

from __future__ import annotations

import os

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")  # read when NumPy is imported

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from chain.baseline.draws import challenge
from chain.baseline.episode import replay
from chain.baseline.kernel import NumpyTrainer
from chain.baseline.net import Net
from chain.rating.draws import split
from p2pml.node.baseline_run import Baseline, load_baseline

GIVEN = challenge(bytes(32), 1, bytes(32))
ROUNDS = 15


def products(net: Net) -> Callable[[], None]:
    """The five products of each step of a segment: forward, back, and the two changes."""
    rng = np.random.default_rng(1)
    (inputs, hidden), (_, classes) = net.shapes
    x, h, error = (rng.standard_normal((net.batch, width), np.float32) for width in (inputs, hidden, classes))
    first, second = (rng.standard_normal(shape, np.float32) for shape in net.shapes)

    def run() -> None:
        for _ in range(net.steps):
            for left, right in ((x, first), (h, second), (error, second.T), (x.T, h), (h.T, error)):
                np.matmul(left, right)

    return run


def milliseconds(work: Callable[[], object]) -> float:
    """Of the processor, so that what else runs here counts little."""
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1000


def measure(baseline: Baseline, rounds: int) -> dict[str, Any]:
    """Medians over interleaved rounds."""
    net, last = baseline.net, baseline.net.segments - 1
    rows = split(bytes(32), baseline.tests)
    works: dict[str, Callable[[], object]] = {
        "products of a segment": products(net),
        "segment": lambda: replay(NumpyTrainer(net, baseline.train), GIVEN, 0, 0, 0),
        "episode": lambda: replay(NumpyTrainer(net, baseline.train), GIVEN, 0, last, last),
        "episode and matrix": lambda: baseline.evaluate(GIVEN, 0, rows),
    }
    for work in works.values():
        work()  # caches and pages are warm in all that counts
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            found[name].append(milliseconds(work))
    told = {name: round(median(each), 1) for name, each in found.items()}
    ratio = median(
        one / other for one, other in zip(found["segment"], found["products of a segment"], strict=True)
    )
    return {
        "train samples": len(baseline.train),
        "test samples": len(rows),
        "ms": told,
        "segment over its products": round(ratio, 3),
        "lowest and highest ms of a segment": [round(f(found["segment"]), 1) for f in (min, max)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mnist", type=Path, help="mnist.npz, to be measured beside the bundled digits")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    found = {"digits": measure(load_baseline(None), given.rounds)}
    if given.mnist:
        found["MNIST"] = measure(load_baseline(given.mnist), given.rounds)
    print(json.dumps({"nets": found, "load": round(os.getloadavg()[0], 2)}, indent=2))


if __name__ == "__main__":
    main()
