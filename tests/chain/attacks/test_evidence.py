"""Validators that sign two things of which an honest one signs one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chain.draft import Draft
from chain.errors import InvalidEvidence
from chain.evidence import TwoSeals, TwoVotes
from chain.gossip import Verdict, validate_block
from chain.transition import apply_evidence
from chain.types import Block
from chain.votes import Checkpoint, Link, Vote, sign_vote
from tests.chain.attacks.helpers import twins


def convicted(world: Any, block: Block, offender: bytes) -> None:
    """The block holds the evidence, and with its rating the offender lost what it may vest."""
    assert [evidence.offender for evidence in block.body.evidence] == [offender]
    entry = world.state.validator(offender)
    assert (entry.rating, entry.bond) == (0, 0)
    assert entry.barred_until == world.genesis.params.bar_epochs + world.state.finality.epochs
    assert world.state.supply_ok()


def test_proposer_equivocation(world: Any) -> None:
    """Both blocks are passed on, so that everybody sees the two; a third one is not."""
    one, other = twins(world)
    third = world.build([world.transfer(0, 1, 6)], slot=world.genesis.slot_at(one.sealed.timestamp_ms))
    for block in (one, other):
        assert validate_block(block.encoded, world.chain, world.time_of(block)).verdict is Verdict.ACCEPT
        world.give(block)
    assert validate_block(third.encoded, world.chain, world.time_of(third)).verdict is Verdict.IGNORE
    block = world.mine()
    assert [type(each) for each in block.body.evidence] == [TwoSeals]
    convicted(world, block, one.sealed.proposer)


def test_double_vote(world: Any) -> None:
    """Two links to checkpoints of one number, cast in different slots: neither is voted in twice."""
    world.mine()
    liar, vote = world.validators[1], world.vote(1)
    link = replace(vote.link, target=replace(vote.link.target, id=b"\x01" * 32))
    other = sign_vote(liar.keypair, world.genesis.chain_id, vote.slot, link, vote.head)
    world.cast(vote, other)
    assert liar.public not in dict(world.chain.votes.heads())
    convicted(world, world.mine(), liar.public)


def test_surround_vote(world: Any) -> None:
    world.mine()
    keys, chain_id = world.validators[1].keypair, world.genesis.chain_id

    def vote(slot: int, source: int, target: int) -> Vote:
        ends = (Checkpoint(number, bytes([number]) * 32) for number in (source, target))
        return sign_vote(keys, chain_id, slot, Link(*ends), bytes([target]) * 32)

    evidence = TwoVotes(vote(9, 1, 9), vote(5, 3, 5))
    draft = Draft(world.state)
    apply_evidence(draft, evidence, 10, world.users[0].public)
    assert draft.validator(keys.public).rating == 0
    with pytest.raises(InvalidEvidence, match="contradict"):
        apply_evidence(Draft(world.state), TwoVotes(vote(9, 4, 9), vote(5, 3, 5)), 10, world.users[0].public)


def test_votes_on_two_forks(world: Any) -> None:
    """The voter has no voice in either fork; a block convicts it, and after it there is no rating left."""
    base = world.mine()
    slots = [world.slot_with(0, world.state.slot)]
    slots.append(world.slot_with(0, slots[0]))
    forks = [world.build(slot=slot, parent=base.block_id) for slot in slots]
    for block in forks:
        world.give(block)
    link = world.vote(0, slots[1]).link
    votes = [
        sign_vote(world.validators[0].keypair, world.genesis.chain_id, slots[1], link, block.block_id)
        for block in forks
    ]
    world.cast(*votes)
    assert world.validators[0].public not in dict(world.chain.votes.heads())
    convicted(world, world.mine(), world.validators[0].public)


def test_false_evidence(world: Any) -> None:
    """Who forges the second signature of somebody else convicts nobody."""
    world.mine()
    honest = world.vote(1)
    link = replace(honest.link, target=replace(honest.link.target, id=b"\x01" * 32))
    liar = world.validators[0].keypair
    forged = replace(
        honest, link=link, signature=sign_vote(liar, world.genesis.chain_id, 9, link, bytes(32)).signature
    )
    reporter, slot = world.users[0].public, world.state.slot + 1
    with pytest.raises(InvalidEvidence, match="signature"):
        apply_evidence(Draft(world.state), TwoVotes(honest, forged), slot, reporter)
    one, other = twins(world)
    bent = replace(other.sealed, seal=bytes(64))
    with pytest.raises(InvalidEvidence, match="seal"):
        apply_evidence(Draft(world.state), TwoSeals(one.sealed, bent), 999, reporter)
