"""A job's money: round records on the chain, receipts paid out of the escrow, the rest given back.

Trainers are paid while the job goes on, or they stop: whenever so many rounds are recorded and not paid, they
are settled. One settlement is under way at a time, so short rounds share one.

Everything is derived from the journal's rounds and from the chain's own state, so it may be begun again at
any point.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from chain.crypto import Keypair
from chain.entries import Job, JobStatus
from chain.errors import InvalidError
from chain.training_records import (
    Receipt,
    RoundRecord,
    SettledReceipt,
    batches,
    receipts_root,
    settle_receipts,
)
from chain.transactions import JobCancel, JobSettle
from p2pml.errors import UserError
from p2pml.node.job_store import RoundDone
from p2pml.node.ports import ChainPort
from p2pml.node.tx_sender import VALID_SLOTS, TxSender

log = logging.getLogger(__name__)

AT_ONCE = 8
"""Settlements that wait for blocks together."""
LOOK_S = 1.0
AGAIN_S = 15.0
"""Longest wait, seconds, before what was refused is tried again: the pool may be full, the fee may be
lacking, or a claim may have come before it."""
PPM = 1_000_000


def round_record(job: bytes, done: RoundDone, keys: Keypair) -> RoundRecord:
    """What the chain keeps of a finished round."""
    return RoundRecord(
        job=job,
        round=done.number,
        model_in=done.model_in,
        model_out=done.model_out,
        receipts_root=receipts_root(done.receipts),
        receipts_count=len(done.receipts),
        samples=sum(receipt.commitment.samples for receipt in done.receipts),
        accuracy_ppm=min(PPM, max(0, round(done.accuracy * PPM))),
        loss_ppm=min(2**63, max(0, round(done.loss * PPM))),
    ).signed(keys)


@dataclass(frozen=True, slots=True)
class _Sent:
    tx_id: bytes
    part: tuple[SettledReceipt, ...]
    last_slot: int


@dataclass(slots=True)
class Settlement:
    """Keeps one job's books on the chain.

    Args:
        chain: to look at.
        sender: of the requester's transactions.
        keys: the requester's.
        job: 32-byte id.
        every: rounds after which what was earned in them is paid.
    """

    chain: ChainPort
    sender: TxSender
    keys: Keypair
    job: bytes
    every: int = 1
    _sent: list[_Sent] = field(default_factory=list)
    _paid: int = 0
    """Rounds that were seen paid: a long job is not gone through every second. The end looks at all again."""

    async def record(self, rounds: list[RoundDone]) -> bool:
        """Submit the round records that the chain does not have; True when it has all of them."""
        state = self.chain.job(self.job)
        if state is None or not state.status.active:
            return state is not None
        for done in rounds[state.next_round :]:
            try:
                await self.chain.submit_record(round_record(self.job, done, self.keys))
            except (InvalidError, UserError) as error:
                log.debug(
                    "round record %d is not taken now: %s", done.number, error
                )  # it waits there already
                break
        return state.next_round >= len(rounds)

    async def keep_books(self, rounds: list[RoundDone], note: Callable[[str], None]) -> None:
        """Until cancelled: record rounds, also those that were lost on the way to a block, and pay them.

        Args:
            rounds: the job's, growing.
            note: told when something cannot be paid.
        """
        while True:
            await self.record(rounds)
            try:
                await self._pay_as_it_goes(rounds)
            except UserError as error:
                note(f"what trainers have earned cannot be paid now: {error.cause}")
            await trio.sleep(LOOK_S)

    async def _pay_as_it_goes(self, rounds: list[RoundDone]) -> None:
        state = self.chain.job(self.job)
        if state is None or not state.status.active:
            return
        recorded = rounds[: state.next_round]
        while self._paid < len(recorded) and not self._unpaid(recorded[self._paid : self._paid + 1], state):
            self._paid += 1
        owed = self._unpaid(recorded[self._paid :], state)
        if len({item.receipt.commitment.round for item in owed}) >= self.every:
            await self._pay(owed, final=False)

    async def finish(self, rounds: list[RoundDone], note: Callable[[str], None]) -> Job:
        """Pay every receipt of the rounds and end the job; returns it in its challenge window or after.

        What is refused is tried again for as long as the job takes payments: giving up would leave the rest
        of the budget in escrow until the deadline.

        Args:
            rounds: the job's.
            note: told why something cannot be paid now.

        Raises:
            UserError: the job was over on the chain before that took all payments.
        """
        refusal, pause = None, LOOK_S
        await self._wait()
        while True:
            complete = await self.record(rounds)
            state = self.chain.job(self.job)
            if state is None or not complete:  # blocks are still to come, also after a reorganisation
                await trio.sleep(LOOK_S)
                continue
            owed = self._unpaid(rounds[: state.next_round], state)
            over = state.status > JobStatus.CHALLENGE
            if over and owed and refusal is not None:
                raise refusal
            if over or not (owed or state.status.active):
                return state
            try:
                await self._end(state, owed, trained=bool(rounds))
                pause = LOOK_S
            except UserError as error:
                refusal = error
                note(f"the job cannot be settled now, it is tried again: {error.cause}")
                await trio.sleep(pause)
                pause = min(2 * pause, AGAIN_S)

    async def _end(self, state: Job, owed: list[SettledReceipt], trained: bool) -> None:
        if not trained and state.status is JobStatus.OPEN:
            await self.sender.settle(JobCancel(self.job))
        else:
            await self._pay(owed, final=state.status.active)

    def _unpaid(self, recorded: list[RoundDone], state: Job) -> list[SettledReceipt]:
        """The receipts of rounds on the chain that no block has paid yet."""
        owed: list[SettledReceipt] = []
        for done in recorded if state.price else ():
            paid = self.chain.paid_clients(self.job, done.number)
            if any(_client(receipt) not in paid for receipt in done.receipts):
                owed += [item for item in settle_receipts(done.receipts) if _client(item.receipt) not in paid]
        return owed

    async def _pay(self, owed: list[SettledReceipt], final: bool) -> None:
        parts = batches(owed, self.chain.genesis.params.max_tx_bytes) or ((),)
        for start in range(0, len(parts), AT_ONCE):
            group = parts[start : start + AT_ONCE]
            last_slot = self.chain.slot_now() + VALID_SLOTS
            for offset, part in enumerate(group):
                ends = final and start + offset == len(parts) - 1
                tx_id = await self.sender.submit(JobSettle(self.job, part, ends))
                self._sent.append(_Sent(tx_id, part, last_slot))
            await self._wait()

    async def _wait(self) -> None:
        """Wait for what was sent: until a block has it, or none can any more. It is invalid as a whole once
        one of its receipts was paid by another: by a claim, or by one sent before the node was killed."""
        while self._sent:
            sent = self._sent[0]
            here = await self.sender.included(sent.tx_id, min(sent.last_slot, self.chain.slot_now()))
            paid = any(self._is_paid(item.receipt) for item in sent.part)
            if here or paid or self.chain.slot_now() > sent.last_slot:
                self._sent.pop(0)

    def _is_paid(self, receipt: Receipt) -> bool:
        return _client(receipt) in self.chain.paid_clients(self.job, receipt.commitment.round)


def _client(receipt: Receipt) -> int:
    return receipt.commitment.client
