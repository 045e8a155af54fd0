"""What is counted for each arm, and how a comparison is told."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import trio

from p2pml.cli.compare_commands import NAMES, chosen_arms
from p2pml.compare import page
from p2pml.compare.arms import ARMS, Again, Arm, Row, networked, samples_of, steps_for
from p2pml.compare.job import FinishedJob, Round
from p2pml.compare.run import Comparison, carried_out, distance, exceptions, unsimulated
from p2pml.errors import UserError
from p2pml.formats import tensors
from p2pml.training import models
from p2pml.training.spec import parse_spec
from p2pml.worker.tff.request import state_file

SPEC = """\
version: 1
name: clouds
model: {builder: mlp, args: {hidden: [4]}}
data: {train: clouds.npz, clients: 3}
train: {lr: 0.1, batch: 20, epochs: 2}
"""


def make_job(more: str = "", **args: float) -> FinishedJob:
    model = models.build("mlp", {"hidden": [4], **args}, (3,), 2)
    first = tensors.encode([np.zeros(shape, np.float32) for shape in model.weight_shapes])
    last = tensors.encode([np.full(shape, 2, np.float32) for shape in model.weight_shapes])
    rounds = (Round((0, 1), 100, 4, 2.0, 0.9, 0.5), Round((0, 2), 120, 6, 3.0, 0.7, 0.75))
    return FinishedJob("ab", parse_spec(SPEC + more), model, rounds, (30, 20, 30), first, last, b"")


def make_comparison(job: FinishedJob, apart: float) -> Comparison:
    weights = [array + np.float32(apart) for array in tensors.decode(job.last)]
    arms = [networked(job), Arm("simulation", networked(job).rows, tensors.encode(weights))]
    return Comparison(job, tuple(arms), {"simulation": distance(job, arms[1].weights)}, {})


def test_the_jobs_own_rows_count_from_the_start() -> None:
    assert networked(make_job()).rows == (Row(1, 100, 4, 2.0, 0.9, 0.5), Row(2, 220, 10, 5.0, 0.7, 0.75))


@pytest.mark.parametrize(("samples", "of", "batch"), [(900, 900, 32), (7, 7, 10), (1000, 30, 7), (3, 10, 1)])
def test_steps_in_one_place_are_those_that_the_samples_take(samples: int, of: int, batch: int) -> None:
    """Against batches counted one by one."""
    seen = steps = 0
    while seen < samples:
        steps += 1
        seen += min(batch, of - seen % of)
        assert samples_of(steps, of, batch) == seen
    assert steps_for(samples, of, batch) == steps


def test_parity_is_claimed_where_the_simulation_does_the_same() -> None:
    assert exceptions(make_job()) == []
    assert exceptions(make_job(dropout=0.5)) == ["dropout draws other numbers in the simulation"]
    assert "int8" in exceptions(make_job("transport: {upload: int8}\n"))[0]
    robust = make_job("aggregate: {rule: robust, clip: 1.0}\n")
    assert "robust" in exceptions(robust)[0]
    assert unsimulated(robust) == unsimulated(make_job()) == ""
    assert "median" in unsimulated(make_job("aggregate: {rule: median}\n"))
    spec = parse_spec(SPEC.replace("epochs: 2", "epochs: 2, trainer: nudge"))
    assert "trainer nudge" in unsimulated(replace(make_job(), spec=spec))
    assert "noise" in unsimulated(make_job("aggregate: {rule: dp, clip: 1.0, noise: 1.0}\n"))


def test_the_distance_is_told_and_judged() -> None:
    near, far = make_comparison(make_job(), 5e-6), make_comparison(make_job(), 0.5)
    assert far.distances["simulation"].largest == pytest.approx(0.5)
    assert far.distances["simulation"].share == pytest.approx(0.25)  # every weight moved by 2
    assert "same weights within 1e-05" in page.remarks(near)[0]
    assert "DIFFER by 5.0e-01" in page.remarks(far)[0]
    other = make_comparison(make_job("transport: {upload: int8}\n"), 0.5)
    assert "may differ: the simulation uploads float32" in page.remarks(other)[0]
    left = replace(near, distances={}, left_out={"simulation": "no namespaces"})
    assert page.remarks(left) == ["simulated by TFF: left out, no namespaces"]


def test_the_page_and_the_data_hold_every_arm() -> None:
    job = make_job()
    hostile = replace(job, id="<script>")
    found = make_comparison(hostile, 0.0)
    html = page.page(found)
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert html.count("<svg") == 6
    assert "75.00%" in html
    shown = json.loads(json.dumps(page.as_json(found), allow_nan=False))
    assert shown["arms"]["network"][1]["accuracy"] == 0.75
    assert shown["parity"] == {"within": 1e-5, "claimed": True, "because": []}
    assert [len(line) for line in page.table(found)] == [len(page.HEADERS)] * 2


def test_arms_are_chosen_by_name() -> None:
    assert chosen_arms("epochs, simulation") == ["network", "simulation", "epochs"]
    with pytest.raises(UserError, match="called 'epoch'"):
        chosen_arms("epoch")
    assert NAMES == ARMS


async def simulated(folder: Path, ask: Callable[[Any], None]) -> list[Arm] | Exception:
    """Rounds of a simulation whose process is a function."""

    async def asked(request: Any) -> None:
        await trio.lowlevel.checkpoint()
        ask(request)

    async def evaluate(request: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return SimpleNamespace(loss=0.5, accuracy=0.5)

    async def run(*, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.sleep_forever()

    worker = SimpleNamespace(run=run, call=evaluate)
    tff = SimpleNamespace(ask=asked, close=trio.lowlevel.checkpoint)
    material = SimpleNamespace(shards=["a", "b", "c"], whole="w", validation="v", evaluation="e", samples=80)
    return await carried_out(
        Again(make_job(), material, worker, tff, folder, lambda name, row: None),  # type: ignore[arg-type]
        ["simulation"],
    )


async def test_no_more_than_two_models_of_a_simulation_are_on_disk(tmp_path: Path) -> None:
    most = 0

    def ask(request: Any) -> None:
        nonlocal most
        Path(request.result).write_bytes(make_job().last)
        state_file(request.result).touch()
        most = max(most, len(list(tmp_path.iterdir())))

    (arm,) = await simulated(tmp_path, ask)  # type: ignore[misc]
    assert len(arm.rows) == 2
    assert most == 4  # with the server optimizer's states


async def test_a_full_disk_is_told_as_one(tmp_path: Path) -> None:
    def ask(request: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    found = await simulated(tmp_path, ask)
    assert isinstance(found, OSError)
    assert found.errno == errno.ENOSPC
