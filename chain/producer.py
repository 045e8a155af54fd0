"""Making a block. Whether a drawn slot should get one is for `chain.idle` to say.

A proposer must have written down that it seals a slot before the block leaves the node: two seals for
one slot are equivocation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from chain import lottery, merkle, selection, vrf
from chain.crypto import Keypair
from chain.draft import Draft
from chain.errors import (
    ChainError,
    InvalidEvidence,
    InvalidRating,
    InvalidRecord,
    InvalidTransaction,
    InvalidVote,
)
from chain.evidence import Evidence
from chain.finality import Finality
from chain.forkchoice import Chain
from chain.header import Header, Leaf0, SealedHeader, seal_message
from chain.mempool import NOBODY
from chain.rating.items import RatingItem, Ruling
from chain.state import State
from chain.training_records import RoundRecord
from chain.transactions import Tx
from chain.transition import apply_evidence, apply_rating, apply_record, apply_tx, following, open_slot
from chain.types import Block, Body
from chain.votes import Vote

_ENVELOPE = 64
"""Bytes of the body's own array headers, rounded up."""


@dataclass(frozen=True, slots=True)
class ProposerKeys:
    """A validator's two keys: Ed25519 for the seal, VRF for the randomness."""

    keypair: Keypair
    vrf_seed: bytes = field(repr=False)

    @classmethod
    def from_seeds(cls, seed: bytes, vrf_seed: bytes) -> ProposerKeys:
        """From two 32-byte seeds. Raises ChainError on another length."""
        vrf.public_key(vrf_seed)
        return cls(Keypair.from_seed(seed), vrf_seed)

    @property
    def public(self) -> bytes:
        """32-byte account."""
        return self.keypair.public

    @property
    def vrf_public(self) -> bytes:
        """32-byte VRF key."""
        return vrf.public_key(self.vrf_seed)


def ranks_for(slot: int, keypair: Keypair, state: State) -> tuple[int, ...]:
    """The ranks in which a key may propose a block in `slot` after `state`: none, or its lowest one."""
    rank = selection.rank_of(keypair.public, state, slot, state.genesis.params.ranks)
    return () if rank is None else (rank,)


def build_block(
    chain: Chain,
    slot: int,
    rank: int,
    keys: ProposerKeys,
    txs: Iterable[Tx] = (),
    records: Iterable[RoundRecord] = (),
    parent: bytes | None = None,
    ratings: Iterable[RatingItem] = (),
) -> Block:
    """A sealed block for `slot`, on the head or on `parent`, with all votes that its branch has not counted
    and all evidence that is known and that it has not punished.

    Rating items, records and transactions that do not apply, or no longer fit, are left out.
    Raises ChainError if the key was not drawn for that rank or the slot is not after the parent's.
    """
    state = chain.state(parent)
    if slot <= state.slot:
        raise ChainError(f"slot {slot} is not after the parent's slot {state.slot}")
    if ranks_for(slot, keys.keypair, state) != (rank,):
        raise ChainError(f"this key was not drawn for rank {rank} of slot {slot}")
    votes = choose_votes(state, slot, chain.votes)
    body = _fill(state, slot, keys.public, chain.evidence(), ratings, txs, records, votes)
    return seal(state, slot, rank, keys, body)


def choose_votes(state: State, slot: int, known: Iterable[Vote]) -> tuple[Vote, ...]:
    """The votes that a block of `slot` after `state` can hold, the newest first if there are too many."""
    finality = following(state, slot)
    newest = sorted(known, key=lambda vote: (-vote.slot, vote.voter, vote.encoded))
    fitting = [vote for vote in newest if _counts(finality, vote, slot, state)]
    chosen: list[Vote] = []
    for vote in reversed(fitting[: state.genesis.params.max_votes]):
        if _counts(finality, vote, slot, state):
            finality = finality.counted(vote, state.table)
            chosen.append(vote)
    return tuple(chosen)


