"""State transition: one block applied to its parent's state. Pure, and the only place where rules meet.

`apply_block` checks everything but the clock, which is the fork choice's: draw, VRF, seal, target,
timestamp, roots, caps, every transaction and record, and the books. Invalid input raises a subclass of
InvalidError and changes nothing, because states are immutable.
"""

from __future__ import annotations

from functools import lru_cache

from chain import governance, jobs, lottery, ratings, rewards, selection, validators, vrf
from chain.draft import Draft
from chain.entries import Account, DatasetEntry, EpochEntry, account_key, epoch_key
from chain.errors import (
    ChainError,
    InvalidBlock,
    InvalidEvidence,
    InvalidRating,
    InvalidRecord,
    InvalidTransaction,
)
from chain.evidence import Evidence
from chain.finality import Finality, apply_votes
from chain.header import SealedHeader
from chain.ledger import Place
from chain.params import ChainParams
from chain.rating import steps, windows
from chain.rating.items import RatingItem
from chain.rating.schedule import border_is_due
from chain.state import State
from chain.training_records import RoundRecord
from chain.transactions import (
    DatasetRecord,
    JobCancel,
    JobClaim,
    JobOpen,
    JobSettle,
    ParamUpdate,
    Register,
    Transfer,
    Tx,
)
from chain.types import Block, Body


def slot_of(state: State, timestamp_ms: int) -> int:
    """The slot of a block's timestamp. Raises InvalidBlock if it is off the grid."""
    since = timestamp_ms - state.genesis.time_ms
    if since % state.genesis.params.slot_ms or since < 0:
        raise InvalidBlock(f"the timestamp {timestamp_ms} is not the start of a slot")
    return since // state.genesis.params.slot_ms


def check_sealed(parent: State, sealed: SealedHeader, *, verify_seals: bool = True) -> bytes:
    """Check a sealed header against its parent's state and return its VRF output (64 bytes).

    With `verify_seals=False` the signature and the VRF proof are believed: for blocks that this node
    checked before and kept in its own database. Raises InvalidBlock.
    """
    genesis, params = parent.genesis, parent.genesis.params
    if sealed.prev != parent.block_id or sealed.height != parent.height + 1:
        raise InvalidBlock("the block does not follow its parent")
    slot = slot_of(parent, sealed.timestamp_ms)
    if slot <= parent.slot:
        raise InvalidBlock(f"slot {slot} is not after the parent's slot {parent.slot}")
    if sealed.rank >= params.ranks:
        raise InvalidBlock(f"rank {sealed.rank} does not exist")
    table = parent.table_at(slot)
    if sealed.header.target != lottery.target(table.total):
        raise InvalidBlock("the target is not that of the weight table")
    if sealed.leaf0.parent_state_root != parent.root():
        raise InvalidBlock("the parent's state root is another one")
    if not sealed.path_ok():
        raise InvalidBlock("leaf 0 is not under the header's root")
    seed = parent.seed_at(slot)
    if selection.rank_of(sealed.proposer, parent, slot, sealed.rank + 1) != sealed.rank:
        raise InvalidBlock(f"the proposer was not drawn for rank {sealed.rank} of slot {slot}")
    alpha = lottery.alpha(genesis.chain_id, slot, seed)
    beta: bytes | None = None
    if not verify_seals:
        beta = vrf.output(sealed.leaf0.vrf_proof)
    else:
        if not sealed.seal_ok(genesis.chain_id):
            raise InvalidBlock("the seal is not the proposer's")
        weight = table.get(sealed.proposer)
        if weight is not None:
            beta = vrf.verify_once(weight.vrf_public, alpha, sealed.leaf0.vrf_proof)
    if beta is None:
        raise InvalidBlock("the VRF proof does not hold")
    return beta


def apply_block(parent: State, block: Block, *, verify_seals: bool = True) -> State:
    """The state after `block`. Raises InvalidBlock."""
    beta = check_sealed(parent, block.sealed, verify_seals=verify_seals)
    return apply_body(parent, block, beta, verify_votes=verify_seals)


