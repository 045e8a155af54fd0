"""The rule `richest`: who proposes, what votes weigh, and that the rest of the chain works with it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from chain import buckets, lottery, selection
from chain.draft import Draft
from chain.errors import GenesisError, InvalidBlock
from chain.evidence import TwoVotes
from chain.forkchoice import Chain
from chain.params import REPORT, SELECTIONS, TOKEN
from chain.producer import ranks_for, seal
from chain.sync_messages import GetStatus, decode_response, encode_response
from chain.sync_server import answer
from chain.transactions import Register, Transfer
from chain.transition import apply_block, apply_evidence, apply_tx
from chain.votes import Link, sign_vote
from chain.vrf import public_key
from chain.weights import Weight, WeightTable
from tests.chain.test_finality import grow

SHORT = replace(REPORT, slots_per_epoch=4)
OWNED = (100, 700, 300, 500, 200, 600, 400)
"""Tokens of v0 to v6: v1 is the richest, then v5, v3, v6, v2, v4, v0."""


@pytest.fixture
def rich(make_world: Any) -> Any:
    return make_world(ratings=(9, 1, 9, 1, 9, 1, 9), params=SHORT, balances=OWNED)


def proposers(world: Any) -> Counter[int]:
    """How many blocks each validator made."""
    index = {keys.public: i for i, keys in enumerate(world.validators)}
    return Counter(index[b.sealed.proposer] for b in world.chain.ancestors(world.chain.head.id))


def weights(world: Any, slot: int | None = None) -> list[int]:
    """What v0 and so on weigh in the table of a slot, by default of the head's."""
    table = world.state.table_at(world.state.slot if slot is None else slot)
    return [0 if (w := table.get(keys.public)) is None else w.rating for keys in world.validators]


def test_every_selection_has_a_rule() -> None:
    assert tuple(selection.RULES) == SELECTIONS
    assert REPORT.selection == "richest"


def test_rank_r_is_the_rth_richest_and_ties_go_by_key() -> None:
    keys = [bytes([i]) * 32 for i in range(5)]
    table = WeightTable(tuple(Weight(k, k, w) for k, w in zip(keys, (5, 7, 5, 9, 7), strict=True)))
    order = [keys[i] for i in (3, 1, 4, 0, 2)]
    for seed, slot in ((b"a" * 32, 1), (b"b" * 32, 2)):
        assert [lottery.richest(seed, slot, rank, table).public for rank in range(5)] == order
    assert lottery.richest(b"a" * 32, 1, 5, table).public == keys[3], "fewer than ranks: they come round"


def test_the_richest_come_first_and_the_target_is_of_all_balances(rich: Any) -> None:
    block = rich.mine(slot=1)
    assert block.sealed.proposer == rich.validators[1].public
    assert block.sealed.header.target == 2**256 // (sum(OWNED) * TOKEN)
    ranks = {i: ranks_for(2, keys.keypair, rich.state) for i, keys in enumerate(rich.validators)}
    assert ranks == {1: (0,), 5: (1,), 3: (2,), 0: (), 2: (), 4: (), 6: ()}
    assert weights(rich) == [tokens * TOKEN for tokens in OWNED]
    fallback = rich.build(slot=2, rank=2)
    assert fallback.sealed.proposer == rich.validators[3].public
    rich.give(fallback)
    assert rich.chain.head.id == fallback.block_id


def test_who_is_not_among_the_first_cannot_seal(rich: Any) -> None:
    good = rich.build(slot=1)
    poor = rich.validators[0]
    with pytest.raises(InvalidBlock, match="not drawn"):
        apply_block(rich.state, seal(rich.state, 1, 0, poor, good.body))
    with pytest.raises(InvalidBlock, match="not drawn"):
        apply_block(rich.state, seal(rich.state, 1, 1, rich.validators[1], good.body))
    apply_block(rich.state, good)


@pytest.mark.slow
def test_a_hundred_slots_of_seven_become_final_and_pay(rich: Any) -> None:
    grow(rich, 100, range(7))
    state = rich.state
    assert state.slot == 100
    assert state.finality.final.number >= 97
    assert proposers(rich) == {1: 100}
    earned = {i: state.account(k.public).balance - OWNED[i] * TOKEN for i, k in enumerate(rich.validators)}
    held = {i: earned[i] + state.vesting(k.public).held for i, k in enumerate(rich.validators)}
    assert all(held.values()), "all vote, and votes pay by weight"
    assert held[5] > held[3] > held[6] > held[2] > held[4] > held[0]
    assert state.supply_ok()
    replayed = Chain(rich.genesis)
    for block in reversed(list(rich.chain.ancestors(rich.chain.head.id))):
        replayed.on_block(block, rich.time_of(block))
    assert replayed.state().root() == state.root()


def test_fallbacks_step_in_where_the_richest_is_away(rich: Any) -> None:
    away = 1
    grow(rich, 40, [i for i in range(7) if i != away])
    assert proposers(rich) == {5: 40}
    assert rich.state.finality.final.number >= 37


def test_a_table_is_of_the_balances_when_the_epoch_three_before_began(make_world: Any) -> None:
    """v0 becomes the richest in epoch 1; balances are read at the next border, which is in epoch 2."""
    world = make_world(ratings=(9,) * 4, params=SHORT, balances=(100, 400, 300, 200))
    grow(world, 5, range(4))
    assert world.state.epoch == 1
    to = world.validators[0].public
    world.mine(*(world.tx(user, Transfer(to, 900 * TOKEN)) for user in world.users), slot=6)
    index = {keys.public: i for i, keys in enumerate(world.validators)}
    first: dict[int, int] = {}
    while world.state.epoch < 7:
        grow(world, 1, range(4))
        block = world.chain.block(world.chain.head.id)
        first.setdefault(world.state.epoch, index[block.sealed.proposer])
    assert [first[epoch] for epoch in range(2, 7)] == [1, 1, 1, 0, 0]


