"""The life of a training job on the chain.

JOB_OPEN locks the budget. Round records move the job on; JOB_SETTLE pays countersigned receipts that
lie in a recorded round's tree. A final settle, a cancel or the deadline starts the challenge window, in
which anyone may claim countersigned receipts that were left out. After it the first block returns the
rest to the requester. Everything here works on a Draft and raises InvalidTransaction or InvalidRecord;
whoever called throws the draft away then.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import replace

from chain import merkle
from chain.draft import Draft
from chain.entries import Job, JobStatus, RoundEntry
from chain.errors import InvalidRecord, InvalidTransaction
from chain.training_records import RoundRecord, SettledReceipt
from chain.transactions import JobCancel, JobClaim, JobOpen, JobSettle

__all__ = ["Job", "JobStatus", "advance", "apply_record", "cancel", "claim", "open_job", "settle"]


def advance(draft: Draft, slot: int) -> None:
    """Begin a block's slot: overdue jobs go into their challenge window, ended windows pay the rest back.

    The window is counted from this block, not from the deadline: without blocks nobody could have claimed.
    """
    for due_slot, job_id in draft.due:
        if due_slot >= slot:
            break
        job = draft.job(job_id)
        if job is None:
            continue
        if job.status.active:
            draft.put_job(_challenged(draft, job, slot))
            continue
        status = JobStatus.CLOSED if job.paid else JobStatus.REFUNDED
        draft.put_job(replace(job, escrow=0, status=status))
        if job.escrow:
            draft.credit(job.requester, job.escrow)


def open_job(draft: Draft, slot: int, job_id: bytes, sender: bytes, payload: JobOpen) -> None:
    """JOB_OPEN: lock the budget."""
    if payload.deadline_slot <= slot:
        raise InvalidTransaction(f"the deadline, slot {payload.deadline_slot}, is not after slot {slot}")
    if payload.rounds > draft.genesis.params.max_job_rounds:
        raise InvalidTransaction(f"a job may have at most {draft.genesis.params.max_job_rounds} rounds")
    draft.debit(sender, payload.budget, "the job's budget")
    draft.put_job(
        Job(
            id=job_id,
            requester=sender,
            dataset=payload.dataset,
            model_hash=payload.model_hash,
            model=payload.model_hash,
            rounds=payload.rounds,
            price=payload.price,
            budget=payload.budget,
            escrow=payload.budget,
            paid=0,
            deadline_slot=payload.deadline_slot,
            mode=payload.mode,
        )
    )


def apply_record(draft: Draft, record: RoundRecord) -> None:
    """A round record of the body. Raises InvalidRecord."""
    job = draft.job(record.job)
    if job is None:
        raise InvalidRecord(f"there is no job {record.job.hex()[:16]}")
    if not job.status.active:
        raise InvalidRecord(f"the job is {job.status.name}: it takes no more rounds")
    if record.round != job.next_round or record.round >= job.rounds:
        raise InvalidRecord(f"round {record.round} is not the next one, {job.next_round} of {job.rounds}")
    if record.model_in != job.model:
        raise InvalidRecord("model_in is not the job's current model")
    if not 1 <= record.receipts_count <= record.samples:
        raise InvalidRecord("a round has at least one receipt, and a receipt at least one sample")
    if not record.verify(job.requester):
        raise InvalidRecord("the record is not signed by the job's requester")
    running = JobStatus.RUNNING
    draft.put_job(replace(job, model=record.model_out, next_round=record.round + 1, status=running))
    draft.put_round(job.id, record.round, RoundEntry(record))


def settle(draft: Draft, slot: int, sender: bytes, payload: JobSettle) -> None:
    """JOB_SETTLE: the requester pays receipts of recorded rounds; `final` ends the job."""
    job = _job(draft, payload.job)
    if sender != job.requester:
        raise InvalidTransaction("only the job's requester may settle it")
    if job.status > JobStatus.CHALLENGE:
        raise InvalidTransaction(f"the job is {job.status.name}")
    if not payload.receipts and not payload.final:
        raise InvalidTransaction("nothing to settle")
    for settled in payload.receipts:
        job = _pay_recorded(draft, job, settled)
    if payload.final and job.status.active:
        job = _challenged(draft, job, slot)
    draft.put_job(job)


def claim(draft: Draft, payload: JobClaim) -> None:
    """JOB_CLAIM: pay receipts in the challenge window, left out of their round's tree or not."""
    job = _job(draft, payload.job)
    if job.status is not JobStatus.CHALLENGE:
        raise InvalidTransaction(f"the job is {job.status.name}: claims are for its challenge window")
    if not payload.receipts:
        raise InvalidTransaction("nothing to claim")
    for settled in payload.receipts:
        job = _pay_recorded(draft, job, settled) if settled.path else _pay_left_out(draft, job, settled)
    draft.put_job(job)


