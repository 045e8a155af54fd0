"""What a job that is over is made again from: its folder, its data set, its result."""

from __future__ import annotations

from pathlib import Path

import trio

from p2pml.errors import ExitCode, UserError
from p2pml.node.job_view import JobView
from p2pml.node.job_views import MaterialView
from p2pml.node.ports import DataPort
from p2pml.storage.journal import JournalError, read
from p2pml.training.spec import parse_spec


async def material(view: JobView, folder: Path, data: DataPort) -> MaterialView:
    """Where the job's files and its data set are on this machine.

    Args:
        view: of the job.
        folder: of the job, in the node's home.
        data: of the node.

    Raises:
        UserError: (code 6) it is not over or has no model; the data set is not here.
    """
    if not view.over or not view.output:
        raise UserError(
            f"the job {view.id} has no model yet: it is {view.state}"
            if not view.over
            else f"the job {view.id} ended without a model: {view.reason or view.state}",
            "compare a job that is done",
            ExitCode.JOB_FAILED,
        )
    if not (folder / "shards.torrent").exists():
        raise UserError(
            f"the job {view.id} divided no data here: it stays with its owners",
            "compare a job whose data its requester has",
            ExitCode.JOB_FAILED,
        )
    try:
        entries = await trio.to_thread.run_sync(read, folder / "journal.jsonl")
        spec = parse_spec((folder / "spec.yaml").read_text(encoding="utf-8"), view.origin)
        base = Path(next(entry["base_dir"] for entry in entries if entry["kind"] == "start"))
    except (OSError, JournalError, StopIteration) as error:
        raise UserError(f"the job's folder {folder} cannot be read: {error}", "train again") from error
    try:
        path = await data.local(spec.data.train, base)
    except UserError as error:
        raise UserError(
            f"the data set {spec.data.train} of the job {view.id} is not here: {error.cause}",
            "bring it back, for example with `p2pml data get`",
            ExitCode.JOB_FAILED,
        ) from error
    return MaterialView(view.id, str(folder), str(path), view.output)
