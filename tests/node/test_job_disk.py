"""A disk that refuses: the job is suspended with folder and remedy, and goes on afterwards."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from chain.entries import JobStatus
from p2pml.errors import UserError
from p2pml.node.job_disk import Suspended, disk_errors
from p2pml.node.job_store import JobStore
from p2pml.storage.journal import Journal

TOKEN = 10**8
FEATURES = 8000
"""Enough for updates of 128 KiB, while journals stay far below the limit."""
LIMIT = 64 * 1024


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: the system refuses it with EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write_wide_data(folder: Path) -> None:
    rng = np.random.default_rng(3)
    y = rng.integers(0, 4, 60)
    x = (rng.normal(size=(4, FEATURES))[y] + rng.normal(size=(60, FEATURES))).astype(np.float32)
    np.savez(folder / "clouds.npz", x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])


@pytest.mark.slow
async def test_an_update_that_the_disk_refuses_suspends_the_job(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(2) as world:
        write_wide_data(world.root)
        trainer = world.trainers[0]
        limit = files_limited_to(LIMIT)

        async def full(request: Any) -> None:
            if request.round == 1 and world.requester.jobs.list()[0]["state"] == "running":
                trainer.worker.before_training = None
                limit.__enter__()

        trainer.worker.before_training = full
        try:
            spec = job_spec(rounds=3, clients=2, least=2)
            job_id = await world.requester.jobs.start(spec, world.root, "job.yaml")
            shown = await world.finish(job_id)
        finally:
            limit.__exit__(None, None, None)
        folder = world.requester.parts.folder / job_id
        assert (shown["state"], shown["end"]) == ("suspended", "suspended")
        assert shown["reason"] == f"this node's disk: File too large, in the folder {folder}"
        assert "make room" in shown["fix"]
        assert f"p2pml job resume {job_id[:12]}" in shown["fix"]
        assert shown["round"] == 1
        job = bytes.fromhex(shown["chain_job"])
        assert world.chain.job(job).status is JobStatus.RUNNING
        assert world.requester.jobs.running == 0
        assert await world.requester.jobs.resume(job_id[:8]) == job_id
        shown = await world.finish(job_id)
        assert (shown["state"], shown["end"], shown["reason"], shown["fix"]) == ("done", "done", "", "")
        assert shown["round"] == 3
        assert world.chain.job(job).paid == shown["spent"]
        assert len(world.chain.records) == 3
        with pytest.raises(UserError, match="is over: done"):
            await world.requester.jobs.resume(job_id)


@pytest.mark.slow
async def test_a_suspended_job_is_still_suspended_money_until_it_is_stopped(
    job_world: Callable[..., Any], job_spec: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal refuses a receipt; the owner gives up: what was earned is paid, the rest comes back."""
    append = Journal.append

    def refused(self: Journal, kind: str, **data: Any) -> None:
        if kind == "receipt" and data.get("round") == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(self, kind, **data)

    async with job_world(1) as world:
        monkeypatch.setattr(Journal, "append", refused)
        job_id = await world.requester.jobs.start(job_spec(rounds=3, least=1), world.root, "job.yaml")
        shown = await world.finish(job_id)
        assert shown["state"] == "suspended"
        assert "No space left on device" in shown["reason"]
        monkeypatch.setattr(Journal, "append", append)
        await world.requester.jobs.stop(job_id)
        shown = await world.finish(job_id)
        assert (shown["state"], shown["reason"]) == ("stopped", "stopped by its owner")
        assert world.chain.balance(world.trainers[0].account) == 1000 * TOKEN + shown["spent"]
        assert shown["spent"] > 0


@pytest.mark.slow
async def test_a_job_whose_folder_cannot_be_opened_at_the_start_waits_for_its_owner(
    job_world: Callable[..., Any], job_spec: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: JobStore) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self.folder / "journal.jsonl"))

    async with job_world(1) as world:
        jobs = world.requester.jobs
        with monkeypatch.context() as patch:
            patch.setattr(JobStore, "__post_init__", refused)
            with pytest.raises(UserError, match="cannot be written: Permission denied") as caught:
                await jobs.start(job_spec(), world.root, "job.yaml")
            assert "writable" in caught.value.fix
        world.trainers[0].worker.delay = 0.2
        job_id = await jobs.start(job_spec(rounds=3, least=1), world.root, "job.yaml")
        await world.until(lambda: jobs.show(job_id)["round"] >= 1)
        with monkeypatch.context() as patch:
            patch.setattr(JobStore, "__post_init__", refused)
            await world.restart_jobs()
        jobs = world.requester.jobs
        assert jobs.show(job_id)["state"] == "suspended"
        assert jobs.show(job_id)["reason"].endswith(f"in the folder {world.requester.parts.folder / job_id}")
        refusals: list[str] = []

        async def resume() -> None:
            try:
                await jobs.resume(job_id)
            except UserError as error:
                refusals.append(error.cause)

        async with trio.open_nursery() as nursery:  # of two at a time, one is enough
            nursery.start_soon(resume)
            nursery.start_soon(resume)
        assert len(refusals) == 1
        assert "goes on already" in refusals[0]
        assert (await world.finish(job_id))["round"] == 3


@pytest.mark.slow
async def test_a_result_that_cannot_be_written_stays_with_the_job(
    job_world: Callable[..., Any], job_spec: Callable[..., str]
) -> None:
    async with job_world(1) as world:
        (world.root / "runs").write_text("not a folder")
        job_id = await world.requester.jobs.start(job_spec(rounds=1, least=1), world.root, "job.yaml")
        shown = await world.finish(job_id)
        assert shown["state"] == "done"
        assert "the result cannot be written to" in shown["reason"]
        kept = world.requester.parts.folder / job_id / "result"
        assert shown["output"] == str(kept)
        assert {path.name for path in kept.iterdir()} >= {"model.json", "model.safetensors", "report.json"}


def test_only_the_disks_errors_are_taken_for_its(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(Suspended), disk_errors(tmp_path, "job"):
        raise BaseExceptionGroup("outer", [ExceptionGroup("inner", [full])])
    with pytest.raises(ExceptionGroup), disk_errors(tmp_path, "job"):
        raise ExceptionGroup("mixed", [full, KeyError("a mistake of ours")])
    with pytest.raises(KeyError), disk_errors(tmp_path, "job"):
        raise KeyError("a mistake of ours")
