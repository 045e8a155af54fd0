"""`p2pml.Client` against the real application: rounds across a restart, ends as errors, specs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import trio
import yaml

from p2pml import Client, Round, UserError
from p2pml.api.app import create_app
from p2pml.api.server import bind_unix, serve
from p2pml.client import ApiEvent
from p2pml.errors import ExitCode
from p2pml.jobs import Job
from p2pml.node import views
from p2pml.training.yaml_lines import load
from tests.api.conftest import FakeNode

JOB = "0123456789abcdef"


def a_round(number: int) -> dict[str, Any]:
    return {
        "round": number,
        "accuracy": number / 10,
        "loss": 1.0,
        "seconds": 2.0,
        "samples": 30,
        "clients": 3,
    }


class JobNode(FakeNode):
    """Has one job, whose rounds the test adds."""

    def __init__(self, rounds: int = 0) -> None:
        super().__init__()
        self.record: dict[str, Any] = {
            "id": JOB, "name": "digits", "state": "running", "end": "", "reason": "", "fix": "", "output": "",
            "rounds": 9, "budget": 0, "spent": 0, "price": 0, "chain_job": "", "peers": [],
            "history": [a_round(number + 1) for number in range(rounds)],
        }  # fmt: skip

    def job(self, job_id: str) -> dict[str, Any]:
        assert JOB.startswith(job_id)
        return self.record

    def jobs(self) -> list[dict[str, Any]]:
        return [self.record]

    async def start_job(self, spec: str, base_dir: Path, origin: str) -> views.StartedJobView:
        self.calls.append(("start", spec, base_dir, origin))
        return views.StartedJobView(JOB, 0)

    def round_done(self) -> None:
        self.record["history"].append(a_round(len(self.record["history"]) + 1))
        self.events.emit("job.round", job=JOB, rounds=9, escrow=0, **self.record["history"][-1])

    def over(self, state: str, end: str, reason: str = "") -> None:
        self.record |= {"state": state, "end": end, "reason": reason}
        self.events.emit("job.state", job=JOB, state=state, reason=reason, end=end)


@asynccontextmanager
async def served(node: JobNode, home: Path) -> Any:
    (home / "run").mkdir(exist_ok=True)
    with bind_unix(home / "run" / "api.sock") as listener:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, create_app(node, full=True), listener)
            yield
            nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


@pytest.mark.slow
async def test_a_round_is_told_once_although_the_daemon_is_restarted(tmp_path: Path) -> None:
    told: list[Round] = []
    job = Client(tmp_path).job
    async with trio.open_nursery() as nursery:
        node = JobNode(rounds=1)
        async with served(node, tmp_path):
            following = await trio.to_thread.run_sync(job, JOB, told.append)
            nursery.start_soon(trio.to_thread.run_sync, following.wait)
            await until(lambda: len(told) == 1)
            node.round_done()
            await until(lambda: len(told) == 2)
        node = JobNode(rounds=4)  # two rounds that no event has told
        async with served(node, tmp_path):
            await until(lambda: len(told) == 4)
            node.round_done()
            node.over("done", "done")
            await until(lambda: len(told) == 5)
    assert [each.round for each in told] == [1, 2, 3, 4, 5]
    assert told[2] == Round(3, 0.3, 1.0, 2.0, 30, 3)


async def test_an_end_other_than_done_is_an_error_with_its_code(tmp_path: Path) -> None:
    node = JobNode(rounds=2)
    node.over("failed", "no-trainers", "only 1 of 2 peers joined within 1 s")
    async with served(node, tmp_path):
        job = await trio.to_thread.run_sync(Client(tmp_path).job, JOB[:4])
        with pytest.raises(UserError, match="only 1 of 2 peers") as ended:
            await trio.to_thread.run_sync(job.wait)
        assert ended.value.code is ExitCode.NO_TRAINERS
        assert [each.round for each in await trio.to_thread.run_sync(job.rounds)] == [1, 2]
        with pytest.raises(UserError, match="has no result"):
            await trio.to_thread.run_sync(job.result)


@pytest.mark.slow
async def test_a_daemon_that_does_not_come_back_ends_the_wait(tmp_path: Path) -> None:
    node = JobNode(rounds=1)
    async with served(node, tmp_path):
        job = await trio.to_thread.run_sync(Client(tmp_path, patience_s=0).job, JOB)
    with pytest.raises(UserError, match="no daemon is running") as ended:
        await trio.to_thread.run_sync(job.wait)
    assert ended.value.code is ExitCode.DAEMON_DOWN


async def test_a_spec_may_hold_what_programs_have_in_their_dictionaries(tmp_path: Path) -> None:
    """One list in two places, NumPy's numbers and arrays, paths, tuples."""
    client, node = Client(tmp_path), JobNode()
    clients = [0, 1]
    spec = {
        "once": clients,
        "again": MappingProxyType({"deeper": clients}),
        np.str_("lr"): np.float32(0.5),
        "tiny": np.float64(1e-05),
        "batch": np.int64(20),
        "flag": np.bool_(True),
        "args": {"hidden": np.array([200, 100])},
        "pair": (1, None),
        "data": {"train": Path("data/set.tar")},
    }
    async with served(node, tmp_path):
        await trio.to_thread.run_sync(lambda: client.train(spec, base_dir=tmp_path))
    assert load(node.calls[0][1]).data == {
        "once": [0, 1],
        "again": {"deeper": [0, 1]},
        "lr": 0.5,
        "tiny": 1e-05,
        "batch": 20,
        "flag": True,
        "args": {"hidden": [200, 100]},
        "pair": [1, None],
        "data": {"train": "data/set.tar"},
    }


