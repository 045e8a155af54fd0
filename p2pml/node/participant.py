"""Training for other nodes' jobs: which invitations are accepted, and what becomes of the receipts.

One job at a time. Its shards are fetched, its tasks trained in this node's own worker, and every receipt is
on disk before anything else; what a requester leaves unpaid `p2pml.node.claims` collects.
"""

from __future__ import annotations

import logging
import math
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio

from chain.training_records import Receipt
from p2pml.formats import SpecError, keras_json, optimizers
from p2pml.net.errors import Malformed, RemoteError
from p2pml.net.streams import Stream
from p2pml.net.train import (
    MAX_INVITE,
    PROTOCOL,
    VERSION,
    Ask,
    Channel,
    Done,
    Invite,
    Message,
    Refuse,
)
from p2pml.node.claims import Claims
from p2pml.node.derived_shards import DerivedShards
from p2pml.node.model_download import ModelDownload
from p2pml.node.own_updates import OwnUpdates
from p2pml.node.participant_job import Dropped, Idle, ParticipantJob, refusal
from p2pml.node.pay_watch import PayWatch
from p2pml.node.ports import NodeParts
from p2pml.node.private_data import NotOffered, OwnShard, PrivateData
from p2pml.node.terms import JobTerms
from p2pml.node.work_limits import WorkLimits
from p2pml.training.by_seed import Division
from p2pml.worker.rests import lasting

log = logging.getLogger(__name__)

INVITE_S = 30.0
BLOCK_S = 20.0
"""How long to wait for the block with a job that we are invited to."""
KEEP_SHARDS_S = 600.0
"""How long a job's shards stay after its requester vanished: it may come back and go on."""
DERIVED = "derived"
"""The folder of shards that this node made itself; what a death left there goes at the next start."""
REST_S = 60.0
"""How long a requester that had nothing to do for us is refused, so that others' invitations come first."""


@dataclass(slots=True)
class _Running:
    job: bytes
    scope: trio.CancelScope
    ended: trio.Event


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is left of a job's conversations for the next one about it, if its terms are the same."""

    terms: JobTerms
    model: ModelDownload = field(default_factory=ModelDownload)
    updates: OwnUpdates = field(default_factory=OwnUpdates)


