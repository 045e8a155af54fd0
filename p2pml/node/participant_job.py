"""A participant's side of one job: one conversation with its requester.

A reader takes messages as they come (a reader that pauses would break the stream); the work is done by one
task for each kind: fetching shards, training, sending updates that were asked for. What waits for them is
bounded, and without a training task for too long the conversation ends: nobody holds this node for nothing.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import trio

from chain.codec import pack
from chain.errors import DecodeError
from chain.training_records import Receipt
from p2pml.formats import FormatError, tensors, uploads
from p2pml.net.errors import Malformed, RemoteError, TimedOut
from p2pml.net.train import (
    FROM_REQUESTER,
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
    Working,
)
from p2pml.node.derived_shards import DerivedShards
from p2pml.node.held_shards import HeldShards, Shards, TaskFailed
from p2pml.node.model_download import ModelDownload
from p2pml.node.own_updates import OwnUpdates
from p2pml.node.pay_watch import PayWatch
from p2pml.node.ports import NodeParts
from p2pml.node.private_data import OwnShard, failed_work
from p2pml.node.terms import JobTerms
from p2pml.node.work_limits import WorkLimits, most_steps
from p2pml.worker.protocol import Progress, Train, Trained
from p2pml.worker.rests import lasting
from p2pml.worker.session import WorkerError

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_WAITING = 4
"""Tasks, and requests for updates, that may wait."""
REPORT_S = 1.0
"""Between two reports of progress, seconds."""
PAY_LOOK_S = 0.5
REST_LOOK_S = 0.5
GIVE_BACK_S = 20.0
"""After so long a rest that may last for hours, a task is given back, so that another trains it."""


class Idle(TimedOut):
    """The requester has given no task for too long."""


class Dropped(RemoteError):
    """The requester ends the conversation, not the job: it may invite again."""


@dataclass(slots=True)
class ParticipantJob:
    """One conversation.

    Args:
        channel: to the requester.
        terms: that were accepted.
        parts: of the node.
        pay: what the job owes this node.
        limits: of this node.
        model: what earlier conversations about this job left of it.
        updates: those that were committed to, in earlier conversations too.
        idle_s: longest wait for a task, seconds.
        keep: called with each receipt, before anything else happens to it.
        wanted: called with the metainfo of the torrent that the job's shards are in.
        own: what it trains on in place of shards that are fetched.
    """

    channel: Channel
    terms: JobTerms
    parts: NodeParts
    pay: PayWatch
    limits: WorkLimits
    model: ModelDownload
    updates: OwnUpdates
    idle_s: float
    keep: Callable[[Receipt], Awaitable[None]]
    wanted: Callable[[bytes], None]
    own: OwnShard | DerivedShards | None = None
    _shards: Shards = field(init=False)
    _to_hold: Hold | None = None
    _told_to_hold: trio.Event = field(default_factory=trio.Event)
    _current: Task | None = None
    _working: trio.CancelScope | None = None
    _given_back: str = ""
    _patience: trio.CancelScope = field(default_factory=trio.CancelScope)
    _left: float = 0.0
    _limit: trio.CancelScope = field(default_factory=trio.CancelScope)
    _newest: Working | None = None
    _news: trio.Event = field(default_factory=trio.Event)

    def __post_init__(self) -> None:
        self.updates.resume()
        if isinstance(self.own, DerivedShards):
            self.own.report = self._report
        self._shards = self.own or HeldShards(self.channel.peer, self.parts.data, self._report)

    @property
    def metainfo(self) -> bytes:
        """Of the torrent with the job's shards; empty before it is known."""
        return self._shards.metainfo

    async def run(self) -> str:
        """Accept, then serve until the requester ends it; returns the reason.

        Raises:
            RemoteError: the requester is gone or broke the protocol; Idle when it has nothing to do; Dropped.
            OSError: this node's disk.
        """
        await self.channel.send(Accept(self.parts.keys.public, *self.model.held))
        tasks, queue = trio.open_memory_channel[Task](MAX_WAITING)
        pulls, asked = trio.open_memory_channel[Pull](MAX_WAITING)
        failure: RemoteError | OSError | None = None
        reason = ""
        # Errors are carried out by hand: the nursery would wrap them in a group.
        async with trio.open_nursery() as nursery:
            for operation, arguments in (
                (self._train_all, (queue,)),
                (self._upload_all, (asked,)),
                (self._hold_all, ()),
                (self._tell_progress, ()),
                (self._watch_rest, ()),
            ):
                nursery.start_soon(self._quietly, operation, *arguments)
            try:
                with self._patience:
                    self._rest(useful=True)
                    reason = await self._listen(tasks, pulls)
                if self._patience.cancelled_caught:
                    failure = Idle(f"no task within {self.idle_s / 60:g} minutes")
                    await self.channel.send(Done(str(failure)))
            except (RemoteError, OSError) as error:
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return reason

    def _rest(self, useful: bool) -> None:
        """Nothing to do from now on: the time begins to run; after what was of no use it goes on instead, or
        requests that come to nothing would hold a trainer for ever."""
        if useful:
            self._left = self.idle_s
        self._patience.deadline = trio.current_time() + self._left

    def _work(self) -> None:
        """There is something to do: the time stands still."""
        if self._patience.deadline < math.inf:
            self._left = self._patience.deadline - trio.current_time()
        self._patience.deadline = math.inf

    async def _listen(self, tasks: trio.MemorySendChannel[Task], pulls: trio.MemorySendChannel[Pull]) -> str:
        limit = self.terms.max_content()
        while True:
            match await self.channel.receive(FROM_REQUESTER):
                case Hold() as hold:
                    if self.metainfo and hold.metainfo != self.metainfo:
                        raise Malformed("a job has one torrent")
                    self._to_hold = hold
                    self._told_to_hold.set()
                case Model() as model:
                    if model.size > limit:
                        raise Malformed(f"{model.size} bytes of weights for a model that has at most {limit}")
                    if self.model.begin(model):
                        self._on_model()
                case Chunk(offset, data):
                    if self.model.add(offset, data):
                        self._on_model()
                case Task() as task:
                    self._check_task(task)
                    _queue(tasks, task)
                case Pull() as pull:
                    self.updates.check(pull)
                    _queue(pulls, pull)
                case Countersigned(receipt):
                    await self._on_receipt(receipt)
                case Refuse(what="update", round=round_, client=client, reason=reason):
                    self._on_refused(round_, client, reason)
                case Done(reason=reason):
                    return reason
                case Refuse(reason=reason):
                    raise Dropped(reason)
                case other:
                    raise Malformed(f"{type(other).__name__} is not for a participant")

    async def _quietly(self, operation: Callable[..., object], *args: object) -> None:
        """Run a task of this conversation; when the requester is gone, the reader says so."""
        try:
            await operation(*args)  # type: ignore[misc]
        except RemoteError as error:
            log.debug("the requester %s is gone: %s", self.channel.peer, error)

    # -- shards ----------------------------------------------------------------------------------------

    async def _hold_all(self) -> None:
        """Fetch what the newest of the requester's messages says; an older one that still waits is void."""
        while True:
            await self._told_to_hold.wait()
            self._told_to_hold = trio.Event()
            hold, self._to_hold = self._to_hold, None
            if hold is not None:
                await self._hold(hold)

    async def _hold(self, hold: Hold) -> None:
        self.wanted(hold.metainfo)
        try:
            await self._shards.hold(hold)
        except TaskFailed as error:
            await self.channel.send(Refuse("job", 0, 0, _short(error)))
            return
        await self.channel.send(Ready(hold.clients))

    # -- the model -------------------------------------------------------------------------------------

    def _on_model(self) -> None:
        """A whole one is here."""
        self.parts.host.standing.useful(self.channel.peer, len(self.model.weights))
        self.updates.start_from(self.model.held[0])

    # -- tasks -----------------------------------------------------------------------------------------

    def _check_task(self, task: Task) -> None:
        if task.trainer != self.parts.keys.public or not self.terms.signed_by_requester(task):
            raise Malformed("the task is not signed by the job's requester, or is for somebody else")
        if task.round >= self.terms.rounds:
            raise Malformed(f"the job has {self.terms.rounds} rounds")

    async def _train_all(self, queue: trio.MemoryReceiveChannel[Task]) -> None:
        async for task in queue:
            self._current, useful, self._given_back = task, False, ""
            self._work()
            with trio.CancelScope() as self._working:
                try:
                    useful = await self._commit(task)
                except TaskFailed as error:
                    await self._refuse(task, _short(error))
            if self._given_back and self._working.cancelled_caught:
                await self._refuse(task, self._given_back, "rest")
            self._current = None
            self._rest(useful)

    async def _refuse(self, task: Task, reason: str, what: str = "task") -> None:
        log.warning("client %d of job %s: %s", task.client, self.terms.name, reason)
        await self.channel.send(Refuse(what, task.round, task.client, reason))

    async def _commit(self, task: Task) -> bool:
        """Commit to the task's update; whether that took work, or it was here from a conversation before."""
        steps = most_steps(task.samples, self.terms.batch, self.terms.epochs)
        if steps > self.limits.task_steps:
            raise TaskFailed(f"the task takes {steps} steps, this node does at most {self.limits.task_steps}")
        await self._check_pay(task)
        known = self.updates.made(task)
        await self.channel.send(known or await self._trained(task))
        return known is None

    async def _trained(self, task: Task) -> Commit:
        """The commitment to an update that is trained now."""
        trained, update = await self._train(task)
        samples = self.terms.samples_of_round(trained.samples)
        if samples != task.samples:
            raise TaskFailed(f"the shard makes {samples} samples × epochs, the task says {task.samples}")
        commitment = self.terms.commitment(
            task.round, task.client, task.trainer, samples, task.model_in, tensors.digest(update)
        )
        sig = self.parts.keys.sign(commitment.signing_bytes())
        losses = float(trained.loss_before), float(trained.loss_after)
        commit = Commit(pack(commitment.to_item()), sig, len(update), *losses)
        self.updates.add(task, commit, update, commitment.update_hash)
        return commit

    async def _check_pay(self, task: Task) -> None:
        """Before any work: was the work before it paid, and does the chain hold what this would bring?

        Raises:
            TaskFailed: no; the job pays nobody any more, or not enough.
        """
        self.pay.began(task.round)
        await self.pay.look()
        while self.pay.late():
            if reason := self.pay.refusal():
                raise TaskFailed(reason)
            self._report(Working(task.round, task.client, "pay", 0, 1))
            await trio.sleep(PAY_LOOK_S)
            await self.pay.look()
        job = self.parts.chain.job(self.terms.job)
        if job is None:
            return  # its block was reverted and comes again
        if not job.status.active:
            raise TaskFailed(f"the job is {job.status.name} on the chain: it takes no more rounds")
        if (self.pay.owed() + task.samples) * job.price > job.escrow:
            raise TaskFailed("the job's escrow on the chain does not cover this work")

    async def _train(self, task: Task) -> tuple[Trained, bytes]:
        weights = self.model.weights
        if not weights or tensors.digest(weights) != task.model_in:
            raise TaskFailed("the model that the task starts from was not sent")
        shard = await self._shards.get(task.client, task.round)

        def progress(step: Progress) -> None:
            self._report(Working(task.round, task.client, step.stage, step.done, step.total))

        request = Train(
            self.terms.model, weights, str(shard), self.terms.optimizer, self.terms.batch,
            self.terms.epochs, self.terms.seed, task.round, task.client, self.terms.prox,
            self.terms.algorithm == "sync_sgd", self.terms.trainer,
        )  # fmt: skip
        trained: Trained | None = None
        try:
            with trio.move_on_after(self.limits.task_s) as self._limit:
                trained = await self.parts.worker.call(request, progress)
            if trained is None:
                raise TaskFailed(f"the training took longer than {self.limits.task_s / 60:g} minutes")
            update = uploads.encode(tensors.decode(trained.update), self.terms.upload)
        except WorkerError as error:
            raise failed_work(error, self.terms) from error
        except FormatError as error:
            raise TaskFailed(f"the training diverged: {error}") from error
        if not (math.isfinite(trained.loss_before) and math.isfinite(trained.loss_after)):
            raise TaskFailed("the training diverged: the loss is not finite")
        return trained, update

    async def _upload_all(self, asked: trio.MemoryReceiveChannel[Pull]) -> None:
        async for pull in asked:
            self._work()
            useful = await self.updates.upload(self.channel, pull)
            if self._current is None:
                self._rest(useful)

    def _on_refused(self, round_: int, client: int, reason: str) -> None:
        log.info("the requester does not want client %d of round %d: %s", client, round_ + 1, reason)
        self.updates.drop((round_, client))
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
        expected = self.updates.committed((commitment.round, commitment.client))
        if commitment.job != self.terms.job or commitment.update_hash != expected:
            raise Malformed("a receipt for something else")
        if not receipt.verify(self.terms.requester):
            raise Malformed("the receipt's signatures do not hold")
        await self.keep(receipt)
        self.updates.drop((commitment.round, commitment.client))

    # -- progress --------------------------------------------------------------------------------------

    def _report(self, news: Working) -> None:
        task = self._current
        if task is not None and (task.round, task.client) != (news.round, news.client):
            return  # shards for later: they must not hide how the task gets on, by which it is judged
        self._newest = news
        self._news.set()

    async def _watch_rest(self) -> None:
        """While the worker rests, the task's time stands still, and the requester hears why it waits; from a
        rest that lasts it gets the task back."""
        rested = 0.0
        while True:
            await trio.sleep(REST_LOOK_S)
            task, rests = self._current, self.parts.worker.rests
            if task is None or not rests:
                rested = 0.0
                continue
            self._limit.deadline += REST_LOOK_S
            self._report(Working(task.round, task.client, rests[0], 0, 1))
            reason = lasting(rests)
            rested = rested + REST_LOOK_S if reason else 0.0
            if rested >= GIVE_BACK_S and self._working is not None:
                self._given_back = f"this node's worker rests: {reason}"
                self._working.cancel()

    async def _tell_progress(self) -> None:
        """Send the newest report, not more often than once a second."""
        while True:
            await self._news.wait()
            self._news = trio.Event()
            newest, self._newest = self._newest, None
            if newest is not None:
                await self.channel.send(newest)
            await trio.sleep(REPORT_S)


def _queue(waiting: trio.MemorySendChannel[T], item: T) -> None:
    """Have something done in its turn. Raises Malformed when too much waits already."""
    try:
        waiting.send_nowait(item)
    except trio.WouldBlock as error:
        raise Malformed(f"more than {MAX_WAITING} requests at once") from error


def _short(error: Exception) -> str:
    return str(error)[:500]


def refusal(reason: str) -> Message:
    """The answer to an invitation that is not accepted."""
    return Refuse("invite", 0, 0, reason[:500])
