"""What is left of a job that is over, and what it is read back as."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2pml.compare.job import read_job
from p2pml.errors import UserError
from p2pml.formats import tensors

pytestmark = pytest.mark.slow


async def finished(world: Any, spec: str) -> dict[str, Any]:
    shown: dict[str, Any] = await world.finish(
        await world.requester.jobs.start(spec, world.root, "job.yaml"), within=60
    )
    assert shown["state"] == "done", shown["reason"]
    return shown


def result_of(shown: dict[str, Any]) -> bytes:
    return Path(shown["output"], "model.safetensors").read_bytes()


def rewrite(journal: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    entries = [json.loads(line) for line in journal.read_text().splitlines()]
    change(entries)
    journal.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


async def test_a_job_is_read_as_it_went(job_world: Callable[..., Any], job_spec: Callable[..., str]) -> None:
    async with job_world(3) as world:
        shown = await finished(world, job_spec(rounds=3, clients=3))
        found = await world.requester.jobs.material(shown["id"][:6])
        assert (found.data, found.output) == (str(world.root / "clouds.npz"), shown["output"])
        job = read_job(Path(found.folder))
        assert [each.accuracy for each in job.rounds] == [each["accuracy"] for each in shown["history"]]
        assert {each.clients for each in job.rounds} == {(0, 1, 2)}
        assert [each.samples for each in job.rounds] == [800] * 3  # 400 samples, two epochs
        assert [each.steps for each in job.rounds] == [14] * 3  # 134 samples at most, batches of 20
        assert sum(job.shards) == 400
        assert job.last == result_of(shown)

        def spare(entries: list[dict[str, Any]]) -> None:
            next(entry for entry in entries if entry["kind"] == "round")["counted"] = [0, 2]

        rewrite(Path(found.folder, "journal.jsonl"), spare)
        first, second, _ = read_job(Path(found.folder)).rounds
        assert (first.clients, second.clients) == ((0, 2), (0, 1, 2))
        assert first.samples == 2 * (job.shards[0] + job.shards[2])
        (world.root / "clouds.npz").unlink()
        with pytest.raises(UserError, match=r"data set clouds\.npz of the job \w+ is not here"):
            await world.requester.jobs.material(shown["id"])
        (world.requester.parts.folder / shown["id"] / "shards.torrent").unlink()
        with pytest.raises(UserError, match="stays with its owners"):
            await world.requester.jobs.material(shown["id"])


async def test_the_first_weights_must_be_those_of_round_one(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(2) as world:
        shown = await finished(world, job_spec(rounds=2, clients=2, least=2))
        folder = Path((await world.requester.jobs.material(shown["id"])).folder)
        first = folder / "models" / "00000.safetensors"
        kept = read_job(folder).first
        first.unlink(missing_ok=True)
        assert read_job(folder).first == kept  # from the seed
        first.write_bytes(tensors.encode([array + 1 for array in tensors.decode(kept)]))
        with pytest.raises(UserError, match="not those that round 1 started from"):
            read_job(folder)
        first.unlink()

        def owe(entries: list[dict[str, Any]]) -> None:
            last = [entry for entry in entries if entry["kind"] == "round"][-1]
            entries.append({**last, "round": 2, "model_in": last["model_out"], "seconds": 0.0})

        rewrite(folder / "journal.jsonl", owe)
        assert len(read_job(folder).rounds) == 2
        (folder / "journal.jsonl").write_text("[]\n[]\n")
        with pytest.raises(UserError, match="cannot be read"):
            read_job(folder)


async def test_a_job_that_is_not_over_or_has_no_model_is_refused(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(2) as world:
        job_id = await world.requester.jobs.start(
            job_spec(clients=2, least=3, join="60s"), world.root, "job.yaml"
        )
        with pytest.raises(UserError, match="has no model yet: it is preparing"):
            await world.requester.jobs.material(job_id)
        await world.requester.jobs.stop(job_id)
        await world.finish(job_id)
        with pytest.raises(UserError, match="ended without a model: stopped by its owner"):
            await world.requester.jobs.material(job_id)
        with pytest.raises(UserError, match="has finished no round"):
            read_job(world.requester.parts.folder / job_id)
