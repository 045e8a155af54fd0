"""What to do with a gossiped message: pass it on, drop it, or blame who sent it. Pure functions.

REJECT is for what no honest node could send, whatever it knows. IGNORE is for what may be right: early,
late, known, or about a part of the chain that is not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from chain.errors import (
    FutureBlock,
    InvalidError,
    InvalidRecord,
    InvalidTransaction,
    PoolFull,
    StaleBlock,
    UnknownParent,
)
from chain.forkchoice import Chain
from chain.mempool import Mempool
from chain.state import State
from chain.training_records import RoundRecord
from chain.transactions import Tx
from chain.transition import check_tx_alone
from chain.types import MAX_BLOCK_BYTES, Block

MAX_SEALS = 2
"""Blocks passed on per proposer and slot: two show everybody the equivocation, more are a flood."""

T = TypeVar("T")


class Verdict(Enum):
    """The three answers of gossipsub's extended validators."""

    ACCEPT = "accept"
    IGNORE = "ignore"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Checked(Generic[T]):
    """A verdict, the decoded item where it could be decoded, and the reason.

    For a block, an item may come with IGNORE: it waits for its parent or its time and is worth keeping.
    """

    verdict: Verdict
    item: T | None = None
    reason: str = ""


def validate_block(data: bytes, chain: Chain, now_ms: int) -> Checked[Block]:
    """Judge a gossiped block by its sealed header; the body is judged by `Chain.on_block`."""
    # REJECT: not a block, or bigger than any block of this chain.
    try:
        block = Block.decode(data, min(MAX_BLOCK_BYTES, chain.genesis.params.max_body_bytes + 4096))
    except InvalidError as error:
        return Checked(Verdict.REJECT, None, str(error))
    # IGNORE: known already.
    if chain.has(block.block_id):
        return Checked(Verdict.IGNORE, None, "known")
    # IGNORE: too many seals of this proposer for this slot.
    if chain.sealed_by(block.sealed.proposer, block.sealed.timestamp_ms) >= MAX_SEALS:
        return Checked(Verdict.IGNORE, None, "the proposer sealed this slot more than twice")
    try:
        chain.check_header(block.sealed, now_ms)
        # REJECT: the body is not under the header. Cheap, and spares everybody else the bytes.
        if not block.root_ok():
            return Checked(Verdict.REJECT, None, "the body is not the one under the header's root")
    # IGNORE: early, or the parent is unknown.
    except (FutureBlock, UnknownParent) as error:
        return Checked(Verdict.IGNORE, block, str(error))
    # IGNORE: late; it may come from a node that was cut off for long.
    except StaleBlock as error:
        return Checked(Verdict.IGNORE, None, str(error))
    # REJECT: draw, VRF, seal, target, timestamp or state root are wrong.
    except InvalidError as error:
        return Checked(Verdict.REJECT, None, str(error))
    return Checked(Verdict.ACCEPT, block)


def validate_tx(data: bytes, pool: Mempool, state: State, slot: int) -> Checked[Tx]:
    """Judge a gossiped transaction; ACCEPT means that it is in the pool now."""
    # REJECT: not a transaction, or too big.
    try:
        tx = Tx.decode(data, state.genesis.params.max_tx_bytes)
    except InvalidError as error:
        return Checked(Verdict.REJECT, None, str(error))
    # IGNORE: known already, or expired by our clock.
    if pool.has(tx.id) or slot > tx.valid_until_slot:
        return Checked(Verdict.IGNORE, tx, "known or expired")
    # REJECT: wrong chain, fee or signature: wrong in every state.
    try:
        check_tx_alone(state, tx, slot)
    except InvalidTransaction as error:
        return Checked(Verdict.REJECT, None, str(error))
    # IGNORE: nonce, balance or job do not fit the state that we see; the sender may see another.
    try:
        pool.add(tx, state, slot)
    except (InvalidTransaction, PoolFull) as error:
        return Checked(Verdict.IGNORE, tx, str(error))
    return Checked(Verdict.ACCEPT, tx)


def validate_record(data: bytes, pool: Mempool, state: State) -> Checked[RoundRecord]:
    """Judge a gossiped round record; ACCEPT means that it is in the pool now."""
    # REJECT: not a record.
    try:
        record = RoundRecord.decode(data)
    except InvalidError as error:
        return Checked(Verdict.REJECT, None, str(error))
    job = state.job(record.job)
    # REJECT: not signed by the requester of the job that it names.
    if job is not None and not record.verify(job.requester):
        return Checked(Verdict.REJECT, None, "the record is not signed by the job's requester")
    # IGNORE: the job or the round does not fit the state that we see.
    try:
        fresh = pool.add_record(record, state)
    except (InvalidRecord, PoolFull) as error:
        return Checked(Verdict.IGNORE, record, str(error))
    return Checked(Verdict.ACCEPT if fresh else Verdict.IGNORE, record, "" if fresh else "known")
