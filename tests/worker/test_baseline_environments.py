"""One trace root whatever computes it: threads, OpenBLAS kernels, another NumPy, TensorFlow, oneDNN or not.

Each variant is a process of its own, since the libraries read their settings at import.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
REPO = Path(__file__).parents[2]
ROOT = "5ce1bd26b4de65b67722032c2a5f87aa69de2213bcdafcb3d83850741cd4af68"
"""Of the first two segments of episodes 0 and 1 on the bundled digits; docs/spec/baseline.md has it too."""
CORES = ["Prescott", "Nehalem", "Sandybridge", "Haswell", "Zen"]


def probe(kernel: str = "numpy", **environment: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.baseline_probe", "--kernel", kernel]
    done = subprocess.run(
        command, cwd=REPO, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", **environment},
        capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("threads", ["1", "2"])
def test_threads_of_the_library(threads: str) -> None:
    assert probe(OPENBLAS_NUM_THREADS=threads, OMP_NUM_THREADS=threads)["root"] == ROOT


@pytest.mark.parametrize("core", CORES)
def test_kernels_of_openblas(core: str) -> None:
    if platform.machine() != "x86_64":
        pytest.skip(f"NOT TESTED: OpenBLAS has no kernels for {core} on {platform.machine()}")
    found = probe(OPENBLAS_CORETYPE=core)
    if not found["core"]:
        pytest.skip("NOT TESTED: this NumPy does not come with OpenBLAS")
    assert found["core"] == core
    assert found["root"] == ROOT


def test_integers() -> None:
    assert probe("int64")["root"] == ROOT


def test_another_numpy() -> None:
    folder = Path(sys.prefix) / "other-numpy"
    if not folder.exists():
        pytest.skip(f"NOT TESTED: there is no other NumPy in {folder}; bin/test installs one")
    found = probe(PYTHONPATH=str(folder))
    assert found["version"] != probe()["version"]
    assert found["root"] == ROOT


@pytest.mark.parametrize("onednn", ["0", "1"])
def test_tensorflow(onednn: str) -> None:
    found = probe("tensorflow", TF_ENABLE_ONEDNN_OPTS=onednn)
    assert found["root"] == ROOT
