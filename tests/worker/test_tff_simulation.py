"""Rounds by our trainer, mean and server step against the same rounds by TFF's simulation, as `compare` runs
it: 4 clients, 3 rounds."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from p2pml.formats import shards, tensors
from p2pml.formats.aggregation import Aggregation
from p2pml.formats.initial import initial_weights
from p2pml.formats.keras_json import ModelSpec
from p2pml.formats.local import samples_of_round
from p2pml.formats.optimizers import Optimizer
from p2pml.formats.uploads import encode
from p2pml.training import dataset, models, rules
from p2pml.training.aggregate import aggregate
from p2pml.worker.protocol import ServerStep, Train
from p2pml.worker.tff.process import TffProcess
from p2pml.worker.tff.request import RoundRequest, TffRequest, decode, state_file
from tests.worker.test_tff_process import needs_namespaces

ROUNDS, SEED = 3, 11
SIZES = (53, 20, 87, 64)
PLAIN, SGD = Optimizer("sgd", 1.0), Optimizer("sgd", 0.1)
MEAN = Aggregation("mean")


@dataclass(frozen=True)
class Case:
    """What is varied."""

    optimizer: Optimizer = SGD
    server: Optimizer = PLAIN
    one_batch: bool = False
    builder: str = "mlp"


CASES = {
    "sgd": Case(),
    "adam": Case(Optimizer("adam", 0.01)),
    "server adam": Case(server=Optimizer("adam", 0.02)),
    "one batch": Case(one_batch=True),
    "branches": Case(builder="resnet"),
}
MODELS: dict[str, dict[str, Any]] = {"mlp": {"hidden": [16]}, "resnet": {"blocks": 1, "filters": 8}}


def request(case: Case, data: Path, folder: Path, number: int, spec: ModelSpec) -> RoundRequest:
    clients = [(client, data / f"client{client}") for client in range(len(SIZES))]
    epochs = 1 if case.one_batch else 2
    return RoundRequest(
        spec.to_json(), case.optimizer, case.server, MEAN, 10, epochs, case.one_batch,
        SEED, number, clients, folder / f"model{number}", folder / f"model{number + 1}",
    )  # fmt: skip


def ours(worker: Any, asked: RoundRequest, state: bytes) -> tuple[bytes, bytes]:
    """One round as the network does it: train each, spool, aggregate, server step."""
    weights, updates = asked.start.read_bytes(), []
    for client, shard in asked.clients:
        trained = worker.call(
            Train(
                asked.model, weights, str(shard), asked.optimizer, asked.batch, asked.epochs, asked.seed,
                asked.number, client, 0.0, asked.one_batch,
            )
        )  # fmt: skip
        path = shard.with_suffix(".update")
        path.write_bytes(encode(tensors.decode(trained.update), "float32"))
        algorithm = "sync_sgd" if asked.one_batch else "fedavg"
        updates.append((path, samples_of_round(algorithm, trained.samples, asked.batch, asked.epochs)))
    shapes = [array.shape for array in tensors.decode(weights)]
    delta = aggregate(updates, "float32", shapes, rules.mean)
    stepped = worker.call(ServerStep(asked.server, weights, tensors.encode(delta), state))
    return stepped.weights, stepped.state


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[RoundRequest]]:
    """The rounds of each case, which one TFF process has carried out: it takes long to start."""
    folder, data = tmp_path_factory.mktemp("simulated"), dataset.load(dataset.digits_path())
    for client, (begin, end) in enumerate(pairwise(np.cumsum((0, *SIZES)))):
        shards.write(folder / f"client{client}", data.train.take(np.arange(begin, end)))
    asked = {}
    for name, case in CASES.items():
        place = folder / name.replace(" ", "-")
        place.mkdir()
        spec = models.build(case.builder, MODELS[case.builder], data.sample_shape, data.classes)
        (place / "model0").write_bytes(tensors.encode(initial_weights(spec, 1)))
        asked[name] = [request(case, folder, place, number, spec) for number in range(ROUNDS)]

    async def simulate() -> None:
        process = TffProcess(folder / "tff.log")
        try:
            for rounds in asked.values():
                for each in rounds:
                    await process.ask(each)
        finally:
            await process.close()

    trio.run(simulate)
    return asked


def apart(a: bytes, b: bytes) -> float:
    pairs = zip(tensors.decode(a), tensors.decode(b), strict=True)
    return max(float(np.abs(x - y).max()) for x, y in pairs)


@pytest.mark.slow
@needs_namespaces
@pytest.mark.parametrize("name", CASES)
def test_three_rounds_agree(worker: Any, simulated: dict[str, list[RoundRequest]], name: str) -> None:
    asked = simulated[name]
    first, reference = asked[0].start.read_bytes(), asked[-1].result.read_bytes()
    state = b""
    for each in asked:
        found, state = ours(worker, each, state)
        each.result.write_bytes(found)
    worst, moved = apart(found, reference), apart(found, first)
    print(f"{name}: largest difference {worst:.1e} where weights moved by {moved:.2f}")
    assert moved > 0.02
    assert worst <= 1e-5


def test_requests_survive_their_line(tmp_path: Path) -> None:
    spec = models.build("logistic", {}, (8, 8), 10)
    asked = request(Case(Optimizer("adam", 0.01, {"beta_1": 0.8})), tmp_path, tmp_path, 2, spec)
    assert decode(asked.to_line()) == asked
    other = TffRequest(MEAN, [(tmp_path / "a", 3)], "int8", [(2, 3)], 1, tmp_path / "b")
    assert decode(other.to_line()) == other
    assert state_file(asked.start) != state_file(asked.result)
