"""Training for other nodes' jobs: which invitations are accepted, and what becomes of the receipts.

One job at a time. Its shards are fetched, its tasks trained in this node's own worker, and every receipt is
on disk before anything else; what a requester leaves unpaid `p2pml.node.claims` collects.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio

from chain.training_records import Receipt
from p2pml.formats import SpecError, keras_json, optimizers
from p2pml.net.errors import Malformed, RemoteError
from p2pml.net.streams import Stream
from p2pml.net.train import PROTOCOL, VERSION, Channel, Invite
from p2pml.node.claims import Claims
from p2pml.node.participant_job import ParticipantJob, refusal
from p2pml.node.ports import NodeParts
from p2pml.node.terms import JobTerms

log = logging.getLogger(__name__)

INVITE_S = 30.0
BLOCK_S = 20.0
"""How long to wait for the block with a job that we are invited to."""
KEEP_SHARDS_S = 600.0
"""How long a job's shards stay after its requester vanished: it may come back and go on."""


@dataclass(slots=True)
class _Running:
    job: bytes
    peer: str
    scope: trio.CancelScope
    ended: trio.Event


class Participant:
    """This node as a trainer.

    Args:
        parts: of the node.
        claims: keeps receipts and collects what is owed.
        limits: how large a model may be.
        willing: whether this node trains for others at all.
    """

    def __init__(
        self,
        parts: NodeParts,
        claims: Claims,
        limits: keras_json.Limits | None = None,
        willing: bool = True,
    ) -> None:
        self._parts = parts
        self._claims = claims
        self._limits = limits or keras_json.Limits()
        self._willing = willing
        self._running: _Running | None = None
        self._nursery: trio.Nursery | None = None
        self._leaving: dict[bytes, trio.CancelScope] = {}

    @property
    def busy(self) -> bool:
        """Whether a job is being trained for."""
        return self._running is not None

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Answer invitations until cancelled."""
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
        invite = await channel.receive(INVITE_S)
        if not isinstance(invite, Invite):
            raise Malformed(f"{type(invite).__name__} before an invitation")
        terms = JobTerms.from_invite(invite)
        reason = (
            self._refusal(invite, terms)
            or await self._money_refusal(terms)
            or await self._make_room(channel.peer, terms)
        )
        if reason:
            log.info("an invitation from %s is refused: %s", channel.peer, reason)
            await channel.send(refusal(reason))
            return
        await self._take_part(channel, terms)

    def _refusal(self, invite: Invite, terms: JobTerms) -> str:
        """Why this invitation cannot be accepted; empty when it can."""
        if invite.version != VERSION:
            return f"version {invite.version} of the training protocol is not spoken here"
        if not self._willing:
            return "this node does not train for others"
        if terms.chain_id != self._parts.chain.genesis.chain_id:
            return "the job is on another chain"
        if not self._parts.worker.status.startswith(("ready", "busy")):
            return f"the worker is {self._parts.worker.status}"
        try:
            keras_json.parse(terms.model, self._limits)
            terms.optimizer.check(optimizers.CLIENT)
        except SpecError as error:
            return f"the model is not accepted here: {error}"
        return ""

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
        return ""

    async def _make_room(self, peer: str, terms: JobTerms) -> str:
        """End an earlier conversation about the same job: the requester has come back. Empty, or why not.

        An invitation is not signed, and what the chain says of a job is public: only the same peer may do it.
        """
        running = self._running
        if running is None:
            return ""
        if running.job != terms.job:
            return "busy with another job"
        if running.peer != peer:
            return "busy with this job for another peer"
        running.scope.cancel()
        with trio.move_on_after(15):
            await running.ended.wait()
        return "" if self._running is None else "busy with an earlier conversation about this job"

    async def _take_part(self, channel: Channel, terms: JobTerms) -> None:
        running = self._running = _Running(terms.job, channel.peer, trio.CancelScope(), trio.Event())
        self._tell(channel, terms, "joined")
        conversation = ParticipantJob(
            channel, terms, self._parts, partial(self._keep, terms), self._wanted_again
        )
        reason, over = "replaced by a newer conversation", False
        try:
            with running.scope:
                reason, over = await conversation.run(), True
        except RemoteError as error:
            reason = str(error)
        finally:
            self._running = None
            running.ended.set()
            self._tell(channel, terms, "left", reason)
            if conversation.metainfo and self._nursery is not None:
                wait = 0.0 if over else KEEP_SHARDS_S
                self._nursery.start_soon(self._forget, conversation.metainfo, wait)

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

    async def _forget(self, metainfo: bytes, wait: float) -> None:
        """Delete a job's shards, unless its requester has them held again meanwhile."""
        with trio.CancelScope() as scope:
            self._leaving[metainfo] = scope
            await trio.sleep(wait)
            del self._leaving[metainfo]
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
