"""Trainers that the operator has installed: who may use which, and one that trains in a real worker."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2pml.errors import UserError
from p2pml.formats import FormatError, shards, tensors
from p2pml.formats.initial import initial_weights
from p2pml.formats.optimizers import Optimizer
from p2pml.formats.shards import Shard
from p2pml.node.work_limits import WorkLimits
from p2pml.training import models
from p2pml.training.spec import parse_spec
from p2pml.worker import plugins
from p2pml.worker.limits import WorkerLimits
from p2pml.worker.process import WorkerError
from p2pml.worker.protocol import Train
from tests.worker.test_process import supervised

CODE = """
import numpy as np


class Nudge:
    def train(self, task, watch):
        assert (task.seed, task.round, task.client, len(task.shard)) == (1, 2, 3, 30)
        for epoch in range(task.epochs):
            watch(epoch + 1, task.epochs, 0.5)
        return [array + np.float32(task.optimizer.lr) for array in task.weights]


class InPlace:
    def train(self, task, watch):
        import tensorflow as tf

        for array in task.weights:
            array += 0.5
        watch(np.int64(1), tf.constant(2), np.float32(0.5))
        watch(tf.constant(2), np.int64(2), tf.constant(0.25))
        return task.weights


class Wrong:
    def train(self, task, watch):
        return [array[:1] for array in task.weights]


class NotFinite:
    def train(self, task, watch):
        return [array * np.float32("nan") for array in task.weights]


class Broken:
    def train(self, task, watch):
        raise ValueError("the plugin's own trouble")
"""
METADATA = "Metadata-Version: 2.1\nName: tiny-trainers\nVersion: 1.0\n"
NAMES = {
    "nudge": "Nudge",
    "in-place": "InPlace",
    "wrong": "Wrong",
    "not-finite": "NotFinite",
    "broken": "Broken",
}
MODEL = models.build("softmax", {}, (2, 2), 3)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which a package with trainers is installed, for this process and those that it starts."""
    folder = tmp_path / "site"
    info = folder / "tiny_trainers-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "tiny_trainers.py").write_text(textwrap.dedent(CODE))
    (info / "METADATA").write_text(METADATA)
    entries = "".join(f"{name} = tiny_trainers:{kind}\n" for name, kind in NAMES.items())
    (info / "entry_points.txt").write_text(f"[{plugins.GROUP}]\n{entries}")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")
    return folder


def task() -> dict[str, Any]:
    return {"optimizer": Optimizer("sgd", 0.5), "batch": 10, "epochs": 2, "seed": 1, "round": 2, "client": 3}


def test_a_trainer_is_for_who_has_and_allows_it(site: Path) -> None:
    assert plugins.installed() == frozenset(NAMES)
    assert plugins.reason_against("nudge", ["nudge"]) == ""
    assert plugins.reason_against("nudge", []) == "the trainer 'nudge' is not allowed here"
    assert plugins.reason_against("other", ["other"]) == "the trainer 'other' is not installed here"
    with pytest.raises(FormatError, match="not allowed"):
        plugins.load("nudge", ["wrong"])


def test_a_node_asks_another_machine_what_is_installed_there() -> None:
    here, there = WorkLimits(trainers=("far",)), WorkLimits(trainers=("far",), elsewhere=True)
    assert here.against("") == there.against("") == there.against("far") == ""
    assert "not installed" in here.against("far")
    assert "not allowed" in there.against("near")


def test_what_a_trainer_gives_is_checked() -> None:
    weights = initial_weights(MODEL, 1)
    shard = Shard(np.zeros((3, 2, 2), np.uint8), np.zeros(3, np.int64))
    given = plugins.LocalTask(MODEL.to_json(), weights, shard, Optimizer("sgd", 0.1), 1, 1, 0.0, 1, 0, 0)
    assert [array.dtype for array in plugins.checked([w.astype(np.float64) for w in weights], given)] == [
        np.float32, np.float32,
    ]  # fmt: skip
    with pytest.raises(FormatError, match="gave weights of"):
        plugins.checked(weights[:1], given)
    with pytest.raises(FormatError, match="not finite"):
        plugins.checked([np.full_like(w, np.nan) for w in weights], given)


def test_a_spec_names_a_trainer() -> None:
    text = "name: x\nmodel: {builder: softmax}\ndata: {train: a.npz}\ntrain: {trainer: nudge%s}\n"
    assert parse_spec(text % "").train.trainer == "nudge"
    with pytest.raises(UserError, match="makes whole epochs"):
        parse_spec(text % ", algorithm: sync_sgd")
    with pytest.raises(UserError, match=r"train\.trainer"):
        parse_spec(text.replace("nudge%s", "'../nudge'"))


@pytest.mark.slow
async def test_an_installed_trainer_trains_in_the_worker(tmp_path: Path, site: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 9, (30, 2, 2), dtype=np.uint8)
    shards.write(tmp_path / "shard", Shard(x, rng.integers(0, 3, 30)))
    weights = initial_weights(MODEL, 1)

    def request(trainer: str) -> Train:
        return Train(
            MODEL.to_json(), tensors.encode(weights), str(tmp_path / "shard"), trainer=trainer, **task()
        )

    async with supervised(
        tmp_path, WorkerLimits(trainers=("nudge", "in-place", "wrong", "not-finite", "broken"))
    ) as worker:
        for name in ("nudge", "in-place"):
            reports: list[int] = []
            trained = await worker.call(
                request(name), lambda progress, found=reports: found.append(progress.done)
            )
            update = tensors.decode(trained.update)
            assert all(np.allclose(array, 0.5, atol=1e-6) for array in update)
            assert (trained.samples, trained.steps) == (30, 6)
            assert 2 in reports
        for name, words in (
            ("wrong", "gave weights of"),
            ("not-finite", "not finite"),
            ("nobody", "'nobody' is not allowed here"),
            ("broken", "ValueError: the plugin's own trouble"),
        ):
            with pytest.raises(WorkerError, match=words) as caught:
                await worker.call(request(name))
            assert caught.value.refused == (name != "broken")
        assert worker.starts == 1
