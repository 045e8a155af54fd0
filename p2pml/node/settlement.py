"""A job's money: round records on the chain, receipts paid out of the escrow, the rest given back.

Everything is derived from the journal's rounds and from the chain's own state, so it may be begun again at
any point.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

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
TRIES = 5
"""How often a settlement may be refused: the pool may be full, or a claim may have come before it."""
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


@dataclass(slots=True)
class Settlement:
    """Keeps one job's books on the chain.

    Args:
        chain: to look at.
        sender: of the requester's transactions.
        keys: the requester's.
        job: 32-byte id.
    """

    chain: ChainPort
    sender: TxSender
    keys: Keypair
    job: bytes

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

    async def keep_recording(self, rounds: list[RoundDone]) -> None:
        """Until cancelled: whatever is lost on the way to a block is submitted again."""
        while True:
            await self.record(rounds)
            await trio.sleep(2 * self.chain.genesis.params.slot_ms / 1000)

    async def finish(self, rounds: list[RoundDone]) -> Job:
        """Pay every receipt of the rounds and end the job; returns it in its challenge window or after.

        Raises:
            UserError: the chain does not take a settlement, time and again.
        """
        refused = 0
        while True:
            recorded = await self.record(rounds)
            state = self.chain.job(self.job)
            if state is None or not recorded:  # blocks are still to come, also after a reorganisation
                await trio.sleep(LOOK_S)
                continue
            owed = [] if state.status > JobStatus.CHALLENGE else self._unpaid(rounds, state)
            if not owed and not state.status.active:
                return state
            try:
                if not rounds and state.status is JobStatus.OPEN:
                    await self.sender.settle(JobCancel(self.job))
                else:
                    await self._pay(owed, final=state.status.active)
            except UserError:
                refused += 1
                if refused == TRIES:
                    raise
                await trio.sleep(LOOK_S)

    def _unpaid(self, rounds: list[RoundDone], state: Job) -> list[SettledReceipt]:
        """The receipts that no block has paid yet, of the rounds that are recorded."""
        owed: list[SettledReceipt] = []
        if not state.price:
            return owed
        for done in rounds[: state.next_round]:
            paid = self.chain.paid_clients(self.job, done.number)
            owed += [item for item in settle_receipts(done.receipts) if _client(item.receipt) not in paid]
        return owed

    async def _pay(self, owed: list[SettledReceipt], final: bool) -> None:
        parts = batches(owed, self.chain.genesis.params.max_tx_bytes) or ((),)
        for start in range(0, len(parts), AT_ONCE):
            group = parts[start : start + AT_ONCE]
            last_slot = self.chain.slot_now() + VALID_SLOTS
            sent = []
            for offset, part in enumerate(group):
                ends = final and start + offset == len(parts) - 1
                sent.append(await self.sender.submit(JobSettle(self.job, part, ends)))
            for tx_id in sent:
                await self.sender.included(tx_id, last_slot)


def _client(receipt: Receipt) -> int:
    return receipt.commitment.client
