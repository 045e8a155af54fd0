"""The chain's objects as the records of `p2pml.node.views`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chain import address
from chain.quality import Baseline
from chain.state import State
from chain.training_records import RoundRecord, SettledReceipt
from chain.transactions import (
    DatasetRecord,
    JobCancel,
    JobClaim,
    JobOpen,
    JobSettle,
    ParamUpdate,
    Payload,
    Register,
    Transfer,
    Tx,
)
from chain.types import Block
from p2pml.node import views

PriceOf = Callable[[bytes], int]
"""The price of a job in base units per sample, by its 32-byte id; 0 for an unknown one."""


def transaction_view(
    tx: Tx, price_of: PriceOf, height: int | None = None, block_id: bytes | None = None
) -> views.TransactionView:
    """A transaction; with the block that holds it, if one does."""
    return views.TransactionView(
        id=tx.id.hex(),
        type=tx.type.name.lower(),
        sender=address.encode(tx.sender),
        nonce=tx.nonce,
        fee=tx.fee,
        valid_until_slot=tx.valid_until_slot,
        payload=payload_view(tx.payload, price_of),
        height=height,
        block=None if block_id is None else block_id.hex(),
    )


def payload_view(payload: Payload, price_of: PriceOf) -> dict[str, Any]:
    """What a transaction does, as JSON; receipts without their signatures and paths.

    A receipt's `amount` is its samples at the job's price; the escrow pays it as far as it reaches.
    """
    match payload:
        case Transfer():
            return {"to": address.encode(payload.to), "amount": payload.amount, "memo": payload.memo}
        case Register():
            return {
                "account": address.encode(payload.account),
                "vrf_public": payload.vrf_public.hex(),
                "name": payload.name,
                "bond": payload.bond,
            }
        case DatasetRecord():
            return {
                "name": payload.name,
                "infohash": payload.infohash.hex(),
                "size": payload.size,
                "licence": payload.licence,
                "public": payload.public,
            }
        case JobOpen():
            return {
                "dataset": payload.dataset.hex(),
                "model_hash": payload.model_hash.hex(),
                "rounds": payload.rounds,
                "price": payload.price,
                "budget": payload.budget,
                "deadline_slot": payload.deadline_slot,
                "mode": payload.mode,
            }
        case JobSettle():
            return {
                "job": payload.job.hex(),
                "final": payload.final,
                "receipts": _receipts(payload.receipts, price_of(payload.job)),
            }
        case JobClaim():
            return {"job": payload.job.hex(), "receipts": _receipts(payload.receipts, price_of(payload.job))}
        case JobCancel():
            return {"job": payload.job.hex()}
        case ParamUpdate(change=bytes(proposal)):
            return {"proposal": proposal.hex()}
        case ParamUpdate(change=Baseline() as wanted):
            return {"infohash": wanted.infohash.hex(), "q_min": wanted.q_min, "q_ref": wanted.q_ref}
    raise AssertionError(f"unexpected payload {payload!r}")


def block_view(block: Block, state: State, price_of: PriceOf, final: bool) -> views.BlockView:
    """A block with everything in it.

    Args:
        state: after the head: validators have the names that they have now.
        final: whether the block can never be reverted.
    """
    sealed = block.sealed
    proposer = state.validator(sealed.proposer)
    return views.BlockView(
        id=block.block_id.hex(),
        height=block.height,
        slot=state.genesis.slot_at(sealed.timestamp_ms),
        timestamp_ms=sealed.timestamp_ms,
        previous=block.prev.hex(),
        proposer=address.encode(sealed.proposer),
        proposer_name="" if proposer is None else proposer.name,
        rank=sealed.rank,
        target=f"{sealed.header.target:064x}",
        state_root=sealed.leaf0.parent_state_root.hex(),
        transactions=[transaction_view(tx, price_of, block.height, block.block_id) for tx in block.body.txs],
        rounds=[_round(record) for record in block.body.records],
        votes=len(block.body.votes),
        voters=sorted({address.encode(vote.voter) for vote in block.body.votes}),
        final=final,
    )


def validator_views(state: State) -> list[views.ValidatorView]:
    """All validators, the heaviest in the weight table of the head's epoch first; takes time in proportion to
    the whole state.
    """
    table = state.table_at(state.slot)
    weights = {entry.public: entry.rating for entry in table.entries}
    known = sorted(state.validators(), key=lambda entry: (-weights.get(entry.public, 0), entry.public))
    return [
        views.ValidatorView(
            address=address.encode(entry.public),
            name=entry.name,
            rating=(rating := weights.get(entry.public, 0)),
            share=rating / table.total,
            bond=entry.bond,
            vesting=state.vesting(entry.public).held,
            barred_epochs=max(entry.barred_until - state.finality.epochs, 0),
            expires_epochs=max(entry.rated_until - state.finality.epochs, 0) if entry.expires else 0,
            selection=state.genesis.params.selection,
        )
        for entry in known
    ]


def supply_view(state: State) -> views.SupplyView:
    """The books."""
    supply = state.supply()
    return views.SupplyView(
        genesis=supply.genesis,
        issued=supply.issued,
        burned=supply.burned,
        balances=supply.balances,
        escrow=supply.escrow,
        bonds=supply.bonds,
        vesting=supply.vesting,
        adds_up=supply.ok,
    )


def _receipts(receipts: Sequence[SettledReceipt], price: int) -> list[dict[str, Any]]:
    commitments = [settled.receipt.commitment for settled in receipts]
    return [
        {
            "round": item.round,
            "client": item.client,
            "trainer": address.encode(item.trainer),
            "samples": item.samples,
            "amount": item.samples * price,
        }
        for item in commitments
    ]


def _round(record: RoundRecord) -> views.RoundView:
    return views.RoundView(
        job=record.job.hex(),
        round=record.round,
        samples=record.samples,
        receipts=record.receipts_count,
        accuracy_ppm=record.accuracy_ppm,
        loss_ppm=record.loss_ppm,
        model_in=record.model_in.hex(),
        model_out=record.model_out.hex(),
    )
