"""Every hostile description, sent to a real worker: refused with a reason, and the process lives on, has run
nothing, written nothing and taken no memory worth the name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from p2pml.training import models
from p2pml.worker.process import WorkerError
from p2pml.worker.protocol import Build, Train
from tests.formats.test_keras_json import HOSTILE, WIRING, functional, good, layer
from tests.worker.test_engine import SGD

pytestmark = pytest.mark.slow

MIB = 1 << 20


def writes_a_file(proof: Path) -> dict[str, Any]:
    """A layer that names TensorFlow's function for writing files."""
    arguments = {"filename": str(proof), "contents": "x"}
    return layer(
        "TFOpLambda", name="w", trainable=True, dtype="float32", function="io.write_file", **arguments
    )


def peak(pid: int) -> int:
    """The most bytes that a process ever held resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def descriptions(proof: Path) -> dict[str, str]:
    texts = {}
    for table, make in ((HOSTILE, good), (WIRING, functional)):
        for name, (change, _) in table.items():
            model = make()
            change(model)
            texts[name] = json.dumps(model)
    payload = good()
    payload["config"]["layers"].insert(2, writes_a_file(proof))
    registered = good()
    registered["config"]["layers"][2] |= {
        "module": "os",
        "class_name": "system",
        "registered_name": "os>system",
    }
    registered["config"]["layers"][2]["config"] = {"command": f"touch {proof}"}
    return {
        **texts,
        "a function of TensorFlow by name": json.dumps(payload),
        "a module's function": json.dumps(registered),
        "deep text": "[" * 100_000,
        "NaN": json.dumps(good()).replace('"units": 8', '"units": NaN'),
        "infinity": json.dumps(good()).replace('"units": 8', '"units": 1e999'),
        "a pickle": "\x80\x04cos\nsystem\n.",
        "HDF5": "\x89HDF\r\n\x1a\n",
        "long": " " * 300_000,
    }


def test_hostile_models_reach_nothing(worker: Any, tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    texts = descriptions(proof)
    pid = worker.hello().pid
    worker.call(Build(json.dumps(good()), 1))  # what the first model takes is no attack's doing
    before, files = peak(pid), sorted(tmp_path.rglob("*"))
    assert len(texts) >= 75
    for name, text in texts.items():
        with pytest.raises(WorkerError) as caught:
            worker.call(Build(text, 1))
        assert caught.value.refused, f"{name}: {caught.value.reason}"
    assert worker.hello().pid == pid
    assert sorted(tmp_path.rglob("*")) == files
    assert peak(pid) - before < 64 * MIB


def test_a_model_whose_step_would_take_all_memory_is_refused(worker: Any, wide_shard: Path) -> None:
    spec = models.build("mlp", {"hidden": [1_000_000]}, (1,), 2)
    built = worker.call(Build(spec.to_json(), 1))
    pid = worker.hello().pid
    before = peak(pid)
    with pytest.raises(
        WorkerError, match=r"a step with batch 1024 takes about .* use a smaller batch"
    ) as caught:
        worker.call(Train(spec.to_json(), built.weights, str(wide_shard), SGD, 65_536, 1, 1, 0, 0))
    assert caught.value.refused
    assert peak(pid) - before < 64 * MIB


@pytest.fixture(scope="module")
def wide_shard(worker: Any) -> Path:
    import numpy as np

    from p2pml.formats import shards

    path: Path = worker.folder / "wide"
    shards.write(path, shards.Shard(np.zeros((1024, 1), np.uint8), np.zeros(1024, np.int64)))
    return path