def apply_body(parent: State, block: Block, beta: bytes, *, verify_votes: bool = True) -> State:
    """The second half of `apply_block`, for a sealed header whose check returned `beta`."""
    body, sealed, params = block.body, block.sealed, parent.genesis.params
    if not block.root_ok():
        raise InvalidBlock("the body is not the one under the header's root")
    if len(body.encode()) > params.max_body_bytes:
        raise InvalidBlock(f"the body has more than {params.max_body_bytes} bytes")
    if any(n > cap for n, cap in zip(_counts(body), _caps(params), strict=True)):
        raise InvalidBlock("the body has more items than its caps allow")
    if body.rulings != body.ratings[: len(body.rulings)]:
        raise InvalidBlock("rulings come before the other rating items")
    slot = slot_of(parent, sealed.timestamp_ms)
    draft = open_slot(parent, slot)
    _apply_items(draft, body, slot, sealed.height, sealed.proposer)
    finality = apply_votes(
        following(parent, slot), body.votes, slot, parent.table, parent.genesis.chain_id, verify_votes
    )
    rewards.issue(draft, sealed.proposer, body.votes, parent.table)
    state = finish(draft, parent, finality, sealed, slot, beta)
    if not state.supply_ok():
        raise ChainError(f"the books do not add up after {sealed.block_id.hex()[:16]}: {state.supply()}")
    return state


def open_slot(parent: State, slot: int) -> Draft:
    """A draft for a block in `slot`: jobs and rating windows have moved on, ratings and proposals ended.

    Where a window ends all ratings are computed: once, for all who ask until the block comes.
    """
    return _opened_once(parent, slot).copy() if border_is_due(parent, slot) else _opened(parent, slot)


def _opened(parent: State, slot: int) -> Draft:
    draft = Draft(parent)
    ratings.expire(draft)
    windows.advance(draft, slot)
    jobs.advance(draft, slot)
    governance.advance(draft, slot)
    return draft


_opened_once = lru_cache(maxsize=4)(_opened)


def following(parent: State, slot: int) -> Finality:
    """The finality that a block in `slot` begins with: its parent's, with the parent among the ancestors."""
    return parent.finality.after(parent.slot, parent.block_id, slot)


def finish(
    draft: Draft, parent: State, finality: Finality, sealed: SealedHeader, slot: int, beta: bytes
) -> State:
    """Fold in the block's randomness and what it made final, and seal the draft."""
    per_epoch = parent.genesis.params.slots_per_epoch
    entered = slot // per_epoch - parent.epoch
    randomness = parent.randomness.entering(entered)
    if sealed.rank == 0:
        randomness = randomness.folded(beta)
    if finality.epochs > parent.finality.epochs:
        draft.put(epoch_key(finality.epochs), EpochEntry(finality.final_slot))
    tables = parent.tables.closed(parent.epoch, parent.finality.final_slot) if entered else parent.tables
    windows.remember(draft, slot, randomness.mix, finality.final_slot)
    tables = tables.pruned(finality.final_slot, windows.oldest_epoch(draft, finality.final_epoch))
    place = Place(parent.height + 1, slot, parent.weight + (parent.table_at(slot).total >> sealed.rank))
    return draft.seal(sealed.block_id, place, randomness, finality, tables)


def _counts(body: Body) -> tuple[int, ...]:
    sections = (body.txs, body.records, body.votes, body.evidence, body.ratings, body.rulings)
    return tuple(map(len, sections))


def _caps(params: ChainParams) -> tuple[int, ...]:
    ratings = (params.max_rating_items, params.max_rulings)
    return (params.max_user_txs, params.max_round_records, params.max_votes, params.max_evidence, *ratings)


def apply_rating(draft: Draft, item: RatingItem, slot: int) -> None:
    """Apply one item of the rating section, wholly or not at all. Raises InvalidRating."""
    trial = Draft(draft)
    steps.apply(trial, item, slot)
    trial.commit()


def apply_record(draft: Draft, record: RoundRecord) -> None:
    """Apply one round record, wholly or not at all. Raises InvalidRecord."""
    trial = Draft(draft)
    jobs.apply_record(trial, record)
    trial.commit()


def apply_evidence(draft: Draft, evidence: Evidence, slot: int, proposer: bytes) -> None:
    """Apply one piece of evidence, wholly or not at all. Raises InvalidEvidence."""
    trial = Draft(draft)
    validators.convict(trial, evidence, slot, proposer)
    trial.commit()


