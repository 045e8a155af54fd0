"""`p2pml compare` on jobs of real daemons: the networked weights are those of TFF's simulation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2pml.formats import tensors
from p2pml.training.dataset import digits_path
from tests.worker.test_tff_process import needs_namespaces

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]

SPEC = """\
version: 1
name: digits
seed: 5
model: {{builder: mlp, args: {{hidden: [32]}}}}
data: {{train: digits.npz, clients: 4}}
train: {{optimizer: {optimizer}, lr: {lr}, batch: 20, epochs: 2}}
rounds: {{max: 3}}
peers: {{min: 4, max: 4, backup: 0, stall: 120s}}
output: {{dir: runs}}
"""


@pytest.fixture(scope="module")
def cluster(start_cluster: Callable[..., Any]) -> Iterator[Any]:
    """One requester, four trainers."""
    with start_cluster(5, trainers=[False, True, True, True, True]) as cluster:
        cluster.wait_for_workers(*cluster.nodes)
        shutil.copy(digits_path(), cluster.root / "digits.npz")
        yield cluster


def run_job(cluster: Any, optimizer: str, lr: float) -> dict[str, Any]:
    job_id = cluster.start_job(SPEC.format(optimizer=optimizer, lr=lr))
    job: dict[str, Any] = cluster.finish_job(job_id)
    assert [each["clients"] for each in job["history"]] == [4, 4, 4]
    return job


@needs_namespaces
@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 0.1), ("adam", 0.01)])
def test_network_and_simulation_end_with_the_same_weights(
    cluster: Any, p2pml: Callable[..., Any], optimizer: str, lr: float
) -> None:
    job = run_job(cluster, optimizer, lr)
    home = cluster.nodes[0].home.root
    done = p2pml("compare", job["id"][:8], "--json", home=home)
    assert done.code == 0, done.err
    found = done.json
    assert (Path(job["output"]) / "compare" / "report.html").read_text().count("<svg") == 6
    assert json.loads((Path(job["output"]) / "compare" / "compare.json").read_text()) == found
    assert found["parity"]["claimed"]
    assert found["left_out"] == {}
    distance = found["distances"]["simulation"]
    print(f"{optimizer}: largest difference {distance['largest']:.1e}, {distance['share']:.1e} of the way")
    assert distance["largest"] <= 1e-5
    # Training in one place goes elsewhere: the distances are of something.
    assert all(found["distances"][name]["share"] > 0.05 for name in ("steps", "epochs"))
    network, simulation = found["arms"]["network"], found["arms"]["simulation"]
    assert [row["accuracy"] for row in network] == [each["accuracy"] for each in job["history"]]
    for mine, theirs in zip(network, simulation, strict=True):
        assert (mine["samples"], mine["steps"]) == (theirs["samples"], theirs["steps"])
        assert theirs["loss"] == pytest.approx(mine["loss"], abs=1e-4)
    ends = {name: rows[-1] for name, rows in found["arms"].items()}
    assert ends["steps"]["steps"] == ends["network"]["steps"]
    assert ends["epochs"]["samples"] == ends["network"]["samples"]
    weights = tensors.decode((Path(job["output"]) / "model.safetensors").read_bytes())
    assert max(float(np.abs(array).max()) for array in weights) > 0.05


def test_data_that_is_not_the_jobs_is_refused(cluster: Any, p2pml: Callable[..., Any]) -> None:
    job = run_job(cluster, "sgd", 0.1)
    home = cluster.nodes[0].home.root
    with np.load(digits_path()) as held:
        arrays = {name: held[name].copy() for name in held.files}
    key = next(name for name in arrays if name.startswith("x"))
    arrays[key][0] += 1
    (cluster.root / "digits.npz").unlink()
    np.savez(cluster.root / "digits.npz", **arrays)
    refused = p2pml("compare", job["id"], "--arms", "steps", home=home)
    assert refused.code == 7
    assert "is not what the job" in refused.err
    (cluster.root / "digits.npz").unlink()
    gone = p2pml("compare", job["id"], home=home)
    assert gone.code == 6
    assert "is not here" in gone.err
    assert "digits.npz is gone" in gone.err
    assert p2pml("compare", "ffff", home=home).code != 0