class Participant:
    """This node as a trainer.

    Args:
        parts: of the node.
        claims: keeps receipts and collects what is owed.
        limits: what a job may ask of this node.
        willing: whether this node trains for others at all.
        private: the data of this node's owner that jobs may train on.
    """

    def __init__(
        self,
        parts: NodeParts,
        claims: Claims,
        limits: WorkLimits | None = None,
        willing: bool = True,
        private: PrivateData | None = None,
    ) -> None:
        self._parts = parts
        self._claims = claims
        self._limits = limits or WorkLimits()
        self._willing = willing
        self._private = private or PrivateData((), parts.folder / "private")
        self._running: _Running | None = None
        self._nursery: trio.Nursery | None = None
        self._leaving: dict[bytes, trio.CancelScope] = {}
        self._pay: dict[bytes, PayWatch] = {}
        self._kept: _Kept | None = None  # of the newest job
        self._idled: dict[bytes, float] = {}

    @property
    def busy(self) -> bool:
        """Whether a job is being trained for."""
        return self._running is not None

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Answer invitations until cancelled."""
        await trio.to_thread.run_sync(
            partial(shutil.rmtree, self._parts.folder / DERIVED, ignore_errors=True)
        )
        self._parts.host.handle(PROTOCOL, self._on_stream)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._claims.run)
            for metainfo in self._parts.data.leftovers():
                nursery.start_soon(self._forget, metainfo, KEEP_SHARDS_S)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def _on_stream(self, stream: Stream) -> None:
        channel = Channel(stream)
        invite = await channel.receive(MAX_INVITE, INVITE_S)
        if isinstance(invite, Ask):
            await channel.send(await self._offer(channel.peer, invite))
            await channel.close()
            return
        if not isinstance(invite, Invite):
            raise Malformed(f"{type(invite).__name__} before an invitation")
        terms = JobTerms.from_invite(invite)
        own = None
        reason = self._refusal(channel.peer, invite, terms) or await self._money_refusal(terms)
        if not reason:
            try:
                own = await self._own_data(channel.peer, terms)
            except NotOffered as error:
                reason = str(error)
        reason = reason or await self._make_room(terms)  # last: the room is taken before anything else runs
        if reason:
            log.info("an invitation from %s is refused: %s", channel.peer, reason)
            await channel.send(refusal(reason))
            return
        await self._take_part(channel, terms, own)

    async def _own_data(self, requester: str, terms: JobTerms) -> OwnShard | DerivedShards | None:
        """What is trained on when the requester sends no shards; None when it does. Raises NotOffered."""
        if terms.dataset:
            path, _ = await self._private.shard(
                terms.dataset, terms.requester, terms.model, self._limits.model
            )
            return OwnShard(path)
        if not terms.division:
            return None
        try:
            division = Division.from_text(terms.division)
        except SpecError as error:
            raise NotOffered(str(error)) from error
        folder = self._parts.folder / DERIVED / terms.job.hex()
        return DerivedShards(division, terms.seed, requester, self._parts.data, folder)

    async def _offer(self, peer: str, ask: Ask) -> Message:
        """The answer to whether this node's private data may be trained on."""
        if not self._willing:
            return Refuse("ask", 0, 0, "this node does not train for others")
        chain_id = self._parts.chain.genesis.chain_id
        answer = await self._private.answer(ask, peer, self._parts.host.peer_id, chain_id, self._limits.model)
        log.info("%s asks for the private data %r: %s", peer, ask.dataset, answer)
        return answer

    def _refusal(self, peer: str, invite: Invite, terms: JobTerms) -> str:
        """Why this invitation cannot be accepted; empty when it can."""
        if invite.version != VERSION:
            return f"version {invite.version} of the training protocol is not spoken here"
        if not self._willing:
            return "this node does not train for others"
        if terms.chain_id != self._parts.chain.genesis.chain_id:
            return "the job is on another chain"
        if not terms.invited_by_requester(invite, peer, self._parts.host.peer_id):
            return "the invitation is not signed by the job's requester, for you and for this node"
        if self._idled.get(terms.requester, -math.inf) > trio.current_time():
            return "this node has waited for a task in vain; ask again in a minute"
        if not self._parts.worker.status.startswith(("ready", "busy")):
            return f"the worker is {self._parts.worker.status}"
        if reason := lasting(self._parts.worker.rests):
            return f"the worker rests: {reason}"
        try:
            keras_json.parse(terms.model, self._limits.model)
        except SpecError as error:
            return f"the model is not accepted here: {error}"
        try:
            terms.optimizer.check(optimizers.CLIENT)
            terms.check()
        except SpecError as error:
            return f"the training is not accepted here: {error}"
        return self._limits.against(terms.trainer)

    async def _money_refusal(self, terms: JobTerms) -> str:
        """What the chain says about the job, once its block is here."""
        with trio.move_on_after(BLOCK_S):
            while self._parts.chain.job(terms.job) is None:  # noqa: ASYNC110  (blocks come every few seconds)
                await trio.sleep(0.2)
        job = self._parts.chain.job(terms.job)
        if job is None:
            return "the job is not on this node's chain"
        if job.requester != terms.requester or job.price != terms.price or job.rounds != terms.rounds:
            return "the invitation does not say what the job says on the chain"
        if not job.status.active:
            return f"the job is {job.status.name} on the chain"
        most = self._limits.unsettled(job, self._parts.chain.genesis.params.min_fee)
        if job.price and terms.settle_every > most:
            return f"the job pays every {terms.settle_every} rounds; this node waits for {most} at most"
        pay = self._pay_watch(terms)
        await pay.look()
        return pay.refusal()

    def _pay_watch(self, terms: JobTerms) -> PayWatch:
        """What is known of a job's paying, also from earlier conversations; what is over is forgotten."""
        chain = self._parts.chain
        over = [key for key in self._pay if (job := chain.job(key)) is None or not job.status.active]
        for key in over:
            del self._pay[key]
        fresh = PayWatch(chain, self._claims, terms.job, terms.settle_every)
        return self._pay.setdefault(terms.job, fresh)

    async def _make_room(self, terms: JobTerms) -> str:
        """End an earlier conversation about the same job: the requester has come back. Empty, or why not."""
        running = self._running
        if running is None:
            return ""
        if running.job != terms.job:
            return "busy with another job"
        running.scope.cancel()
        with trio.move_on_after(15):
            await running.ended.wait()
        return "" if self._running is None else "busy with an earlier conversation about this job"

    def _conversation(
        self, channel: Channel, terms: JobTerms, own: OwnShard | DerivedShards | None
    ) -> ParticipantJob:
        chain = self._parts.chain
        job = chain.job(terms.job)
        limits, idle_s = self._limits, self._limits.idle_s
        if job is not None:
            idle_s = limits.patience(job, chain.slot_now(), chain.genesis.params.slot_ms)
        if self._kept is None or self._kept.terms != terms:
            self._kept = _Kept(terms)
        return ParticipantJob(
            channel, terms, self._parts, self._pay_watch(terms), limits, self._kept.model, self._kept.updates,
            idle_s, partial(self._keep, terms), self._wanted_again, own,
        )  # fmt: skip

    async def _take_part(
        self, channel: Channel, terms: JobTerms, own: OwnShard | DerivedShards | None
    ) -> None:
        running = self._running = _Running(terms.job, trio.CancelScope(), trio.Event())
        self._tell(channel, terms, "joined")
        conversation = self._conversation(channel, terms, own)
        reason, over = "replaced by a newer conversation", False
        try:
            with running.scope:
                reason, over = await conversation.run(), True
        except Idle as error:
            reason = str(error)
            self._idled = {key: at for key, at in self._idled.items() if at > trio.current_time()}
            self._idled[terms.requester] = trio.current_time() + REST_S
        except Dropped as error:
            reason = str(error)
        except RemoteError as error:
            self._parts.host.standing.note(channel.peer, error)
            reason = str(error)
        except OSError as error:
            reason = f"this node's disk, the folder of its receipts: {error.strerror or error}"
            log.error("the job %s of %s is left: %s", terms.name, channel.peer, reason)
            with suppress(RemoteError):
                await channel.send(Done(reason[:500]))
        finally:
            self._running = None
            if over:
                self._kept = None  # it may be large
            if isinstance(own, DerivedShards):
                own.drop()
            running.ended.set()
            self._tell(channel, terms, "left", reason)
            if conversation.metainfo and self._nursery is not None:
                wait = 0.0 if over else KEEP_SHARDS_S
                self._nursery.start_soon(self._forget, conversation.metainfo, wait, self._kept)

    async def _keep(self, terms: JobTerms, receipt: Receipt) -> None:
        await self._claims.keep(receipt)
        commitment = receipt.commitment
        self._parts.events.emit(
            "training.receipt",
            job=terms.job.hex(),
            name=terms.name,
            round=commitment.round + 1,
            client=commitment.client,
            samples=commitment.samples,
            earned=commitment.samples * terms.price,
        )

    async def _forget(self, metainfo: bytes, wait: float, kept: _Kept | None = None) -> None:
        """Delete a job's shards and what was kept, unless its requester has them held again meanwhile."""
        with trio.CancelScope() as scope:
            self._leaving[metainfo] = scope
            await trio.sleep(wait)
            del self._leaving[metainfo]
            if self._kept is kept:
                self._kept = None
            await self._parts.data.forget(metainfo, delete=True)

    def _wanted_again(self, metainfo: bytes) -> None:
        leaving = self._leaving.pop(metainfo, None)
        if leaving is not None:
            leaving.cancel()

    def _tell(self, channel: Channel, terms: JobTerms, state: str, reason: str = "") -> None:
        log.info("job %s of %s: %s %s", terms.name, channel.peer, state, reason)
        self._parts.events.emit(
            "training.state",
            job=terms.job.hex(),
            name=terms.name,
            requester=channel.peer,
            state=state,
            reason=reason,
        )
