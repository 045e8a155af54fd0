"""One block on its parent's state: what is right is applied, what is wrong leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chain import lottery, vrf
from chain.crypto import Keypair
from chain.draft import Draft
from chain.errors import ChainError, InvalidBlock, InvalidTransaction
from chain.ledger import Place
from chain.params import DEMO, TOKEN
from chain.producer import build_block
from chain.state import genesis_state
from chain.training_records import Commitment, Receipt, SettledReceipt
from chain.transactions import DatasetRecord, JobCancel, JobClaim, Transfer, Tx, sign_tx
from chain.transition import apply_block, apply_tx, check_tx, open_slot
from chain.types import Block, Body

FEE = TOKEN // 10
REWARD = TOKEN * 40 // 100


def forge(world: Any, body: Body, slot: int | None = None) -> Block:
    """A well-sealed block with any body."""
    return world.reseal(world.build(slot=slot), body=body)


def refused(world: Any, block: Block, reason: str) -> None:
    before = world.state
    root, accounts = before.root(), before.accounts()
    with pytest.raises(InvalidBlock, match=reason):
        apply_block(before, block)
    assert before.root() == root
    assert before.accounts() == accounts


def test_transfer_fee_and_reward(world: Any) -> None:
    alice, bob = world.users[0].public, world.users[1].public
    block = world.mine(world.transfer(0, 1, 7 * TOKEN))
    assert world.balance(alice) == 993 * TOKEN - FEE
    assert world.balance(bob) == 1007 * TOKEN
    assert world.balance(block.sealed.proposer) == FEE
    assert world.state.vesting(block.sealed.proposer).held == REWARD
    assert world.state.account(alice).nonce == 1
    supply = world.state.supply()
    assert (supply.issued, supply.burned, supply.escrow) == (REWARD, 0, 0)
    assert supply.ok
    assert supply.balances == sum(account.balance for account in world.state.accounts().values())


def test_block_carries_the_proof_of_everything(world: Any) -> None:
    world.mine()
    before = world.state
    block = world.mine(world.transfer(0, 1, 5))
    sealed = block.sealed
    slot = world.state.slot
    assert sealed.header.target == 2**256 // 30
    assert sealed.leaf0.parent_state_root == before.root()
    assert sealed.timestamp_ms == world.genesis.slot_start_ms(slot)
    weight = before.table_at(slot).get(sealed.proposer)
    alpha = lottery.alpha(world.genesis.chain_id, slot, before.seed_at(slot))
    assert vrf.verify(weight.vrf_public, alpha, sealed.leaf0.vrf_proof)
    assert world.state.root() != before.root()


def bad_timestamp(world: Any, block: Block) -> Block:
    return world.reseal(block, header={"timestamp_ms": block.sealed.timestamp_ms + 1})


def before_start(world: Any, block: Block) -> Block:
    return world.reseal(block, header={"timestamp_ms": world.genesis.time_ms - 2000})


def slot_zero(world: Any, block: Block) -> Block:
    return world.reseal(block, header={"timestamp_ms": world.genesis.time_ms})


def other_slot(world: Any, block: Block) -> Block:
    """A slot in which this proposer was not drawn."""
    slot = next(
        s for s in range(world.state.slot + 1, 999) if world.drawn(s).public != block.sealed.proposer
    )  # fmt: skip
    return world.reseal(block, header={"timestamp_ms": world.genesis.slot_start_ms(slot)})


def wrong_target(world: Any, block: Block) -> Block:
    return world.reseal(block, header={"target": block.sealed.header.target + 1})


def wrong_height(world: Any, block: Block) -> Block:
    return world.reseal(block, leaf0={"height": block.height + 1})


def wrong_prev(world: Any, block: Block) -> Block:
    return world.reseal(block, header={"prev": bytes(32)})


def wrong_root(world: Any, block: Block) -> Block:
    return world.reseal(block, leaf0={"parent_state_root": bytes(32)})


def rank_too_high(world: Any, block: Block) -> Block:
    return world.reseal(block, leaf0={"rank": 3})


def not_my_rank(world: Any, block: Block) -> Block:
    return world.reseal(block, leaf0={"rank": 1})


def another_proposer(world: Any, block: Block) -> Block:
    other = next(keys for keys in world.validators if keys.public != block.sealed.proposer)
    return world.reseal(block, leaf0={"proposer": other.public})


def stranger(world: Any, block: Block) -> Block:
    return world.reseal(block, leaf0={"proposer": world.users[0].public}, by=world.validators[0])


def seal_of_another(world: Any, block: Block) -> Block:
    other = next(keys for keys in world.validators if keys.public != block.sealed.proposer)
    return world.reseal(block, by=other)


def bent_proof(world: Any, block: Block) -> Block:
    proof = bytearray(block.sealed.leaf0.vrf_proof)
    proof[40] ^= 1
    return world.reseal(block, leaf0={"vrf_proof": bytes(proof)})


def proof_of_another_slot(world: Any, block: Block) -> Block:
    keys = world.by_public[block.sealed.proposer]
    return world.reseal(block, leaf0={"vrf_proof": vrf.prove(keys.vrf_seed, b"x")})


def bent_path(world: Any, block: Block) -> Block:
    sealed = block.sealed
    return Block(replace(sealed, path=(bytes(32), *sealed.path[1:])), block.body)


def short_path(world: Any, block: Block) -> Block:
    return Block(replace(block.sealed, path=block.sealed.path[:-1]), block.body)


def poisoned_body(world: Any, block: Block) -> Block:
    return Block(block.sealed, Body(txs=(world.transfer(0, 1, 5),)))


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (bad_timestamp, "not the start of a slot"),
        (before_start, "not the start of a slot"),
        (slot_zero, "not after the parent's slot"),
        (other_slot, "not drawn"),
        (wrong_target, "target"),
        (wrong_height, "does not follow"),
        (wrong_prev, "does not follow"),
        (wrong_root, "state root"),
        (rank_too_high, "rank 3 does not exist"),
        (not_my_rank, "not drawn"),
        (another_proposer, "not drawn"),
        (stranger, "not drawn"),
        (seal_of_another, "seal"),
        (bent_proof, "VRF"),
        (proof_of_another_slot, "VRF"),
        (bent_path, "leaf 0"),
        (short_path, "leaf 0"),
        (poisoned_body, "body is not the one"),
    ],
)
def test_forged_headers(world: Any, break_it: Callable[[Any, Block], Block], reason: str) -> None:
    world.mine(world.transfer(0, 1, 5))
    good = world.build()
    refused(world, break_it(world, good), reason)
    apply_block(world.state, good)


def test_trusted_replay_skips_seals_but_nothing_else(world: Any) -> None:
    good = world.build()
    unsigned = Block(replace(good.sealed, seal=bytes(64)), good.body)
    refused(world, unsigned, "seal")
    assert (
        apply_block(world.state, unsigned, verify_seals=False).root() == apply_block(world.state, good).root()
    )
    with pytest.raises(InvalidBlock, match="state root"):
        apply_block(world.state, wrong_root(world, good), verify_seals=False)
    no_point = world.reseal(good, leaf0={"vrf_proof": b"\xff" * 80})
    with pytest.raises(InvalidBlock, match="VRF"):
        apply_block(world.state, no_point, verify_seals=False)


def test_duplicate_last_leaf_makes_another_block(world: Any) -> None:
    one, two, three = (world.transfer(i, (i + 1) % 3, 5) for i in range(3))
    block = world.build([one, two, three])
    assert block.root_ok()
    doubled = Block(block.sealed, Body(txs=(*block.body.txs, block.body.txs[-1])))
    assert not doubled.root_ok()
    refused(world, doubled, "body is not the one")


def test_six_transactions_are_too_many(world: Any) -> None:
    txs = tuple(world.transfer(0, 1, 5, nonce=nonce) for nonce in range(6))
    refused(world, forge(world, Body(txs=txs)), "caps")
    block = world.build(txs)
    assert len(block.body.txs) == 5


def test_body_over_its_byte_limit(make_world: Any) -> None:
    small = make_world(params=replace(DEMO, max_body_bytes=16 * 1024, max_user_txs=500))
    txs = tuple(small.transfer(0, 1, 5, nonce=nonce) for nonce in range(100))
    refused(small, forge(small, Body(txs=txs)), "bytes")
    block = small.build(txs)
    assert 10 < len(block.body.txs) < 100
    assert len(block.body.encode()) <= 16 * 1024
    apply_block(small.state, block)


def spent_twice(world: Any) -> list[Tx]:
    return [
        world.transfer(0, 1, 600 * TOKEN, nonce=1),
        world.transfer(0, 2, 600 * TOKEN, nonce=2),
    ]  # fmt: skip


def nonce_reused(world: Any) -> list[Tx]:
    return [world.transfer(0, 1, 5, nonce=1), world.transfer(0, 2, 5, nonce=1)]


def nonce_gap(world: Any) -> list[Tx]:
    return [world.transfer(0, 1, 5, nonce=2)]


def replayed(world: Any) -> list[Tx]:
    return [world.chain.block(world.chain.head.id).body.txs[0]]


def expired(world: Any) -> list[Tx]:
    return [world.transfer(0, 1, 5, until=world.state.slot)]


def too_cheap(world: Any) -> list[Tx]:
    return [world.transfer(0, 1, 5, fee=FEE - 1)]


def other_chain(world: Any) -> list[Tx]:
    payload = Transfer(world.users[1].public, 5)
    return [sign_tx(world.users[0], bytes(32), payload, nonce=1, valid_until_slot=2**40, fee=FEE)]


def stolen(world: Any) -> list[Tx]:
    return [replace(world.transfer(0, 1, 5), sender=world.users[2].public, nonce=0)]


def changed_amount(world: Any) -> list[Tx]:
    tx = world.transfer(0, 1, 5)
    return [replace(tx, payload=replace(tx.payload, amount=500))]


def fee_not_covered(world: Any) -> list[Tx]:
    return [world.transfer(0, 1, 1000 * TOKEN - 2 * FEE, nonce=1)]


def penniless(world: Any) -> list[Tx]:
    return [world.tx(Keypair.from_seed(b"p" * 32), Transfer(world.users[0].public, 1))]


def no_such_job(world: Any) -> list[Tx]:
    return [world.tx(world.users[0], JobCancel(bytes(32)))]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (spent_twice, "transaction 1: the transfer of"),
        (nonce_reused, "nonce is 1, the account's next is 2"),
        (nonce_gap, "nonce is 2, the account's next is 1"),
        (replayed, "nonce is 0, the account's next is 1"),
        (expired, "expired"),
        (too_cheap, "below the minimum"),
        (other_chain, "another chain"),
        (stolen, "signature"),
        (changed_amount, "signature"),
        (fee_not_covered, "more than the balance"),
        (penniless, "the fee of"),
        (no_such_job, "no job"),
    ],
)
def test_bad_transactions_spoil_their_block(world: Any, make: Callable[[Any], list[Tx]], reason: str) -> None:
    world.mine(world.transfer(0, 1, 5))
    txs = make(world)
    refused(world, forge(world, Body(txs=tuple(txs))), reason)
    fine = world.transfer(2, 1, 5)
    block = world.build([*txs, fine])
    assert fine in block.body.txs  # the producer leaves the bad ones out
    assert len(block.body.txs) <= 2
    apply_block(world.state, block)


def test_failed_transaction_leaves_the_draft_untouched(world: Any) -> None:
    draft = open_slot(world.state, 1)
    with pytest.raises(InvalidTransaction):
        apply_tx(draft, world.transfer(0, 1, 1000 * TOKEN), 1, 1, bytes(32))
    for user in world.users:
        assert draft.account(user.public) == world.state.account(user.public)
    assert draft.books.balances == world.state.books.balances


def test_oversized_transaction(make_world: Any) -> None:
    world = make_world(params=replace(DEMO, max_tx_bytes=1024))
    record = DatasetRecord("d", b"h" * 20, 5, "", True)
    check_tx(world.state, world.tx(world.users[0], record), 1)
    zero = bytes(32)
    receipt = Receipt(Commitment(zero, zero, 0, 0, zero, 1, zero, zero), bytes(64), bytes(64))
    big = world.tx(world.users[0], JobClaim(zero, (SettledReceipt(receipt),) * 4))
    with pytest.raises(InvalidTransaction, match="more than 1024 bytes"):
        check_tx(world.state, big, 1)


def test_transfer_to_oneself_and_to_the_proposer(world: Any) -> None:
    block = world.mine(world.transfer(0, 0, 5 * TOKEN))
    assert world.balance(world.users[0].public) == 1000 * TOKEN - FEE
    proposer = block.sealed.proposer
    before = world.balance(proposer)
    tx = world.tx(world.users[1], Transfer(proposer, 3))
    block = world.mine(tx)
    paid = before + 3 + (FEE if block.sealed.proposer == proposer else 0)
    assert world.balance(proposer) == paid


def test_datasets_are_first_come_first_served(world: Any) -> None:
    first = DatasetRecord("mnist", b"h" * 20, 11_490_434, "CC-BY-SA-3.0", True)
    world.mine(world.tx(world.users[0], first))
    entry = world.state.dataset_by_name("mnist")
    assert entry == world.state.dataset(b"h" * 20)
    assert (entry.owner, entry.height, entry.size) == (world.users[0].public, 1, 11_490_434)
    assert world.state.datasets() == (entry,)
    for again in (replace(first, infohash=b"i" * 20), replace(first, name="other")):
        with pytest.raises(InvalidTransaction):
            check_tx(world.state, world.tx(world.users[1], again), 5)


@pytest.mark.parametrize(
    "payload",
    [
        DatasetRecord("../etc/passwd", b"h" * 20, 1, "", True),
        DatasetRecord("", b"h" * 20, 1, "", True),
        DatasetRecord("a\n", b"h" * 20, 1, "", True),
        DatasetRecord("a", b"", 1, "", True),
        DatasetRecord("a", b"h" * 33, 1, "", True),
        Transfer(bytes(31), 5),
        Transfer(bytes(32), 0),
        Transfer(bytes(32), -5),
        Transfer(bytes(32), 5, "ä" * 33),
    ],
)
def test_senseless_payloads_cannot_even_be_signed(world: Any, payload: Any) -> None:
    with pytest.raises(ChainError) as caught:
        world.tx(world.users[0], payload)
    assert type(caught.value) is ChainError


def test_state_root_does_not_depend_on_the_path(world: Any, make_world: Any) -> None:
    """Two nodes, one that squashed its layers and one that replayed: the same roots."""
    for index in range(70):
        world.mine(*([world.transfer(0, 1, 5)] if index % 3 == 0 else []))
    state = genesis_state(world.genesis)
    for block in reversed(list(world.chain.ancestors(world.chain.head.id))):
        state = apply_block(state, Block.decode(block.encode()), verify_seals=False)
    assert state.root() == world.state.root()
    assert state.accounts() == world.state.accounts()
    assert state.supply_ok()
    assert state.supply().balances == sum(account.balance for account in state.accounts().values())
    assert state.account(world.users[0].public).nonce == 24
    assert world.chain.state(world.chain.canonical_id(3)).account(world.users[0].public).nonce == 1


def test_producer_refuses_slots_and_ranks_that_are_not_its_own(world: Any) -> None:
    block = world.mine()
    keys = world.by_public[block.sealed.proposer]
    with pytest.raises(ChainError, match="not after"):
        build_block(world.chain, world.state.slot, 0, keys)
    slot = next(s for s in range(world.state.slot + 1, 999) if world.drawn(s).public != keys.public)
    with pytest.raises(ChainError, match="not drawn"):
        build_block(world.chain, slot, 0, keys)


def test_drafts_nest_only_as_meant(world: Any) -> None:
    draft = Draft(world.state)
    with pytest.raises(ChainError):
        draft.commit()
    state = world.state
    with pytest.raises(ChainError):
        Draft(draft).seal(bytes(32), Place(1, 1, 0), state.randomness, state.finality, state.tables)


def test_states_share_what_their_blocks_did_not_change(world: Any) -> None:
    """Thousands of states are kept while nothing becomes final: each must hold only what it changed."""
    before = world.state
    world.mine(world.transfer(0, 1, 5))

    def parts(node: Any) -> list[Any]:
        below = getattr(node, "children", ())
        return [node, *(part for child in below for part in parts(child))]

    old = {id(part) for part in parts(before._tree)}
    fresh = [part for part in parts(world.state._tree) if id(part) not in old]
    # The root, and a path of three for each entry: sender, receiver, proposer and its vesting, or fewer.
    assert 0 < len(fresh) <= 1 + 3 * 4
