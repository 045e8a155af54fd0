"""What one process computes for a fixed challenge: `python -m tests.bench.baseline_probe` prints JSON.

Started anew with other BLAS threads, kernels and libraries in its environment, which are read at import.
"""

from __future__ import annotations

import argparse
import ctypes
import json
from pathlib import Path
from typing import Any

import numpy as np

from chain.baseline.dataset import net_for, prepare
from chain.baseline.draws import challenge
from chain.baseline.episode import Trainer, replay
from chain.baseline.kernel import NumpyTrainer
from chain.baseline.trace import Trace

DIGITS = Path(__file__).parents[2] / "p2pml" / "data" / "digits.npz"
GIVEN = challenge(bytes(32), 1, bytes(32))


def core_name() -> str:
    """The kernels that OpenBLAS has chosen; empty where NumPy has another library."""
    folder = Path(np.__file__).parent
    for path in [*folder.with_name("numpy.libs").glob("*openblas*"), *folder.glob(".libs/*openblas*")]:
        library = ctypes.CDLL(str(path))
        for name in ("openblas_get_corename64_", "openblas_get_corename", "scipy_openblas_get_corename64_"):
            if function := getattr(library, name, None):
                function.restype = ctypes.c_char_p
                return str(function().decode())
    return ""


def probe(path: Path, kernel: str, segments: int) -> dict[str, Any]:
    """The trace of the beginnings of two episodes, and what computed it."""
    with np.load(path) as arrays:
        x, y = arrays["x_train"], arrays["y_train"].astype(np.int64)
    net = net_for(x, y)
    samples = prepare(net, x, y)
    trainer: Trainer
    version = np.__version__
    if kernel == "tensorflow":
        from p2pml.worker.lanes.tf_trainer import TensorFlowTrainer, tf

        trainer, version = TensorFlowTrainer(net, samples), tf.__version__
    else:
        trainer = NumpyTrainer(net, samples, np.float32 if kernel == "numpy" else np.int64)
    leaves = [leaf for episode in (0, 1) for leaf in replay(trainer, GIVEN, episode, 0, segments - 1)]
    return {"root": Trace(net, leaves).root.hex(), "version": version, "core": core_name()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", type=Path, default=DIGITS)
    parser.add_argument("--kernel", choices=["numpy", "int64", "tensorflow"], default="numpy")
    parser.add_argument("--segments", type=int, default=2)
    options = parser.parse_args()
    print(json.dumps(probe(options.dataset, options.kernel, options.segments)))


if __name__ == "__main__":
    main()
