"""One training over several devices; TensorFlow can split a processor into some."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from p2pml.formats import shards, tensors
from p2pml.formats.initial import initial_weights
from p2pml.formats.optimizers import Optimizer
from p2pml.formats.shards import Shard
from p2pml.training import dataset, models
from p2pml.worker.limits import WorkerLimits
from p2pml.worker.process import WorkerUnavailable
from p2pml.worker.protocol import Build, Train
from tests.worker.test_process import supervised

pytestmark = pytest.mark.slow

MLP = models.build("mlp", {"hidden": [32]}, (8, 8), 10)
CNN = models.build("cnn", {"filters": [4], "kernel": 3, "dense": 8}, (8, 8), 10)
LSTM = models.build("lstm", {"vocabulary": 20, "embedding": 4, "units": [8]}, (12,), 20)
PLACES = """
    import tensorflow as tf
    from p2pml.training import models
    from p2pml.worker.classifier import Classifier
    from p2pml.worker.devices import MirroredGradients, strategy_for

    strategy = strategy_for(3)
    with strategy.scope():
        classifier = Classifier(models.build("softmax", {}, (2,), 3))
    step = tf.function(MirroredGradients(classifier, strategy), autograph=False)
    graph = step.get_concrete_function(
        tf.zeros([9, 2]), tf.zeros([9], tf.int64), tf.constant(1.0), tf.range(4, dtype=tf.int64)
    ).graph
    nodes = [op for op in graph.get_operations() if op.type == "MatMul"]
    print(sorted({op.device[-5:] for op in nodes}))
"""


def requests(folder: Path) -> list[Train]:
    """Batches that divide, and some that do not; the last one of an epoch has a single sample."""
    digits = dataset.load(dataset.digits_path()).train.take(np.arange(101))
    shards.write(folder / "digits", digits)
    rng = np.random.default_rng(1)
    tokens = Shard(rng.integers(0, 20, (31, 12), dtype=np.uint8), rng.integers(0, 20, 31))
    shards.write(folder / "tokens", tokens)
    sgd = Optimizer("sgd", 0.1)
    mlp = Train(
        MLP.to_json(), tensors.encode(initial_weights(MLP, 1)), str(folder / "digits"), sgd, 10, 2, 1, 0, 0
    )
    cnn = replace(mlp, model=CNN.to_json(), weights=tensors.encode(initial_weights(CNN, 1)))
    lstm = replace(
        mlp, model=LSTM.to_json(), weights=tensors.encode(initial_weights(LSTM, 1)),
        shard=str(folder / "tokens"), batch=5,
    )  # fmt: skip
    return [replace(mlp, optimizer=Optimizer("adam", 0.01), prox=0.1, batch=7), cnn, lstm]


async def test_several_devices_train_what_one_does(tmp_path: Path) -> None:
    found: list[list[bytes]] = []
    for devices in (1, 3):
        async with supervised(tmp_path, WorkerLimits(devices=devices)) as worker:
            answers = [await worker.call(request) for request in requests(tmp_path)]
            found.append([answer.update for answer in answers])
            assert [answer.steps for answer in answers] == [30, 22, 14]
    for alone, together in zip(*found, strict=True):
        for one, other in zip(tensors.decode(alone), tensors.decode(together), strict=True):
            assert np.abs(one).max() > 1e-3
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_each_device_has_its_part_of_the_work() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PLACES)], capture_output=True, text=True, timeout=200
    )
    assert done.stdout.strip().splitlines()[-1:] == ["['CPU:0', 'CPU:1', 'CPU:2']"], done.stderr[-2000:]


async def test_too_few_gpus_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        textwrap.dedent(
            """
            import sys
            if "p2pml.worker" in sys.orig_argv:
                import importlib.abc, importlib.util

                class Patch(importlib.abc.MetaPathFinder):
                    def find_spec(self, name, path, target=None):
                        if name != "p2pml.worker.devices":
                            return None
                        sys.meta_path.remove(self)
                        import tensorflow as tf
                        tf.config.list_physical_devices = lambda kind=None: ["one"]
                        return importlib.util.find_spec(name)

                sys.meta_path.insert(0, Patch())
            """
        )
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    async with supervised(tmp_path, WorkerLimits(devices=2)) as worker:
        with pytest.raises(WorkerUnavailable, match="worker_devices is 2, and this machine has 1 GPUs"):
            await worker.call(Build(MLP.to_json(), 1))
