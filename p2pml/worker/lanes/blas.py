"""Which of its kernels OpenBLAS had better compute a window with.

By itself it takes those that are meant for the processor's name, and these may be the slower ones (measured:
docs/guide/ratings.md). All of them give the same integers, and what a machine is rated should not depend on
whether its owner knows of an environment variable. So they are tried out, each in a process of its own, since
the choice is made when NumPy is imported and a processor may not have what a kernel needs.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import trio

VARIABLE = "OPENBLAS_CORETYPE"
CANDIDATES = ("Nehalem", "Sandybridge", "Haswell", "SkylakeX")
"""One for each width of vectors that x86-64 has: SSE4, AVX, AVX2 with FMA, AVX-512."""
BETTER = 1.1
"""Times as fast as the library's own choice is worth another one; less is chance."""
STEPS_S = 0.25
"""Processor time of each trial,"""
PATIENCE_S = 10.0
"""and seconds after which it is given up."""
TRIALS_S = 12.0
"""Within which all trials are over, by far, on a machine that can be rated."""


def candidates(environment: Mapping[str, str], machine: str) -> tuple[str, ...]:
    """What is worth a trial beside the library's own choice; nothing where the owner has chosen."""
    return CANDIDATES if machine in ("x86_64", "AMD64") and VARIABLE not in environment else ()


async def fastest(folder: Path) -> str:
    """The best value of `OPENBLAS_CORETYPE` here; empty for the library's own choice.

    Args:
        folder: where `store.write` has put net and samples.
    """
    others = candidates(os.environ, platform.machine())
    if not others:
        return ""
    return choose({name: await _trial(folder, name) for name in ("", *others)})


def choose(speeds: Mapping[str, float]) -> str:
    """The fastest, if it is worth it.

    Args:
        speeds: steps a second by name, 0 for what does not run here; `""` is the library's own choice.
    """
    best = max(speeds, key=lambda name: speeds[name])
    return best if speeds[best] > BETTER * speeds[""] else ""


async def _trial(folder: Path, name: str) -> float:
    """Steps a second with these kernels; 0 where they do not run."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", **({VARIABLE: name} if name else {})}
    command = [sys.executable, "-m", "p2pml.worker.lanes.blas", str(folder)]
    speed = 0.0
    with trio.move_on_after(PATIENCE_S), suppress(OSError, ValueError):
        ran = await trio.run_process(
            command, capture_stdout=True, stderr=subprocess.DEVNULL, check=False, env=environment
        )
        speed = float(ran.stdout) if ran.returncode == 0 else 0.0
    return speed


def main(arguments: list[str]) -> int:
    """One trial: print the steps in a second of processor time."""
    import numpy as np

    from p2pml.worker.lanes.lane import build

    trainer = build(Path(arguments[0]), "numpy")
    rows = np.zeros(trainer.net.batch, np.intp)
    steps, began = 0, time.process_time()
    while (taken := time.process_time() - began) < STEPS_S:
        trainer.step(rows)
        steps += 1
    print(steps / taken)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