def cancel(draft: Draft, slot: int, sender: bytes, payload: JobCancel) -> None:
    """JOB_CANCEL: end a job before its first record.

    The refund waits for the challenge window: a trainer may already hold a countersigned receipt.
    """
    job = _job(draft, payload.job)
    if sender != job.requester:
        raise InvalidTransaction("only the job's requester may cancel it")
    if job.status is not JobStatus.OPEN:
        raise InvalidTransaction(f"the job is {job.status.name}: only one without a round can be cancelled")
    draft.put_job(_challenged(draft, job, slot))


def _job(draft: Draft, job_id: bytes) -> Job:
    job = draft.job(job_id)
    if job is None:
        raise InvalidTransaction(f"there is no job {job_id.hex()[:16]}")
    return job


def _challenged(draft: Draft, job: Job, slot: int) -> Job:
    end = slot + draft.genesis.params.job_challenge_slots
    return replace(job, status=JobStatus.CHALLENGE, challenge_end=end)


def _pay_recorded(draft: Draft, job: Job, settled: SettledReceipt) -> Job:
    commitment = settled.receipt.commitment
    entry = draft.round(job.id, commitment.round)
    record = entry.record if entry else None
    if entry is None or record is None:
        raise InvalidTransaction(f"round {commitment.round} has no record")
    leaf = settled.receipt.encode()
    if not merkle.verify_path(leaf, settled.index, record.receipts_count, settled.path, record.receipts_root):
        raise InvalidTransaction("the receipt is not in its round's tree")
    if commitment.model_in != record.model_in:
        raise InvalidTransaction("the receipt is for another model than its round's")
    if entry.settled_samples + commitment.samples > record.samples:
        raise InvalidTransaction("the receipts have more samples than their round's record")
    entry = replace(entry, settled_samples=entry.settled_samples + commitment.samples)
    return _pay(draft, job, entry, settled)


def _pay_left_out(draft: Draft, job: Job, settled: SettledReceipt) -> Job:
    """Without a path the requester's countersignature alone is the debt; the escrow bounds it."""
    entry = draft.round(job.id, settled.receipt.commitment.round)
    return _pay(draft, job, entry or RoundEntry(None), settled)


def _pay(draft: Draft, job: Job, entry: RoundEntry, settled: SettledReceipt) -> Job:
    commitment = settled.receipt.commitment
    if commitment.chain_id != draft.genesis.chain_id or commitment.job != job.id:
        raise InvalidTransaction("the receipt is for another job or chain")
    if commitment.round >= job.rounds:
        raise InvalidTransaction(f"round {commitment.round} is beyond the job's {job.rounds} rounds")
    if commitment.client in entry.clients:
        raise InvalidTransaction(f"client {commitment.client} of round {commitment.round} is paid already")
    if not settled.receipt.verify(job.requester):
        raise InvalidTransaction("the receipt's signatures do not hold")
    clients = list(entry.clients)
    insort(clients, commitment.client)
    draft.put_round(job.id, commitment.round, replace(entry, clients=tuple(clients)))
    pay = min(commitment.samples * job.price, job.escrow)
    job = replace(job, escrow=job.escrow - pay, paid=job.paid + pay)
    # The job and the balance change together, or the books of the draft would not add up in between.
    draft.put_job(job)
    if pay:
        draft.credit(commitment.trainer, pay)
    return job
