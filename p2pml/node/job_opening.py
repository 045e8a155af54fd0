"""How a job gets onto the chain: JOB_OPEN, signed once, journaled, and submitted until a block has it."""

from __future__ import annotations

import math
from contextlib import suppress

import trio

from chain.errors import DecodeError
from chain.transactions import JobOpen, Tx
from p2pml.errors import ExitCode, UserError
from p2pml.node.job_members import LOOK_S, eligible, waiting_text
from p2pml.node.job_prepare import Prepared
from p2pml.node.job_store import JobStore
from p2pml.node.job_view import JobView
from p2pml.node.ports import ChainPort, NodeParts
from p2pml.node.tx_sender import LATE_SLOTS, VALID_SLOTS, TxSender
from p2pml.training.spec import JobSpec

ROUND_GUESS_S = 900.0
"""How long a round may take when the deadline of the job on the chain is chosen."""
ATTEMPTS = 3
"""How often a round is tried before the job fails."""


async def client_count(spec: JobSpec, parts: NodeParts, view: JobView) -> int:
    """The spec's number of clients; with `auto` as many as there are peers once enough are there.

    Raises:
        UserError: (code 12) too few peers appeared in time.
    """
    limits = spec.peers
    until = trio.current_time() + limits.join
    while True:
        here = len(eligible(list(parts.trainers()), limits))
        if here >= limits.min:
            return min(limits.max, here) if spec.data.clients == "auto" else spec.data.clients
        if trio.current_time() >= until:
            raise UserError(
                f"only {here} of {limits.min} peers were there within {limits.join:g} s",
                "start more trainers or lower peers.min",
                ExitCode.NO_TRAINERS,
            )
        view.note(waiting_text(here, limits.min))
        await trio.sleep(LOOK_S)


async def open_on_chain(
    spec: JobSpec, prepared: Prepared, parts: NodeParts, sender: TxSender, store: JobStore, view: JobView
) -> bytes:
    """Have the job on the chain, also after an interruption; returns its id.

    Raises:
        UserError: (code 14) the chain does not take it, e.g. for lack of money.
    """
    chain = parts.chain
    tx = journaled_opening(store)
    while True:
        if tx is None:
            tx = sender.sign(_job_open(spec, prepared, chain))
            await store.note("opened", tx=tx.encode().hex())
        view.chain_job = tx.id.hex()
        try:
            if chain.job(tx.id) is None:
                view.note("waiting for a block with the job")
                await sender.resubmit(tx)
        except UserError:
            if _is_refused(tx, chain):
                await store.note("unopened")
                raise
        if await opened(tx, chain):
            return tx.id
        tx = None  # it expired, or its nonce was used: nothing is locked, so open the job anew


async def opened(tx: Tx, chain: ChainPort) -> bool:
    """Wait until a block has the job, True, or until the blocks here show that none can any more, False.

    The clock does not tell: a machine that slept has the block with the job, if there is one, yet to fetch.
    """
    while chain.job(tx.id) is None:
        expired = chain.head_slot() > tx.valid_until_slot + LATE_SLOTS
        if expired or chain.nonce(tx.sender) > tx.nonce:
            return False
        with suppress(trio.TooSlowError):
            await chain.wait_tx(tx.id, LOOK_S)
            return True
    return True


def journaled_opening(store: JobStore) -> Tx | None:
    """The JOB_OPEN transaction that was signed for this job and may get into a block, if there is one.

    Raises:
        UserError: the journal holds something else.
    """
    steps = [entry for entry in store.journal.entries if entry["kind"] in ("opened", "unopened")]
    entry = steps[-1] if steps and steps[-1]["kind"] == "opened" else None
    try:
        return Tx.decode(bytes.fromhex(entry["tx"])) if entry else None
    except DecodeError as error:
        raise UserError(f"the job's journal is damaged: {error}", "start the job again") from error


def _is_refused(tx: Tx, chain: ChainPort) -> bool:
    """Whether a refusal is about the job: not about its time or its nonce, and its block has not come."""
    late = tx.valid_until_slot <= chain.slot_now() + 1
    return chain.job(tx.id) is None and not late and chain.next_nonce(tx.sender) <= tx.nonce


def _job_open(spec: JobSpec, prepared: Prepared, chain: ChainPort) -> JobOpen:
    per_round = ROUND_GUESS_S if spec.peers.deadline == "auto" else ATTEMPTS * spec.peers.deadline
    seconds = spec.peers.join + (spec.rounds.max + 1) * per_round
    slots = VALID_SLOTS + math.ceil(seconds * 1000 / chain.genesis.params.slot_ms)
    return JobOpen(
        dataset=prepared.dataset,
        model_hash=prepared.model_hash,
        rounds=spec.rounds.max,
        price=prepared.price,
        budget=spec.budget,
        deadline_slot=chain.slot_now() + slots,
    )