@pytest.mark.parametrize("wrong", ["an object", "an array of them", "itself"])
def test_what_no_spec_can_hold_is_a_users_error(tmp_path: Path, wrong: str) -> None:
    spec: dict[str, Any] = {"name": "digits"}
    spec["train"] = {
        "an object": object(),
        "an array of them": np.array([object()], dtype=object),
        "itself": spec,
    }[wrong]
    for ask in (Client(tmp_path).train, Client(tmp_path).quote):
        with pytest.raises(UserError, match="cannot be written as YAML") as caught:
            ask(spec)
        assert caught.value.code is ExitCode.BAD_CONFIG
        assert caught.value.fix


def test_after_a_gap_the_record_is_asked_for(tmp_path: Path) -> None:
    class Missed:
        """A daemon whose events of the job's end are not kept any more."""

        states = iter(["running", "done"])

        def get(self, path: str) -> dict[str, Any]:
            return {"state": next(self.states), "history": []}

        def events(self, **query: Any) -> list[ApiEvent]:
            return [ApiEvent(9, "gap", {"after": 3})]

    records = Job(Client(tmp_path), JOB)._records(Missed())  # type: ignore[arg-type]
    assert [record["state"] for record in records] == ["running", "done"]


async def test_a_spec_is_a_file_or_data(tmp_path: Path) -> None:
    client, node = Client(tmp_path), JobNode()
    file = tmp_path / "specs" / "job.yaml"
    file.parent.mkdir()
    file.write_text("name: digits\n")
    async with served(node, tmp_path):
        assert (await trio.to_thread.run_sync(client.train, file)).id == JOB
        spec = {"name": "digits", "train": {"lr": 1e-05}}
        await trio.to_thread.run_sync(lambda: client.train(spec, base_dir=tmp_path))
        assert [job.id for job in await trio.to_thread.run_sync(client.jobs)] == [JOB]
        job = await trio.to_thread.run_sync(client.job, JOB)
        await trio.to_thread.run_sync(job.stop)
        assert "verdict" in await trio.to_thread.run_sync(job.report)
        assert [line.text for line in await trio.to_thread.run_sync(job.log)] == ["begun"]
        (tmp_path / "events.out.tfevents.1").write_text("")
        with pytest.raises(UserError, match="has event files already"):
            await trio.to_thread.run_sync(job.tensorboard, tmp_path)
        with pytest.raises(UserError, match="cannot be made: Not a directory"):
            await trio.to_thread.run_sync(job.tensorboard, file / "folder")
    assert node.calls[0] == ("start", "name: digits\n", file.parent, str(file))
    assert yaml.safe_load(node.calls[1][1]) == spec
    assert node.calls[1][2:] == (tmp_path, "the spec")
    assert node.calls[2] == ("stop", JOB)
    with pytest.raises(UserError, match="cannot be read"):
        client.train(tmp_path / "none.yaml")
