"""Three rounds by our worker and a plain mean against the same rounds by TFF's own simulation."""

from __future__ import annotations

import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2pml.formats import shards, tensors
from p2pml.formats.initial import initial_weights
from p2pml.formats.optimizers import Optimizer
from p2pml.training import dataset, models
from p2pml.worker.protocol import ServerStep, Train

pytestmark = pytest.mark.slow

# As in tff_reference.py, which shares no code with what is tested.
BATCH, EPOCHS, ROUNDS, SEED = 10, 2, 3, 11
SIZES = (53, 20, 87)


def ours(
    worker: Any, parts: list[shards.Shard], start: list[np.ndarray], optimizer: Optimizer
) -> list[np.ndarray]:
    spec = models.build("mlp", {"hidden": [16]}, (8, 8), 10)
    weights, state = tensors.encode(start), b""
    for client, part in enumerate(parts):
        shards.write(worker.folder / f"client{client}", part)
    for number in range(ROUNDS):
        total = [np.zeros(shape) for shape in spec.weight_shapes]
        for client, part in enumerate(parts):
            path = str(worker.folder / f"client{client}")
            request = Train(spec.to_json(), weights, path, optimizer, BATCH, EPOCHS, SEED, number, client)
            for sum_, update in zip(total, tensors.decode(worker.call(request).update), strict=True):
                sum_ += update * (len(part) / sum(SIZES))
        step = ServerStep(Optimizer("sgd", 1.0), weights, tensors.encode(total), state)
        stepped = worker.call(step)
        weights, state = stepped.weights, stepped.state
    return list(tensors.decode(weights))


def reference_rounds(source: Path, target: Path) -> None:
    """Run the reference in network and process namespaces of its own.

    TFF's executor listens on every interface without authentication and outlives whoever started it.
    """
    isolate = ["unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child"]
    if shutil.which("unshare") is None or subprocess.run([*isolate, "true"], capture_output=True).returncode:
        pytest.skip("PARITY WITH TFF NOT CHECKED: this system lets no user make namespaces (unshare)")
    script = Path(__file__).with_name("tff_reference.py")
    command = 'ip link set lo up && exec "$@"'
    arguments = [sys.executable, str(script), str(source), str(target)]
    subprocess.run([*isolate, "sh", "-c", command, "sh", *arguments], check=True, timeout=240)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_three_rounds_agree_with_tff(worker: Any, tmp_path: Path, name: str) -> None:
    train = dataset.load(dataset.digits_path()).train
    edges = np.cumsum((0, *SIZES))
    parts = [train.take(np.arange(a, b)) for a, b in pairwise(edges)]
    start = initial_weights(models.build("mlp", {"hidden": [16]}, (8, 8), 10), 1)
    arrays: dict[str, Any] = {f"w{i}": array for i, array in enumerate(start)}
    for client, part in enumerate(parts):
        arrays |= {f"x{client}": part.x, f"y{client}": part.y}
    np.savez(tmp_path / "in.npz", optimizer=np.array(name), **arrays)
    reference_rounds(tmp_path / "in.npz", tmp_path / "out.npz")
    reference = np.load(tmp_path / "out.npz")
    got = ours(worker, parts, start, Optimizer(name, 0.1 if name == "sgd" else 0.01))
    worst = max(float(np.abs(got[i] - reference[f"w{i}"]).max()) for i in range(4))
    moved = max(float(np.abs(got[i] - start[i]).max()) for i in range(4))
    print(f"{name}: largest difference {worst:.1e} where weights moved by {moved:.2f}")
    assert moved > 0.05
    assert worst <= 1e-5
