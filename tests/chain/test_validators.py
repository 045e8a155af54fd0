"""Registration, bonds, and what it costs to sign what no honest validator signs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chain import vrf
from chain.crypto import Keypair
from chain.draft import Draft
from chain.errors import DecodeError, InvalidBlock, InvalidEvidence, InvalidTransaction
from chain.evidence import TwoSeals, TwoVotes, read_evidence
from chain.forkchoice import Chain
from chain.header import SealedHeader
from chain.params import DEMO, TOKEN
from chain.transactions import Register
from chain.transition import apply_block, apply_evidence, apply_tx, check_tx
from chain.types import Block, Body
from chain.votes import Link, Vote, sign_vote

NEWCOMER = Keypair.from_seed(b"\x77" * 32)
VRF = vrf.public_key(b"\x78" * 32)


def registration(**changes: Any) -> Register:
    return replace(Register(NEWCOMER.public, VRF, "late", DEMO.bond, 1), **changes)


def sponsored(world: Any, sponsor: int = 0, **changes: Any) -> Register:
    wish = registration(**changes)
    signed = NEWCOMER.sign(wish.signing_bytes(world.genesis.chain_id, world.users[sponsor].public))
    return replace(wish, consent=signed)


# -- registration ----------------------------------------------------------------------------------------


def test_a_sponsor_pays_fee_and_bond_of_a_newcomer_who_owns_nothing(world: Any) -> None:
    world.mine(world.tx(world.users[0], sponsored(world)))
    entry = world.state.validator(NEWCOMER.public)
    assert (entry.rating, entry.bond, entry.name, entry.founder) == (0, DEMO.bond, "late", False)
    assert world.balance(NEWCOMER.public) == 0
    assert world.balance(world.users[0].public) == 1000 * TOKEN - DEMO.bond - DEMO.min_fee
    assert world.state.supply().bonds == DEMO.bond
    assert world.state.supply_ok()
    assert world.state.tables.latest.get(NEWCOMER.public) is None  # a rating has to be earned


def test_an_account_registers_itself_and_adds_to_its_bond(world: Any) -> None:
    user = world.users[1]
    world.mine(world.tx(user, registration(account=user.public)))
    again = registration(account=user.public, bond=5, sequence=2, name="renamed", vrf_public=world_vrf(9))
    world.mine(world.tx(user, again))
    entry = world.state.validator(user.public)
    assert (entry.bond, entry.name, entry.vrf_public) == (DEMO.bond + 5, "renamed", world_vrf(9))
    assert world.state.supply_ok()


def world_vrf(number: int) -> bytes:
    return vrf.public_key(bytes([number]) * 32)


def without_consent(world: Any) -> Register:
    return registration()


def consent_to_another_sponsor(world: Any) -> Register:
    return sponsored(world, sponsor=1)


def consent_to_other_terms(world: Any) -> Register:
    return replace(sponsored(world), vrf_public=world_vrf(9))


def too_small_a_bond(world: Any) -> Register:
    return sponsored(world, bond=DEMO.bond - 1)


def no_vrf_key(world: Any) -> Register:
    return sponsored(world, vrf_public=bytes(32))


def a_founders_vrf_key(world: Any) -> Register:
    return sponsored(world, vrf_public=world.validators[0].vrf_public)


def more_than_it_has(world: Any) -> Register:
    return sponsored(world, bond=2000 * TOKEN)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (without_consent, "agree"),
        (consent_to_another_sponsor, "agree"),
        (consent_to_other_terms, "agree"),
        (too_small_a_bond, "bond"),
        (no_vrf_key, "VRF"),
        (a_founders_vrf_key, "VRF"),
        (more_than_it_has, "balance"),
    ],
)
def test_registrations_that_are_refused(world: Any, make: Callable[[Any], Register], says: str) -> None:
    tx = world.tx(world.users[0], make(world))
    with pytest.raises(InvalidTransaction, match=says):
        check_tx(world.state, tx, 1)
    check_tx(world.state, world.tx(world.users[0], sponsored(world)), 1)


def test_an_old_registration_does_not_come_back(world: Any) -> None:
    """A sponsor keeps a consent that the account gave once; it counts once."""
    world.mine(world.tx(world.users[0], sponsored(world)))
    world.mine(world.tx(world.users[0], sponsored(world, sequence=2, vrf_public=world_vrf(9))))
    for sequence in (1, 2):
        with pytest.raises(InvalidTransaction, match="later registration"):
            check_tx(world.state, world.tx(world.users[0], sponsored(world, sequence=sequence)), 99)


def test_bytes_that_are_no_registration() -> None:
    good = registration().to_item()
    assert Register.from_item(good) == registration()
    for place, wrong in ((0, b"x"), (1, b"x"), (2, "x" * 65), (3, -1), (4, 0), (5, b"x" * 63)):
        with pytest.raises(DecodeError):
            Register.from_item((*good[:place], wrong, *good[place + 1 :]))


# -- evidence --------------------------------------------------------------------------------------------


def two_seals(world: Any) -> TwoSeals:
    """A founder equivocates in the next slot."""
    slot = world.slot_with(0, world.state.slot)
    one = world.build(slot=slot)
    other = world.build([world.transfer(0, 1, 5)], slot=slot)
    assert one.sealed.proposer == other.sealed.proposer
    return TwoSeals(one.sealed, other.sealed)


def two_votes(world: Any, voter: int = 1) -> TwoVotes:
    """A double vote."""
    vote = world.vote(voter)
    link = Link(vote.link.source, replace(vote.link.target, id=b"\x01" * 32))
    return TwoVotes(vote, world_vote(world, voter, vote, link))


def world_vote(world: Any, voter: int, vote: Vote, link: Link, **changes: Any) -> Vote:
    keys, slot = world.validators[voter].keypair, changes.get("slot", vote.slot)
    return sign_vote(keys, world.genesis.chain_id, slot, link, vote.head)


def convict(world: Any, evidence: Any, slot: int | None = None) -> Draft:
    draft = Draft(world.state)
    apply_evidence(draft, evidence, world.state.slot + 1 if slot is None else slot, world.users[2].public)
    return draft


@pytest.fixture
def grown(world: Any) -> Any:
    world.mine()
    world.all_vote()
    world.mine()
    return world


@pytest.mark.parametrize("make", [two_seals, two_votes])
def test_evidence_takes_rating_and_bond_and_bars(grown: Any, make: Callable[[Any], Any]) -> None:
    evidence = make(grown)
    known = grown.state.validator(evidence.offender)
    bonded = Draft(grown.state)
    bonded.debit(grown.users[0].public, 33, "the bond")
    bonded.put_validator(replace(known, bond=33))
    slot = grown.genesis.slot_at(evidence.timestamp_ms) if isinstance(evidence, TwoSeals) else evidence.slot
    lost = 33 + bonded.vesting(evidence.offender).held
    assert lost > 33
    apply_evidence(bonded, evidence, slot + 1, grown.users[2].public)
    entry = bonded.validator(evidence.offender)
    assert (entry.rating, entry.bond, entry.barred_until) == (0, 0, DEMO.bar_epochs + bonded.epochs)
    assert bonded.books.burned == grown.state.books.burned + lost - lost // 16
    assert bonded.account(grown.users[2].public).balance == 1000 * TOKEN + lost // 16
    assert bonded.vesting(evidence.offender).held == 0
    keys = next(keys for keys in grown.validators if keys.public == evidence.offender)
    sponsor = grown.users[0]
    wish = Register(keys.public, world_vrf(9), "again", DEMO.bond, 9)
    wish = replace(
        wish, consent=keys.keypair.sign(wish.signing_bytes(grown.genesis.chain_id, sponsor.public))
    )
    with pytest.raises(InvalidTransaction, match="barred"):
        apply_tx(bonded, grown.tx(sponsor, wish), slot + 1, grown.state.height + 1, sponsor.public)


def same_block(world: Any) -> TwoSeals:
    sealed = two_seals(world).one
    return TwoSeals(sealed, sealed)


def two_slots(world: Any) -> TwoSeals:
    one = two_seals(world).one
    slot = next(
        slot
        for slot in range(world.genesis.slot_at(one.timestamp_ms) + 1, 500)
        if (keys := world.drawn(slot)) is not None and keys.public == one.proposer
    )
    return TwoSeals(one, world.build(slot=slot).sealed)


def two_proposers(world: Any) -> TwoSeals:
    slot = next(s for s in range(world.state.slot + 1, 500) if world.drawn(s, 0) and world.drawn(s, 1))
    return TwoSeals(world.build(slot=slot).sealed, world.build(slot=slot, rank=1).sealed)


def a_forged_seal(world: Any) -> TwoSeals:
    found = two_seals(world)
    return replace(found, other=replace(found.other, seal=bytes(64)))


def a_proposer_that_is_not_in_the_block(world: Any) -> TwoSeals:
    """Leaf 0 names the victim, but it is not the leaf under the root that was sealed."""
    found = two_seals(world)
    lie = replace(found.other.leaf0, height=99)
    return replace(found, other=SealedHeader(found.other.header, lie, found.other.path, found.other.seal))


def a_seal_for_another_chain(world: Any) -> TwoSeals:
    other = type(world)(params=replace(DEMO, min_fee=1))
    other.mine()
    other.all_vote()
    other.mine()
    return two_seals(other)


def votes_that_agree(world: Any) -> TwoVotes:
    vote = world.vote(1)
    return TwoVotes(vote, vote)


def a_forged_vote(world: Any) -> TwoVotes:
    found = two_votes(world)
    return replace(found, other=replace(found.other, signature=bytes(64)))


def votes_of_two_voters(world: Any) -> TwoVotes:
    return TwoVotes(two_votes(world, 0).one, two_votes(world, 1).other)


def a_stranger(world: Any) -> TwoVotes:
    vote = two_votes(world).one
    link = Link(vote.link.source, replace(vote.link.target, id=b"\x01" * 32))
    chain_id = world.genesis.chain_id
    return TwoVotes(
        sign_vote(NEWCOMER, chain_id, vote.slot, vote.link, vote.head),
        sign_vote(NEWCOMER, chain_id, vote.slot, link, vote.head),
    )


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (same_block, "same block"),
        (two_slots, "one slot"),
        (two_proposers, "one proposer"),
        (a_forged_seal, "seal does not hold"),
        (a_proposer_that_is_not_in_the_block, "seal does not hold"),
        (a_seal_for_another_chain, "seal does not hold"),
        (votes_that_agree, "contradict"),
        (a_forged_vote, "signature"),
        (votes_of_two_voters, "contradict"),
        (a_stranger, "no validator"),
    ],
)
def test_evidence_that_convicts_nobody(grown: Any, make: Callable[[Any], Any], says: str) -> None:
    evidence = make(grown)
    with pytest.raises(InvalidEvidence, match=says):
        convict(grown, evidence, 500)
    assert read_evidence(evidence.to_item()) == evidence


def test_nobody_is_punished_twice_for_one_offence(grown: Any) -> None:
    evidence = two_votes(grown)
    draft = convict(grown, evidence)
    with pytest.raises(InvalidEvidence, match="punished"):
        apply_evidence(draft, evidence, grown.state.slot + 1, grown.users[2].public)


def test_evidence_from_the_future_is_refused(grown: Any) -> None:
    evidence = two_seals(grown)
    with pytest.raises(InvalidEvidence, match="future"):
        convict(grown, evidence, grown.genesis.slot_at(evidence.timestamp_ms) - 1)


def test_evidence_grows_old_in_finalized_epochs_only(make_world: Any) -> None:
    world = make_world(
        params=replace(DEMO, slots_per_epoch=4, window_every_epochs=16, evidence_epochs=2, bar_epochs=3)
    )
    world.mine()
    evidence = two_votes(world)
    for slot in range(world.state.slot + 1, 60):  # nobody votes: time stands still
        if world.drawn(slot):
            world.mine(slot=slot)
    assert world.state.finality.epochs == 0
    convict(world, evidence)
    start = world.state.slot
    while world.state.finality.epochs < 4:
        world.all_vote(world.state.slot)
        world.mine()
    assert world.state.slot < start + 40
    with pytest.raises(InvalidEvidence, match="too old"):
        convict(world, evidence)


def test_a_proposer_includes_what_convicts_and_the_offender_is_drawn_no_more(make_world: Any) -> None:
    """From the lie to the table: seen in votes, put into a block, final, and three epochs later in force."""
    world = make_world(
        ratings=(10, 10, 10, 10), params=replace(DEMO, slots_per_epoch=4, window_every_epochs=16)
    )
    world.mine()
    liar = world.validators[1]
    evidence = two_votes(world, 1)
    world.cast(evidence.one, evidence.other)
    block = world.mine()
    assert [entry.offender for entry in block.body.evidence] == [liar.public]
    assert world.state.validator(liar.public).rating == 0
    punished = world.state.slot
    assert world.state.table_at(punished).total == 40  # the table lags
    while world.state.slot < punished + 8 * 4:
        world.cast(*(world.vote(i) for i in (0, 2, 3)))
        nxt = world.mine()
        assert nxt.body.evidence == ()
    assert world.state.finality.final_slot > punished
    table = world.state.table_at(world.state.slot)
    assert (table.total, table.get(liar.public)) == (30, None)
    assert [held for _, held in world.state.tables.ratings] == [table]  # older ratings are forgotten
    assert block_target(world) == 2**256 // 30
    replayed = Chain(world.genesis)
    for old in reversed(list(world.chain.ancestors(world.chain.head.id))):
        replayed.on_block(old, world.time_of(old))
    assert replayed.state().root() == world.state.root()


def block_target(world: Any) -> int:
    block = world.chain.block(world.chain.head.id)
    assert block is not None
    return int(block.sealed.header.target)


def test_two_blocks_for_one_slot_convict_their_proposer(make_world: Any) -> None:
    world = make_world()
    slot = world.slot_with(0, 0)
    one = world.build(slot=slot)
    other = world.build([world.transfer(0, 1, 5)], slot=slot)
    world.give(one)
    world.give(other)
    block = world.mine()
    [evidence] = block.body.evidence
    assert isinstance(evidence, TwoSeals)
    assert evidence.offender == one.sealed.proposer
    assert world.state.validator(evidence.offender).rating == 0


def test_a_block_with_evidence_that_does_not_hold_is_refused(grown: Any) -> None:
    block = grown.build()
    forged = grown.reseal(block, Body(votes=block.body.votes, evidence=(a_forged_vote(grown),)))
    with pytest.raises(InvalidBlock, match="evidence 0"):
        apply_block(grown.state, forged)
    many = (two_votes(grown),) * (DEMO.max_evidence + 1)
    with pytest.raises(InvalidBlock, match="caps"):
        apply_block(grown.state, grown.reseal(block, Body(evidence=many)))
    assert Block.decode(forged.encoded) == forged