def check_tx_alone(draft: Draft | State, tx: Tx, slot: int) -> None:
    """What needs no account: chain, size, expiry, fee, signature. Raises InvalidTransaction."""
    params = draft.genesis.params
    if tx.chain_id != draft.genesis.chain_id:
        raise InvalidTransaction("the transaction is for another chain")
    if len(tx.encoded) > params.max_tx_bytes:
        raise InvalidTransaction(f"the transaction has more than {params.max_tx_bytes} bytes")
    if slot > tx.valid_until_slot:
        raise InvalidTransaction(f"the transaction expired after slot {tx.valid_until_slot}")
    if tx.fee < params.min_fee:
        raise InvalidTransaction(f"the fee of {tx.fee} is below the minimum of {params.min_fee}")
    if not tx.signature_ok:
        raise InvalidTransaction("the signature does not hold")


def apply_tx(draft: Draft, tx: Tx, slot: int, height: int, proposer: bytes) -> None:
    """Apply one transaction to the draft, wholly or not at all. Raises InvalidTransaction."""
    check_tx_alone(draft, tx, slot)
    account = draft.account(tx.sender)
    if tx.nonce != account.nonce:
        raise InvalidTransaction(f"the nonce is {tx.nonce}, the account's next is {account.nonce}")
    trial = Draft(draft)
    trial.put(account_key(tx.sender), Account(account.balance, account.nonce + 1))
    rewards.release(trial, tx.sender)
    # A trainer who owns nothing yet pays the fee of a claim out of what the claim brings.
    fee_last = isinstance(tx.payload, JobClaim)
    if not fee_last:
        trial.debit(tx.sender, tx.fee, "the fee")
    _apply_payload(trial, tx, slot, height)
    if fee_last:
        trial.debit(tx.sender, tx.fee, "the fee")
    trial.credit(proposer, tx.fee)
    trial.commit()


def check_tx(state: State, tx: Tx, slot: int) -> None:
    """Whether `tx` could be the next transaction after `state`. Raises InvalidTransaction."""
    apply_tx(open_slot(state, slot), tx, slot, state.height + 1, tx.sender)


def _apply_items(draft: Draft, body: Body, slot: int, height: int, proposer: bytes) -> None:
    for index, evidence in enumerate(body.evidence):
        try:
            apply_evidence(draft, evidence, slot, proposer)
        except InvalidEvidence as error:
            raise InvalidBlock(f"evidence {index}: {error}") from None
    for index, item in enumerate(body.ratings):
        try:
            apply_rating(draft, item, slot)
        except InvalidRating as error:
            raise InvalidBlock(f"rating item {index}: {error}") from None
    for index, record in enumerate(body.records):
        try:
            apply_record(draft, record)
        except InvalidRecord as error:
            raise InvalidBlock(f"round record {index}: {error}") from None
    for index, tx in enumerate(body.txs):
        try:
            apply_tx(draft, tx, slot, height, proposer)
        except InvalidTransaction as error:
            raise InvalidBlock(f"transaction {index}: {error}") from None


def _apply_payload(draft: Draft, tx: Tx, slot: int, height: int) -> None:
    payload = tx.payload
    match payload:
        case Transfer():
            draft.debit(tx.sender, payload.amount, "the transfer")
            draft.credit(payload.to, payload.amount)
        case Register():
            validators.register(draft, slot, tx, payload)
        case DatasetRecord():
            _announce(draft, tx.sender, payload, height)
        case JobOpen():
            jobs.open_job(draft, slot, tx.id, tx.sender, payload)
        case JobSettle():
            jobs.settle(draft, slot, tx.sender, payload)
        case JobClaim():
            jobs.claim(draft, payload)
        case JobCancel():
            jobs.cancel(draft, slot, tx.sender, payload)
        case ParamUpdate():
            governance.update(draft, slot, tx, payload)


def _announce(draft: Draft, owner: bytes, payload: DatasetRecord, height: int) -> None:
    if draft.dataset(payload.infohash) is not None:
        raise InvalidTransaction("a dataset with this infohash is announced already")
    if draft.dataset_by_name(payload.name) is not None:
        raise InvalidTransaction(f"the name {payload.name!r} is taken")
    draft.put_dataset(
        DatasetEntry(
            payload.name, payload.infohash, payload.size, payload.licence, payload.public, owner, height
        )
    )
