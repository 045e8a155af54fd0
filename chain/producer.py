"""Making a block. Every drawn slot gets one, whether or not anything waits to be included.

A proposer must have written down that it seals a slot before the block leaves the node: two seals for
one slot are equivocation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from chain import lottery, merkle, vrf
from chain.crypto import Keypair
from chain.errors import ChainError, InvalidRecord, InvalidTransaction
from chain.forkchoice import Chain
from chain.state import Draft, State
from chain.training_records import RoundRecord
from chain.transactions import Tx
from chain.transition import apply_record, apply_tx, open_slot, seal_message
from chain.types import Block, Body, Header, Leaf0, SealedHeader

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
    rank = lottery.rank_of(
        keypair.public, state.seed_at(slot), slot, state.genesis.params.ranks, state.weights
    )
    return () if rank is None else (rank,)


def build_block(
    chain: Chain,
    slot: int,
    rank: int,
    keys: ProposerKeys,
    txs: Iterable[Tx] = (),
    records: Iterable[RoundRecord] = (),
    parent: bytes | None = None,
) -> Block:
    """A sealed block for `slot`, on the head or on `parent`.

    Records and transactions that do not apply, or no longer fit, are left out.
    Raises ChainError if the key was not drawn for that rank or the slot is not after the parent's.
    """
    state = chain.state(parent)
    if slot <= state.slot:
        raise ChainError(f"slot {slot} is not after the parent's slot {state.slot}")
    if ranks_for(slot, keys.keypair, state) != (rank,):
        raise ChainError(f"this key was not drawn for rank {rank} of slot {slot}")
    return seal(state, slot, rank, keys, _fill(state, slot, keys.public, txs, records))


def seal(state: State, slot: int, rank: int, keys: ProposerKeys, body: Body) -> Block:
    """A block with just this body after `state`; nothing is checked."""
    genesis = state.genesis
    alpha = lottery.alpha(genesis.chain_id, slot, state.seed_at(slot))
    leaf0 = Leaf0(state.height + 1, keys.public, rank, vrf.prove(keys.vrf_seed, alpha), state.root())
    leaves = body.leaves(leaf0)
    header = Header(
        prev=state.block_id,
        timestamp_ms=genesis.slot_start_ms(slot),
        target=lottery.target(state.weights.total),
        merkle_root=merkle.root(leaves),
    )
    signature = keys.keypair.sign(seal_message(genesis.chain_id, header.block_id))
    return Block(SealedHeader(header, leaf0, merkle.path(leaves, 0), signature), body)


def _fill(
    state: State, slot: int, proposer: bytes, txs: Iterable[Tx], records: Iterable[RoundRecord]
) -> Body:
    params = state.genesis.params
    draft = open_slot(state, slot)
    room = params.max_body_bytes - _ENVELOPE
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
    return Body(txs=tuple(kept), records=tuple(kept_records))


def _applies(draft: Draft, record: RoundRecord) -> bool:
    try:
        apply_record(draft, record)
    except InvalidRecord:
        return False
    return True
