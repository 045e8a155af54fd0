"""What to do with a gossiped message: pass it on, drop it, or blame who sent it. Pure functions.

REJECT is for what no honest node could send, whatever it knows. IGNORE is for what may be right: early,
late, known, or about a part of the chain that is not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from chain.announced import Announced
from chain.codec import items, octets_upto, pack, unpack
from chain.errors import (
    FutureBlock,
    InvalidError,
    InvalidRating,
    InvalidRecord,
    InvalidTransaction,
    InvalidVote,
    PoolFull,
    StaleBlock,
    UnknownParent,
    UnknownVoter,
)
from chain.finality import WINDOW_EPOCHS
from chain.forkchoice import Chain
from chain.header import SealedHeader
from chain.mempool import Mempool
from chain.rating.items import Point, decode_point
from chain.state import State
from chain.training_records import RoundRecord
from chain.transactions import Tx
from chain.transition import check_tx_alone
from chain.types import MAX_BLOCK_BYTES, Block
from chain.votes import Vote

MAX_SEALS = 2
"""Headers passed on per proposer and slot: two show everybody the equivocation, more are a flood."""
MAX_BATCH_BYTES = 32 * 1024
"""Transactions gossiped in one message, together; a single larger one goes alone."""
MAX_BATCH_TXS = 512

T = TypeVar("T")


class Verdict(Enum):
    """The three answers of gossipsub's extended validators."""

    ACCEPT = "accept"
    IGNORE = "ignore"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Checked(Generic[T]):
    """A verdict, the decoded item where it could be decoded, and the reason.

    A header or block may come with IGNORE: it waits for its parent or its time and is worth keeping.
    """

    verdict: Verdict
    item: T | None = None
    reason: str = ""


def validate_sealed(data: bytes, chain: Chain, announced: Announced, now_ms: int) -> Checked[SealedHeader]:
    """Judge a gossiped sealed header; what is accepted is for the caller to add to `announced`."""
    # REJECT: not a sealed header.
    try:
        sealed = SealedHeader.decode(data)
    except InvalidError as error:
        return Checked(Verdict.REJECT, None, str(error))
    # IGNORE: known already.
    if chain.has(sealed.block_id) or announced.has(sealed):
        return Checked(Verdict.IGNORE, None, "known")
    return _judge_sealed(sealed, chain, announced.count(sealed), now_ms)


def _judge_sealed(sealed: SealedHeader, chain: Chain, passed: int, now_ms: int) -> Checked[SealedHeader]:
    # IGNORE: too many seals of this proposer for this slot.
    if max(passed, chain.sealed_by(sealed.proposer, sealed.timestamp_ms)) >= MAX_SEALS:
        return Checked(Verdict.IGNORE, None, "the proposer sealed this slot more than twice")
    try:
        chain.check_header(sealed, now_ms)
    # IGNORE: early, or the parent is unknown. Worth keeping only if a validator sealed it.
    except (FutureBlock, UnknownParent) as error:
        return Checked(Verdict.IGNORE, sealed if chain.validator_sealed(sealed) else None, str(error))
    # IGNORE: late; it may come from a node that was cut off for long.
    except StaleBlock as error:
        return Checked(Verdict.IGNORE, None, str(error))
    # REJECT: draw, VRF, seal, target, timestamp or state root are wrong.
    except InvalidError as error:
        return Checked(Verdict.REJECT, None, str(error))
    return Checked(Verdict.ACCEPT, sealed)


def validate_block(data: bytes, chain: Chain, now_ms: int) -> Checked[Block]:
    """Judge a whole block where header and body travel together; `Chain.on_block` judges the body."""
    # REJECT: not a block, or bigger than any block of this chain.
    try:
        block = Block.decode(data, min(MAX_BLOCK_BYTES, chain.genesis.params.max_body_bytes + 4096))
    except InvalidError as error:
        return Checked(Verdict.REJECT, None, str(error))
    # IGNORE: known already.
    if chain.has(block.block_id):
        return Checked(Verdict.IGNORE, None, "known")
    checked = _judge_sealed(block.sealed, chain, 0, now_ms)
    # REJECT: the body is not under the header. Cheap, and spares everybody else the bytes.
    if checked.verdict is Verdict.ACCEPT and not block.root_ok():
        return Checked(Verdict.REJECT, None, "the body is not the one under the header's root")
    return Checked(checked.verdict, None if checked.item is None else block, checked.reason)


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


