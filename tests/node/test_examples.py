"""The example specs, trained by the real worker on real data: what they promise they reach."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from p2pml.training.dataset import digits_path
from p2pml.worker.process import WorkerSupervisor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
REPO = Path(__file__).parents[2]


def mnist_path() -> Path:
    """MNIST as one npz, or a loud skip."""
    path = Path(os.environ.get("P2PML_MNIST", REPO.parent / "shared" / "data" / "mnist.npz"))
    if not path.exists():
        pytest.skip(f"MNIST IS NOT HERE: put mnist.npz at {path} or name it in $P2PML_MNIST")
    return path


async def train(world: Any, name: str, data: Path, change: Callable[[str], str]) -> dict[str, Any]:
    with tarfile.open(world.root / f"{name}.tar", "w") as archive:
        archive.add(data, arcname=f"{name}/{data.name}")
    spec = change((REPO / "examples" / f"{name}.yaml").read_text())
    worker = WorkerSupervisor(world.root / "worker.log")  # one for all nodes: TensorFlow is large
    await world.nursery.start(worker.run)
    with trio.fail_after(300):
        await worker.wait_ready()
    for node in world.nodes:
        node.worker.instead = worker
    job_id = await world.requester.jobs.start(spec, world.root, f"{name}.yaml")
    shown: dict[str, Any] = await world.finish(job_id, within=280)
    assert shown["state"] == "done", shown["reason"]
    return shown


async def test_digits(job_world: Callable[..., Any]) -> None:
    async with job_world(3) as world:
        shown = await train(world, "digits", digits_path(), lambda spec: spec)
        assert shown["accuracy"] >= 0.9
        assert shown["round"] <= 8
        assert shown["spent"] == sum(peer["earned"] for peer in shown["peers"])


async def test_mnist(job_world: Callable[..., Any]) -> None:
    path = mnist_path()
    async with job_world(4) as world:
        shown = await train(world, "mnist", path, lambda spec: spec.replace("value: 0.99", "value: 0.95"))
        assert shown["accuracy"] >= 0.95
        assert shown["round"] <= 10
        assert {record["clients"] for record in shown["history"]} == {4}