def test_no_rating_is_needed_but_a_registration_is(make_world: Any) -> None:
    """A user with the most tokens of all proposes once it has a VRF key on the chain, and not before."""
    world = make_world(ratings=(9,) * 4, params=SHORT, balances=(40, 30, 20, 10))
    user = world.users[0]
    grow(world, 20, range(4))
    assert world.state.table_at(world.state.slot).get(user.public) is None
    vrf_public = public_key(b"\x55" * 32)
    world.mine(world.tx(user, Register(user.public, vrf_public, "late", SHORT.bond, 1)))
    registered = world.state.epoch
    while (table := world.state.table_at(world.state.slot + 1)).get(user.public) is None:
        assert world.state.epoch < registered + 6
        grow(world, 1, range(4))
    found = table.get(user.public)
    assert found is not None
    assert (found.vrf_public, table.heaviest[0]) == (vrf_public, found)
    assert found.rating == 999 * TOKEN - SHORT.min_fee, "the bond is not part of the balance"


def liar_of(world: Any, number: int) -> TwoVotes:
    vote = world.vote(number)
    link = Link(vote.link.source, replace(vote.link.target, id=b"\x01" * 32))
    keys = world.validators[number].keypair
    return TwoVotes(vote, sign_vote(keys, world.genesis.chain_id, vote.slot, link, vote.head))


def test_a_convict_weighs_nothing_until_it_registers_again(rich: Any) -> None:
    rich.mine(slot=1)
    evidence = liar_of(rich, 1)
    rich.cast(evidence.one, evidence.other)
    block = rich.mine(slot=2)
    assert [found.offender for found in block.body.evidence] == [rich.validators[1].public]
    assert rich.state.tables.latest.get(rich.validators[1].public) is None, "at once"
    others = [i for i in range(7) if i != 1]
    while weights(rich)[1]:
        assert rich.state.epoch < 6
        grow(rich, 1, others)
    grow(rich, 12, others)
    assert rich.state.tables.latest.get(rich.validators[1].public) is None, "nor at later borders"
    assert rich.state.finality.final.number >= rich.state.slot - 3
    assert rich.chain.block(rich.chain.head.id).sealed.proposer == rich.validators[5].public


def test_a_registration_after_the_bar_counts_again(rich: Any) -> None:
    rich.mine(slot=1)
    draft, keys = Draft(rich.state), rich.validators[1]
    apply_evidence(draft, liar_of(rich, 1), 2, rich.users[0].public)
    rule = selection.RULES["richest"]
    draft.epochs = SHORT.bar_epochs
    assert rule.changes(draft, {}, True)[keys.public].rating == 0, "the end of the bar is not enough"
    wish = Register(keys.public, keys.vrf_public, "again", SHORT.bond, 1)
    apply_tx(draft, rich.tx(keys.keypair, wish), 2, 2, rich.users[0].public)
    assert rule.changes(draft, {}, True)[keys.public].rating == 699 * TOKEN - SHORT.min_fee


def test_two_with_tokens_do_not_make_a_table(make_world: Any) -> None:
    """One gives everything away; without rewards it has nothing from then on."""
    unpaid = replace(SHORT, issuance_per_block=0)
    world = make_world(ratings=(9,) * 3, params=unpaid, balances=(40, 30, 20))
    payer = world.validators[2].keypair
    world.mine(world.tx(payer, Transfer(world.users[0].public, 20 * TOKEN - SHORT.min_fee)), slot=1)
    grow(world, 40, range(3))
    assert len(world.state.tables.latest.entries) == 2
    assert weights(world) == [40 * TOKEN, 30 * TOKEN, 20 * TOKEN]
    assert world.state.slot == 41
    assert world.state.finality.final.number >= 38


def test_balances_are_read_at_borders_and_of_validators_only(rich: Any, monkeypatch: Any) -> None:
    asked: list[int] = []
    rule = selection.RULES["richest"]

    def counting(draft: Any, changed: Any, border: bool) -> Any:
        found = rule.changes(draft, changed, border)
        asked.append(len(found))
        return found

    monkeypatch.setitem(selection.RULES, "richest", replace(rule, changes=counting))
    monkeypatch.setattr(buckets, "walk", None)
    for slot in range(1, 9):
        rich.mine(slot=slot)
    assert asked == [0, 0, 0, 7, 0, 0, 0, 7]


def test_all_the_tokens_there_can_be_fit(make_world: Any) -> None:
    """Weights are of 64 bits; sums of them over a chain are of more and travel as 32 bytes."""
    world = make_world(ratings=(9,) * 3, params=SHORT, users=0, balances=(30_000_000_000,) * 3)
    grow(world, 12, range(3))
    assert world.state.table_at(12).total >= 9 * 10**18 > 2**62
    assert world.chain.head.weight > 2**64
    status = answer(GetStatus(), world.chain, lambda block_id: None)
    assert decode_response(encode_response(status)).weight == world.chain.head.weight
    assert world.state.finality.final.number >= 9


def test_a_genesis_without_tokens_has_no_richest(make_world: Any) -> None:
    with pytest.raises(GenesisError, match="allocations"):
        make_world(params=SHORT)
    genesis = make_world(params=SHORT, balances=(0, 7, 0)).genesis
    [only] = WeightTable.of_balances(genesis).entries
    assert only.rating == 7 * TOKEN