def encode_batch(txs: Sequence[bytes]) -> bytes:
    """The gossip message of several encoded transactions."""
    return pack(tuple(txs))


def validate_txs(data: bytes, pool: Mempool, state: State, slot: int) -> Checked[tuple[Tx, ...]]:
    """Judge a gossiped batch of transactions; ACCEPT means that at least one of them is new in the pool."""
    limit = max(MAX_BATCH_BYTES, state.genesis.params.max_tx_bytes)
    # REJECT: not a batch, an empty one, or too big.
    try:
        parts = items(unpack(data, limit + 3 * MAX_BATCH_TXS), MAX_BATCH_TXS, "batch")
        encoded = [octets_upto(part, limit, "transaction") for part in parts]
    except InvalidError as error:
        return Checked(Verdict.REJECT, None, str(error))
    if len(set(encoded)) != len(encoded) or not encoded:
        return Checked(Verdict.REJECT, None, "a batch is of different transactions, at least one")
    results = []
    for part in encoded:
        results.append(validate_tx(part, pool, state, slot))
        # REJECT: one that no honest node would have taken, let alone passed on.
        if results[-1].verdict is Verdict.REJECT:
            return Checked(Verdict.REJECT, None, results[-1].reason)
    txs = tuple(result.item for result in results if result.item is not None)
    fresh = any(result.verdict is Verdict.ACCEPT for result in results)
    return Checked(Verdict.ACCEPT if fresh else Verdict.IGNORE, txs, "" if fresh else "nothing new")


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


def validate_rating(data: bytes, pool: Mempool, state: State, slot: int) -> Checked[Point]:
    """Judge a gossiped rating item; ACCEPT means that it is in the pool now.

    Args:
        slot: that runs as it comes.
    """
    # REJECT: not a rating item.
    try:
        point = decode_point(data)
    except InvalidError as error:
        return Checked(Verdict.REJECT, None, str(error))
    # IGNORE: known, or of nobody who is a validator here; the signature is not even looked at.
    if pool.ratings.has(point.id) or state.validator(point.signer) is None:
        return Checked(Verdict.IGNORE, point, "known, or not of a validator")
    # REJECT: the signature is wrong in every state.
    if not point.signed_for(state.genesis.chain_id):
        return Checked(Verdict.REJECT, None, "the signature is not the signer's")
    # IGNORE: the window, its draw or the time do not fit what we see; the sender may see something else.
    try:
        pool.ratings.add(point, state, slot)
    except (InvalidRating, PoolFull) as error:
        return Checked(Verdict.IGNORE, point, str(error))
    return Checked(Verdict.ACCEPT, point)


def validate_vote(data: bytes, chain: Chain, now_ms: int) -> Checked[Vote]:
    """Judge a gossiped vote; ACCEPT means that `Chain.on_vote` may take it."""
    # REJECT: not a vote.
    try:
        vote = Vote.decode(data)
    except InvalidError as error:
        return Checked(Verdict.REJECT, None, str(error))
    params = chain.genesis.params
    slot = chain.genesis.slot_at(now_ms + params.skew_ms)
    # IGNORE: known, early by our clock, or too old to be counted.
    if chain.votes.has(vote) or not slot - WINDOW_EPOCHS * params.slots_per_epoch <= vote.slot <= slot:
        return Checked(Verdict.IGNORE, vote, "known, early or old")
    try:
        chain.check_vote(vote, now_ms)
    # IGNORE: no voter here, but perhaps on the sender's branch; the signature is not even looked at.
    except UnknownVoter as error:
        return Checked(Verdict.IGNORE, None, str(error))
    # REJECT: the link or the signature is wrong in every state.
    except InvalidVote as error:
        return Checked(Verdict.REJECT, None, str(error))
    return Checked(Verdict.ACCEPT, vote)
