"""Receipts that this node was given: on disk at once, and claimed from the escrow when they were left unpaid.

A receipt is the requester's debt. Usually the requester settles; when a job's challenge window begins and a
receipt is unpaid, this node claims it with a transaction of its own, if that brings more than its fee.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import trio

from chain.entries import Job, JobStatus
from chain.errors import DecodeError
from chain.training_records import Commitment, Receipt, SettledReceipt, batches
from chain.transactions import JobClaim
from p2pml.errors import UserError
from p2pml.node.events import Events
from p2pml.node.ports import ChainPort
from p2pml.node.tx_sender import TxSender
from p2pml.storage.journal import Journal, JournalError

log = logging.getLogger(__name__)

AGAIN_SLOTS = 4
"""How long a claim is waited for: it is invalid as a whole once one of its receipts is paid otherwise."""
GRACE_SLOTS = 3
"""After the challenge window has begun, how long a settlement may still be on its way."""

SHOWN_SLOTS = 8
"""How long a payment of which the state knows is looked for in the blocks here: they are on disk by then, or
were never here (a snapshot's) or are no more (pruned)."""


@dataclass(frozen=True, slots=True)
class _Paid:
    """A receipt of ours whose round and client are paid; to whom, no block has shown yet."""

    trainer: bytes
    seen_slot: int


class Claims:
    """Receipts of all jobs that this node trained for.

    Args:
        chain: to look at.
        sender: of this node's transactions.
        folder: one journal per job.
        events: told what is claimed.
    """

    def __init__(self, chain: ChainPort, sender: TxSender, folder: Path, events: Events) -> None:
        self._chain = chain
        self._sender = sender
        self._folder = folder
        self._events = events
        self._open: dict[bytes, Journal] = {}
        self._unpaid: dict[bytes, dict[tuple[int, int], Commitment]] = {}
        self._paid: dict[bytes, dict[tuple[int, int], _Paid]] = {}

    async def keep(self, receipt: Receipt) -> None:
        """Put a receipt on disk; it is there when this returns.

        Raises:
            OSError: the disk refuses it.
        """
        commitment = receipt.commitment
        self.unpaid(commitment.job)  # what is on disk already, before this one is
        journal = self._journal(commitment.job)
        text = receipt.encode().hex()
        await trio.to_thread.run_sync(lambda: journal.append("receipt", receipt=text))
        self._unpaid[commitment.job][commitment.round, commitment.client] = commitment

    def unpaid(self, job: bytes) -> dict[tuple[int, int], int]:
        """Samples of the receipts that no block has paid yet, by round and client."""
        known = self._unpaid.get(job)
        if known is None:
            held = self.receipts(job) if job in self._open or self._path(job).exists() else []
            known = {(r.commitment.round, r.commitment.client): r.commitment for r in held}
        rounds = {round_: self._chain.paid_clients(job, round_) for round_, _ in known}
        unpaid = {key: item for key, item in known.items() if key[1] not in rounds[key[0]]}
        now, paid = self._chain.slot_now(), self._paid.setdefault(job, {})
        paid.update({key: _Paid(known[key].trainer, now) for key in known.keys() - unpaid.keys()})
        self._unpaid[job] = unpaid
        return {key: item.samples for key, item in unpaid.items()}

    async def diverted(self, job: bytes) -> int | None:
        """The oldest round in which another account was paid for work of ours; None where no block shows one.

        The state knows only that a client was paid. Only a block that names another account counts against
        the requester: where the blocks are not here, the receipt passes for paid.
        """
        self.unpaid(job)
        paid = self._paid[job]
        if not paid:
            return None
        payees = await self._chain.payees(job, min(round_ for round_, _ in paid))
        now = self._chain.slot_now()
        for key, item in list(paid.items()):
            if payees.get(key) == item.trainer or (key not in payees and now > item.seen_slot + SHOWN_SLOTS):
                paid.pop(key, None)
        return min((key[0] for key in paid if key in payees), default=None)

    def receipts(self, job: bytes) -> list[Receipt]:
        """The receipts of a job, each (round, client) once."""
        found: dict[tuple[int, int], Receipt] = {}
        for entry in self._journal(job).all("receipt"):
            receipt = Receipt.decode(bytes.fromhex(entry["receipt"]))
            found[receipt.commitment.round, receipt.commitment.client] = receipt
        return list(found.values())

    async def run(self) -> None:
        """Look after every job with receipts, until cancelled."""
        self._load()
        while True:
            await trio.sleep(self._chain.genesis.params.slot_ms / 1000)
            for job in list(self._open):
                try:
                    await self.look(job)
                except UserError as error:
                    log.warning("receipts of job %s cannot be claimed: %s", job.hex()[:16], error)
                except Exception:  # one job's receipts must not end the node
                    log.exception("receipts of job %s cannot be looked after", job.hex()[:16])

    async def look(self, job_id: bytes) -> None:
        """Claim what is due; put the job aside when it is over.

        Raises:
            UserError: the chain does not take the claim.
        """
        job = self._chain.job(job_id)
        if job is None or job.status.active:
            return
        if job.status is not JobStatus.CHALLENGE:
            self._put_aside(job_id)
            return
        begun = job.challenge_end - self._chain.genesis.params.job_challenge_slots
        if self._chain.slot_now() < begun + GRACE_SLOTS:
            return
        for part in batches(self._due(job), self._chain.genesis.params.max_tx_bytes):
            await self._claim(job, part)

    def _due(self, job: Job) -> Iterable[SettledReceipt]:
        """Unpaid receipts. No path is needed: the requester's countersignature is the debt."""
        return [
            SettledReceipt(receipt)
            for receipt in self.receipts(job.id)
            if receipt.commitment.client not in self._chain.paid_clients(job.id, receipt.commitment.round)
        ]

    async def _claim(self, job: Job, part: tuple[SettledReceipt, ...]) -> None:
        worth = sum(item.receipt.commitment.samples for item in part) * job.price
        if min(worth, job.escrow) <= self._chain.genesis.params.min_fee:
            return
        tx_id = await self._sender.submit(JobClaim(job.id, part))
        self._events.emit("training.claim", job=job.id.hex(), receipts=len(part), amount=worth)
        until = self._chain.slot_now() + AGAIN_SLOTS
        await self._sender.included(tx_id, min(until, job.challenge_end))

    def _load(self) -> None:
        for path in sorted(self._folder.glob("*.receipts")):
            try:
                job = bytes.fromhex(path.stem)
            except ValueError:
                continue  # not one of ours
            try:
                self.receipts(job)
            except (JournalError, DecodeError, OSError, KeyError, TypeError, ValueError) as error:
                log.error("the receipts in %s cannot be read: %s", path, error)
                self._open.pop(job, None)

    def _journal(self, job: bytes) -> Journal:
        if job not in self._open:
            self._open[job] = Journal(self._path(job))
        return self._open[job]

    def _path(self, job: bytes) -> Path:
        return self._folder / f"{job.hex()}.receipts"

    def _put_aside(self, job: bytes) -> None:
        journal = self._open.pop(job)
        self._unpaid.pop(job, None)
        self._paid.pop(job, None)
        journal.close()
        aside = journal.path.with_suffix(".done")
        number = 1
        while aside.exists():  # receipts that came after it was put aside once, when blocks were replaced
            number += 1
            aside = journal.path.with_suffix(f".{number}.done")
        journal.path.rename(aside)
