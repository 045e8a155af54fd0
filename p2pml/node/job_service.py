"""The jobs of this node as a requester: start, list, show, stop, and go on with after a restart."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import trio

from chain.errors import DecodeError
from p2pml.errors import ExitCode, UserError, job_end
from p2pml.node.job_disk import Suspended, disk_errors
from p2pml.node.job_material import material
from p2pml.node.job_quote import quote
from p2pml.node.job_store import JobStore
from p2pml.node.job_view import JobView
from p2pml.node.job_views import MaterialView
from p2pml.node.ports import NodeParts
from p2pml.node.requester import Requester
from p2pml.node.terms import settlements
from p2pml.node.tx_sender import TxSender
from p2pml.node.views import QuoteView
from p2pml.storage import job_log
from p2pml.storage.journal import JournalError, read, write_atomic
from p2pml.training.spec import TOKEN, JobSpec, parse_spec
from p2pml.worker.rests import lasting

log = logging.getLogger(__name__)
Rows = list[dict[str, Any]]

SPARE_FEES = 8
"""Fees that a job's account should have beside what the job costs: a settlement may have to be made again."""


class UnknownJob(UserError):
    """This node has no such job."""


@dataclass(slots=True)
class _Job:
    view: JobView
    requester: Requester | None = None


class JobService:
    """Every job that this node asked for.

    Args:
        parts: of the node.
        sender: of its transactions.
    """

    def __init__(self, parts: NodeParts, sender: TxSender) -> None:
        self._parts = parts
        self._sender = sender
        self._jobs: dict[str, _Job] = {}
        self._resuming: set[str] = set()
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Go on with the jobs that a stop of the node interrupted, take new ones, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for folder in self._folders():
                await self._load(folder)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def start(self, spec_text: str, base_dir: Path, origin: str) -> str:
        """Begin a job.

        Args:
            spec_text: YAML.
            base_dir: relative paths in the spec start here.
            origin: how the spec's file is called in errors.

        Returns:
            its id on this node, 16 hexadecimal digits.

        Raises:
            UserError: (code 7) a wrong spec; (code 15) no worker; (code 14) not enough money; (code 6)
                the disk refuses.
        """
        spec = parse_spec(spec_text, origin)
        self._check_able(spec)
        if self._nursery is None:
            raise UserError("the node is not running yet", "try again in a moment")
        job_id = secrets.token_hex(8)
        folder = self._parts.folder / job_id
        try:
            await trio.to_thread.run_sync(write_atomic, folder / "spec.yaml", spec_text.encode())
            store = await trio.to_thread.run_sync(JobStore, folder)
            await store.note("start", base_dir=str(base_dir), origin=origin)
        except OSError as error:
            raise UserError(
                f"the job's folder {folder} cannot be written: {error.strerror or error}",
                "make room there, or make it writable for the user of the daemon; then start the job again",
                ExitCode.JOB_FAILED,
            ) from error
        view = self._view(job_id, spec, origin)
        self._begin(view, Requester(spec, base_dir, self._parts, self._sender, store, view), store)
        return job_id

    async def quote(self, spec_text: str, base_dir: Path, origin: str) -> QuoteView:
        """What a job would take now; nothing is begun. Arguments and errors as those of `start`."""
        return await quote(parse_spec(spec_text, origin), base_dir, self._parts)

    def list(self) -> Rows:
        """All jobs, newest first."""
        return [job.view.summary() for job in reversed(self._jobs.values())]

    def show(self, job_id: str) -> dict[str, Any]:
        """One job by its id or the start of it.

        Raises:
            UnknownJob: none, or several.
        """
        return self._find(job_id).view.full()

    async def material(self, job_id: str) -> MaterialView:
        """What a job that is over can be made again from.

        Raises:
            UnknownJob: none, or several.
            UserError: it is not over, or its data set is not here.
        """
        view = self._find(job_id).view
        return await material(view, self._parts.folder / view.id, self._parts.data)

    async def resume(self, job_id: str) -> str:
        """Go on with a suspended job where it stopped; returns its id.

        Raises:
            UnknownJob: none, or several.
            UserError: it is not suspended.
        """
        view = self._find(job_id).view
        if view.state != "suspended" or view.id in self._resuming:
            what = "is over" if view.over else "goes on already"
            raise UserError(f"the job {view.id} {what}: {view.state}", "only a suspended job can be resumed")
        self._resuming.add(view.id)  # reading it takes a while, and two requesters would write one journal
        try:
            await self._load(self._parts.folder / view.id)
        finally:
            self._resuming.discard(view.id)
        return view.id

    async def stop(self, job_id: str) -> None:
        """End a job: what was earned is paid, the rest of the budget comes back.

        Raises:
            UnknownJob: none, or several.
            UserError: it is over.
        """
        job = self._find(job_id)
        if job.view.state == "suspended":
            job = self._find(await self.resume(job.view.id))
        if job.view.over or job.requester is None:
            raise UserError(f"the job {job.view.id} is over: {job.view.state}", "nothing to stop")
        job.requester.stop("stopped by its owner")

    async def log(self, job_id: str, after: int) -> Rows:
        """The lines of a job's log with numbers greater than `after`; also when it is over.

        Raises:
            UnknownJob: none, or several.
        """
        path = self._parts.folder / self._find(job_id).view.id / job_log.FILE
        return [asdict(line) for line in await trio.to_thread.run_sync(job_log.read, path, after)]

    async def spec(self, job_id: str) -> str:
        """A job's spec as it was given.

        Raises:
            UnknownJob: none, or several.
            UserError: its file is gone.
        """
        path = self._parts.folder / self._find(job_id).view.id / "spec.yaml"
        try:
            return await trio.to_thread.run_sync(partial(path.read_text, encoding="utf-8"))
        except OSError as error:
            raise UserError(f"the spec {path} cannot be read: {error.strerror or error}") from error

    @property
    def running(self) -> int:
        """How many jobs are not over."""
        return sum(1 for job in self._jobs.values() if not job.view.over and job.view.state != "suspended")

    def _find(self, job_id: str) -> _Job:
        found = [job for key, job in self._jobs.items() if job_id and key.startswith(job_id)]
        found = found or [job for job in self._jobs.values() if job_id and job.view.chain_job == job_id]
        if len(found) != 1:
            how = "several jobs begin with" if found else "there is no job"
            raise UnknownJob(f"{how} {job_id!r}", "see `p2pml job ls`")
        return found[0]

    def _check_able(self, spec: JobSpec) -> None:
        status = self._parts.worker.status
        if status.startswith("unavailable"):
            raise UserError(
                f"this node has no worker ({status}), and a job's model is built and evaluated here",
                "start the job from a node with one",
                ExitCode.NO_WORKER,
            )
        if reason := lasting(self._parts.worker.rests):
            raise UserError(
                f"this node's worker rests ({reason}), and a job's model is built and evaluated here",
                "let it go on with `p2pml worker resume`, or start the job later",
                ExitCode.JOB_FAILED,
            )
        fee = self._parts.chain.genesis.params.min_fee
        needed = spec.budget + (SPARE_FEES + settlements(spec, fee)[1]) * fee
        balance = self._parts.chain.balance(self._sender.account)
        if balance < needed:
            raise UserError(
                f"the job needs {_tokens(needed)} tokens with fees, this node has {_tokens(balance)}",
                "lower reward.budget, or send tokens to this node's account",
                ExitCode.NO_TOKENS,
            )

    def _view(self, job_id: str, spec: JobSpec, origin: str) -> JobView:
        """Of a job that goes on, or begins."""
        view = JobView(job_id, spec.name, origin, spec.rounds.max, spec.budget, self._parts.events)
        view.log = job_log.JobLog(self._parts.folder / job_id / job_log.FILE)
        return view

    def _begin(self, view: JobView, requester: Requester, store: JobStore) -> None:
        self._jobs[view.id] = _Job(view, requester)
        if self._nursery is not None:
            self._nursery.start_soon(self._carry_out, view, requester, store)

    async def _carry_out(self, view: JobView, requester: Requester, store: JobStore) -> None:
        try:
            await requester.run()
        except Suspended as error:
            log.error("the job %s is suspended: %s; %s", view.id, error, error.fix)
            view.fix = error.fix
            view.enter("suspended", error.cause, ExitCode.SUSPENDED)
        except Exception as error:  # one job's trouble is not the node's
            log.exception("the job %s ended badly", view.id)
            view.enter("failed", f"internal error: {error!r}", ExitCode.JOB_FAILED)
        finally:
            store.journal.close()

    def _folders(self) -> Sequence[Path]:
        """The jobs on disk, oldest first."""
        try:
            found = [folder for folder in self._parts.folder.iterdir() if (folder / "journal.jsonl").exists()]
        except FileNotFoundError:
            return []
        return sorted(found, key=lambda folder: (folder / "spec.yaml").stat().st_mtime)

    async def _load(self, folder: Path) -> None:
        """Take a job from disk: one that is over to be shown, another to go on."""
        try:
            entries = await trio.to_thread.run_sync(read, folder / "journal.jsonl")
            ended = next((entry for entry in reversed(entries) if entry["kind"] == "ended"), None)
            if ended is not None:
                self._jobs[folder.name] = _Job(self._ended(folder.name, ended))
                return
            start = next((entry for entry in entries if entry["kind"] == "start"), None)
            if start is None:
                return
            spec = parse_spec((folder / "spec.yaml").read_text(encoding="utf-8"), start["origin"])
            store = await trio.to_thread.run_sync(JobStore, folder)
            base, origin = Path(start["base_dir"]), start["origin"]
            view = self._view(folder.name, spec, origin)
            requester = Requester(spec, base, self._parts, self._sender, store, view)
        except OSError as error:
            self._suspend(folder, error)
            return
        except (JournalError, UserError, DecodeError, KeyError, TypeError, ValueError) as error:
            log.error("the job in %s cannot go on: %s", folder, error)
            view = JobView(folder.name, folder.name, "", 0, 0, self._parts.events, "failed", str(error))
            view.end = job_end(ExitCode.JOB_FAILED)
            self._jobs[folder.name] = _Job(view)
            return
        view.note("going on where it stopped")
        self._begin(view, requester, store)

    def _suspend(self, folder: Path, error: OSError) -> None:
        """Show a job whose files cannot be read or written now."""
        view = JobView(folder.name, folder.name, "", 0, 0, self._parts.events)
        try:
            with disk_errors(folder, folder.name):
                raise error
        except Suspended as trouble:
            log.error("the job %s is suspended: %s; %s", view.id, trouble, trouble.fix)
            view.fix = trouble.fix
            view.enter("suspended", trouble.cause, ExitCode.SUSPENDED)
        self._jobs[folder.name] = _Job(view)

    def _ended(self, job_id: str, entry: dict[str, Any]) -> JobView:
        return JobView.ended(job_id, entry["view"], entry, self._parts.events)


def _tokens(units: int) -> str:
    return f"{Decimal(units) / TOKEN:,f}"
