"""Which of its kernels OpenBLAS had better compute a window with.

By itself it takes those that are meant for the processor's name, and these may be the slower ones (measured:
docs/guide/ratings.md). All of them give the same integers, and what a machine is rated should not depend on
whether its owner knows of an environment variable. So they are tried out, each in a process of its own, since
the choice is made when NumPy is imported and a processor may not have what a kernel needs. One that computes
something else would have its node convicted of fraud, so each is compared with a step in int64.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import trio

from p2pml.worker.give_way import give_way
from p2pml.worker.lanes.environment import KERNELS, lane_environment

NEEDS = {
    "Nehalem": {"sse4_2"},
    "Sandybridge": {"avx"},
    "Haswell": {"avx2", "fma"},
    "SkylakeX": {"avx512f", "avx512bw", "avx512vl"},
}
"""One set of kernels for each width of vectors that x86-64 has, and what of /proc/cpuinfo it needs."""
BETTER = 1.1
"""Times as fast as the library's own choice is worth another one; less is chance."""
STEPS_S = 0.25
"""Processor time of each trial,"""
PATIENCE_S = 10.0
"""and seconds after which it is given up."""
CPUINFO = Path("/proc/cpuinfo")


def candidates(environment: Mapping[str, str], cpuinfo: str) -> tuple[str, ...]:
    """What is worth a trial beside the library's own choice; nothing where the owner has chosen."""
    line = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), "")
    flags = set(line.partition(":")[2].split())
    return () if KERNELS in environment else tuple(name for name, needed in NEEDS.items() if needed <= flags)


async def fastest(folder: Path, nice: int) -> str:
    """The best value of `OPENBLAS_CORETYPE` here; empty for the library's own choice.

    Args:
        folder: where `store.write` has put net and samples.
        nice: by how much the trials give way to everything else.
    """
    try:
        cpuinfo = await trio.to_thread.run_sync(CPUINFO.read_text)
    except OSError:  # not Linux
        return ""
    others = candidates(os.environ, cpuinfo)
    if not others:
        return ""
    return choose({name: await _trial(folder, nice, name) for name in ("", *others)})


def choose(speeds: Mapping[str, float]) -> str:
    """The fastest, if it is worth it.

    Args:
        speeds: steps a second by name, 0 for what does not run here; `""` is the library's own choice.
    """
    best = max(speeds, key=lambda name: speeds[name])
    return best if speeds[best] > BETTER * speeds[""] else ""


async def _trial(folder: Path, nice: int, name: str) -> float:
    """Steps a second with these kernels; 0 where they do not run."""
    command = [sys.executable, "-m", "p2pml.worker.lanes.blas", str(folder), str(nice)]
    speed = 0.0
    with trio.move_on_after(PATIENCE_S), suppress(OSError, ValueError):
        ran = await trio.run_process(
            command,
            capture_stdout=True,
            stderr=subprocess.DEVNULL,
            check=False,
            env=lane_environment(name),
        )
        speed = float(ran.stdout) if ran.returncode == 0 else 0.0
    return speed


def main(arguments: list[str]) -> int:
    """One trial: print the steps in a second of processor time."""
    folder, nice = arguments
    give_way(int(nice))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # kernels that do not run here end it

    import numpy as np

    from p2pml.worker.lanes.lane import build

    trainer = build(Path(folder), "numpy")
    if trainer.state() != build(Path(folder), "int64").state():
        # Some do, on processors that are newer than they.
        print("these kernels compute wrong products", file=sys.stderr)
        return 1
    rows = np.zeros(trainer.net.batch, np.intp)
    steps, began = 0, time.process_time()
    while (taken := time.process_time() - began) < STEPS_S:
        trainer.step(rows)
        steps += 1
    print(steps / taken)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
