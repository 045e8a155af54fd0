"""A participant's side of one job: one conversation with its requester.

A reader takes messages as they come (a reader that pauses would break the stream); the work is done by tasks
of its own: fetching shards, training one task after the other, sending updates that were asked for.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import trio

from chain.codec import pack
from chain.errors import DecodeError
from chain.training_records import Receipt
from p2pml.errors import UserError
from p2pml.formats import FormatError, shards, tensors
from p2pml.net.errors import Malformed, RemoteError
from p2pml.net.train import (
    CHUNK_BYTES,
    Accept,
    Channel,
    Chunk,
    Commit,
    Countersigned,
    Done,
    Hold,
    Message,
    Model,
    Pull,
    Ready,
    Refuse,
    Task,
    Update,
    Working,
)
from p2pml.node.ports import NodeParts
from p2pml.node.terms import JobTerms
from p2pml.worker.protocol import Progress, Train, Trained
from p2pml.worker.session import WorkerError

log = logging.getLogger(__name__)

MAX_WAITING_TASKS = 4
REPORT_S = 1.0
"""Between two reports of progress, seconds."""


class TaskFailed(Exception):
    """This node cannot do a task; the message goes to the requester."""


@dataclass(slots=True)
class ParticipantJob:
    """One conversation.

    Args:
        channel: to the requester.
        terms: that were accepted.
        parts: of the node.
        keep: called with each receipt, before anything else happens to it.
        wanted: called with the metainfo of the torrent that the job's shards are in.
    """

    channel: Channel
    terms: JobTerms
    parts: NodeParts
    keep: Callable[[Receipt], Awaitable[None]]
    wanted: Callable[[bytes], None]
    metainfo: bytes = b""
    _sources: tuple[str, ...] = ()
    _model: bytes = b""
    _incoming: bytearray | None = None
    _announced: Model | None = None
    _updates: dict[tuple[int, int], bytes] = field(default_factory=dict)
    _committed: dict[tuple[int, int], bytes] = field(default_factory=dict)
    _earned: dict[tuple[int, int], int] = field(default_factory=dict)
    _current: Task | None = None
    _working: trio.CancelScope | None = None
    _shards: dict[int, Path] = field(default_factory=dict)
    _told_at: float = -math.inf
    _newest: Working | None = None
    _news: trio.Event = field(default_factory=trio.Event)

    async def run(self) -> str:
        """Accept, then serve until the requester ends it; returns the reason.

        Raises:
            RemoteError: the requester is gone or broke the protocol.
        """
        await self.channel.send(Accept(self.parts.keys.public))
        tasks, queue = trio.open_memory_channel[Task](MAX_WAITING_TASKS)
        failure: RemoteError | None = None
        reason = ""
        # Errors of the requester are carried out by hand: the nursery would wrap them in a group.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._quietly, self._train_all, queue)
            nursery.start_soon(self._quietly, self._tell_progress)
            try:
                reason = await self._listen(nursery, tasks)
            except RemoteError as error:
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return reason

    async def _listen(self, nursery: trio.Nursery, tasks: trio.MemorySendChannel[Task]) -> str:
        limit = self.terms.max_content()
        while True:
            match await self.channel.receive():
                case Hold() as hold:
                    nursery.start_soon(self._quietly, self._hold, hold)
                case Model() as model:
                    if model.size > limit:
                        raise Malformed(f"{model.size} bytes of weights for a model that has at most {limit}")
                    self._announced, self._incoming = model, bytearray()
                case Chunk(offset, data):
                    self._on_chunk(offset, data)
                case Task() as task:
                    self._check_task(task)
                    try:
                        tasks.send_nowait(task)
                    except trio.WouldBlock as error:
                        raise Malformed("more tasks than one node can wait for") from error
                case Pull() as pull:
                    nursery.start_soon(self._quietly, self._upload, pull)
                case Countersigned(receipt):
                    await self._on_receipt(receipt)
                case Refuse(what="update", round=round_, client=client, reason=reason):
                    self._on_refused(round_, client, reason)
                case Done(reason=reason) | Refuse(reason=reason):
                    return reason
                case other:
                    raise Malformed(f"{type(other).__name__} is not for a participant")

    async def _quietly(self, operation: Callable[..., object], *args: object) -> None:
        """Run a task of this conversation; when the requester is gone, the reader says so."""
        try:
            await operation(*args)  # type: ignore[misc]
        except RemoteError as error:
            log.debug("the requester %s is gone: %s", self.channel.peer, error)

    # -- shards ----------------------------------------------------------------------------------------

    async def _hold(self, hold: Hold) -> None:
        self.wanted(hold.metainfo)
        self.metainfo, self._sources = hold.metainfo, (self.channel.peer, *hold.peers)
        try:
            await self._fetch(hold.clients, 0)
        except TaskFailed as error:
            await self.channel.send(Refuse("job", 0, 0, _short(error)))
            return
        await self.channel.send(Ready(hold.clients))

    async def _fetch(self, clients: tuple[int, ...], round_: int) -> None:
        """Have these clients' shards on disk.

        Raises:
            TaskFailed: they cannot be had.
        """
        missing = [client for client in clients if client not in self._shards]
        if not missing:
            return
        if not self.metainfo:
            raise TaskFailed("there is no torrent to fetch the shard from")

        def progress(done: int, total: int) -> None:
            self._report(Working(round_, missing[0], "fetch", done, total))

        try:
            paths = await self.parts.data.fetch(self.metainfo, missing, self._sources, progress)
        except (UserError, RemoteError, OSError, ValueError) as error:
            raise TaskFailed(f"the shard of client {missing[0]} cannot be fetched: {error}") from error
        self._shards.update(zip(missing, paths, strict=True))

    # -- the model -------------------------------------------------------------------------------------

    def _on_chunk(self, offset: int, data: bytes) -> None:
        model, incoming = self._announced, self._incoming
        if model is None or incoming is None or offset != len(incoming) or offset + len(data) > model.size:
            raise Malformed("a piece of a model that was not announced")
        incoming += data
        if len(incoming) < model.size:
            return
        weights = bytes(incoming)
        self._announced, self._incoming = None, None
        if tensors.digest(weights) != model.digest:
            raise Malformed("the model is not the one that was announced")
        self._model = weights
        # Updates of earlier rounds are of no use any more: nobody can ask for them with this model.
        self._updates.clear()
        self._committed.clear()

    # -- tasks -----------------------------------------------------------------------------------------

    def _check_task(self, task: Task) -> None:
        if task.trainer != self.parts.keys.public or not self.terms.signed_by_requester(task):
            raise Malformed("the task is not signed by the job's requester, or is for somebody else")
        if task.round >= self.terms.rounds:
            raise Malformed(f"the job has {self.terms.rounds} rounds")

    async def _train_all(self, queue: trio.MemoryReceiveChannel[Task]) -> None:
        async for task in queue:
            self._current = task
            with trio.CancelScope() as self._working:
                try:
                    await self._commit(task)
                except TaskFailed as error:
                    log.warning("client %d of job %s: %s", task.client, self.terms.name, error)
                    refusal = Refuse("task", task.round, task.client, _short(error))
                    await self.channel.send(refusal)
            self._current = None

    async def _commit(self, task: Task) -> None:
        """Train and commit to the update."""
        self._check_pay(task)
        trained, update = await self._train(task)
        samples = trained.samples * self.terms.epochs
        if samples != task.samples:
            raise TaskFailed(f"the shard has {samples} samples × epochs, the task says {task.samples}")
        commitment = self.terms.commitment(
            task.round, task.client, task.trainer, samples, task.model_in, tensors.digest(update)
        )
        key = (task.round, task.client)
        self._updates[key], self._committed[key] = update, commitment.update_hash
        sig = self.parts.keys.sign(commitment.signing_bytes())
        await self.channel.send(
            Commit(
                pack(commitment.to_item()),
                sig,
                len(update),
                float(trained.loss_before),
                float(trained.loss_after),
            )
        )

    def _check_pay(self, task: Task) -> None:
        """Before any work: does the chain hold what it would bring, beside what is owed for earlier work?

        Raises:
            TaskFailed: it does not, or pays nobody any more.
        """
        chain, job_id = self.parts.chain, self.terms.job
        job = chain.job(job_id)
        if job is None:
            return  # its block was reverted and comes again
        if not job.status.active:
            raise TaskFailed(f"the job is {job.status.name} on the chain: it takes no more rounds")
        owed = sum(
            samples
            for (round_, client), samples in self._earned.items()
            if client not in chain.paid_clients(job_id, round_)
        )
        if (owed + task.samples) * job.price > job.escrow:
            raise TaskFailed("the job's escrow on the chain does not cover this work")

    async def _train(self, task: Task) -> tuple[Trained, bytes]:
        if not self._model or tensors.digest(self._model) != task.model_in:
            raise TaskFailed("the model that the task starts from was not sent")
        await self._fetch((task.client,), task.round)
        shard = self._shards[task.client]
        await self._check_shard(shard)

        def progress(step: Progress) -> None:
            self._report(Working(task.round, task.client, "train", step.done, step.total))

        request = Train(
            self.terms.model, self._model, str(shard), self.terms.optimizer, self.terms.batch,
            self.terms.epochs, self.terms.seed, task.round, task.client,
        )  # fmt: skip
        try:
            trained = await self.parts.worker.call(request, progress)
            tensors.decode(trained.update)
        except WorkerError as error:
            detail = f"\n{error.traceback}" if error.traceback else ""
            raise TaskFailed(f"the worker failed: {error.reason}{detail}") from error
        except FormatError as error:
            raise TaskFailed(f"the training diverged: {error}") from error
        if not (math.isfinite(trained.loss_before) and math.isfinite(trained.loss_after)):
            raise TaskFailed("the training diverged: the loss is not finite")
        return trained, trained.update

    @staticmethod
    async def _check_shard(shard: Path) -> None:
        """The shard comes from a stranger: read it here before the worker does."""
        try:
            await trio.to_thread.run_sync(shards.read, shard)
        except (FormatError, OSError) as error:
            raise TaskFailed(f"the shard cannot be used: {error}") from error

    async def _upload(self, pull: Pull) -> None:
        update = self._updates.get((pull.round, pull.client))
        if update is None or pull.offset >= len(update):
            await self.channel.send(Refuse("task", pull.round, pull.client, "there is no such update here"))
            return
        for offset in range(pull.offset, len(update), CHUNK_BYTES):
            data = update[offset : offset + CHUNK_BYTES]
            await self.channel.send(Update(pull.round, pull.client, offset, data))

    def _on_refused(self, round_: int, client: int, reason: str) -> None:
        log.info("the requester does not want client %d of round %d: %s", client, round_ + 1, reason)
        self._updates.pop((round_, client), None)
        task = self._current
        if task is not None and (task.round, task.client) == (round_, client) and self._working is not None:
            self._working.cancel()

    async def _on_receipt(self, data: bytes) -> None:
        """Keep a receipt if it is for what this node committed to; the requester's signature must hold."""
        try:
            receipt = Receipt.decode(data)
        except DecodeError as error:
            raise Malformed(f"not a receipt: {error}") from error
        commitment = receipt.commitment
        expected = self._committed.get((commitment.round, commitment.client))
        if commitment.job != self.terms.job or commitment.update_hash != expected:
            raise Malformed("a receipt for something else")
        if not receipt.verify(self.terms.requester):
            raise Malformed("the receipt's signatures do not hold")
        await self.keep(receipt)
        self._earned[commitment.round, commitment.client] = commitment.samples

    # -- progress --------------------------------------------------------------------------------------

    def _report(self, news: Working) -> None:
        self._newest = news
        self._news.set()

    async def _tell_progress(self) -> None:
        """Send the newest report, not more often than once a second."""
        while True:
            await self._news.wait()
            self._news = trio.Event()
            newest, self._newest = self._newest, None
            if newest is not None:
                await self.channel.send(newest)
            await trio.sleep(REPORT_S)


def _short(error: Exception) -> str:
    return str(error)[:500]


def refusal(reason: str) -> Message:
    """The answer to an invitation that is not accepted."""
    return Refuse("invite", 0, 0, reason[:500])