def punishes(state: State, slot: int, known: Iterable[Evidence]) -> bool:
    """Whether a block of `slot` after `state` could hold any of this evidence."""
    return bool(_convicting(open_slot(state, slot), known, slot, NOBODY))


def _counts(finality: Finality, vote: Vote, slot: int, state: State) -> bool:
    try:
        finality.check(vote, slot, state.table)
    except InvalidVote:
        return False
    return True


def seal(state: State, slot: int, rank: int, keys: ProposerKeys, body: Body) -> Block:
    """A block with just this body after `state`; nothing is checked."""
    genesis = state.genesis
    alpha = lottery.alpha(genesis.chain_id, slot, state.seed_at(slot))
    leaf0 = Leaf0(state.height + 1, keys.public, rank, vrf.prove(keys.vrf_seed, alpha), state.root())
    leaves = body.leaves(leaf0)
    header = Header(
        prev=state.block_id,
        timestamp_ms=genesis.slot_start_ms(slot),
        target=lottery.target(state.table_at(slot).total),
        merkle_root=merkle.root(leaves),
    )
    signature = keys.keypair.sign(seal_message(genesis.chain_id, header.block_id))
    return Block(SealedHeader(header, leaf0, merkle.path(leaves, 0), signature), body)


def _fill(
    state: State,
    slot: int,
    proposer: bytes,
    evidence: Iterable[Evidence],
    ratings: Iterable[RatingItem],
    txs: Iterable[Tx],
    records: Iterable[RoundRecord],
    votes: tuple[Vote, ...],
) -> Body:
    params = state.genesis.params
    draft = open_slot(state, slot)
    convicting = _convicting(draft, evidence, slot, proposer)
    room = params.max_body_bytes - _ENVELOPE - sum(len(item.encoded) for item in (*votes, *convicting))
    kept_ratings, room = _rated(draft, ratings, slot, room)
    kept_records: list[RoundRecord] = []
    for record in records:
        size = len(record.encode())
        if len(kept_records) < params.max_round_records and size <= room and _applies(draft, record):
            kept_records.append(record)
            room -= size
    kept: list[Tx] = []
    for tx in txs:
        size = len(tx.encoded)
        if len(kept) == params.max_user_txs or size > room:
            continue
        try:
            apply_tx(draft, tx, slot, state.height + 1, proposer)
        except InvalidTransaction:
            continue
        kept.append(tx)
        room -= size
    return Body(tuple(kept), kept_ratings, tuple(kept_records), votes, convicting)


def _rated(
    draft: Draft, items: Iterable[RatingItem], slot: int, room: int
) -> tuple[tuple[RatingItem, ...], int]:
    """Apply the rating items that hold and fit, rulings first; also the bytes that are left."""
    params = draft.genesis.params
    kept: list[RatingItem] = []
    rulings = 0
    for item in sorted(items, key=lambda item: not isinstance(item, Ruling)):
        ruling, size = isinstance(item, Ruling), len(item.encoded)
        full = len(kept) == params.max_rating_items or (ruling and rulings == params.max_rulings)
        if full or size > room:
            continue
        try:
            apply_rating(draft, item, slot)
        except InvalidRating:
            continue
        kept.append(item)
        rulings += ruling
        room -= size
    return tuple(kept), room


def _convicting(draft: Draft, known: Iterable[Evidence], slot: int, proposer: bytes) -> tuple[Evidence, ...]:
    """Apply what holds on this branch."""
    found: list[Evidence] = []
    for evidence in known:
        if len(found) == draft.genesis.params.max_evidence:
            break
        try:
            apply_evidence(draft, evidence, slot, proposer)
        except InvalidEvidence:
            continue
        found.append(evidence)
    return tuple(found)


def _applies(draft: Draft, record: RoundRecord) -> bool:
    try:
        apply_record(draft, record)
    except InvalidRecord:
        return False
    return True
