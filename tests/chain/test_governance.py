"""How voters change the baseline: what two thirds are of, when it holds, what every branch decides alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.codec import pack
from chain.crypto import Keypair
from chain.draft import Draft
from chain.entries import GOVERNANCE_KEY, Governance
from chain.errors import DecodeError, InvalidTransaction, ParamsError
from chain.forkchoice import Chain
from chain.genesis import Founder, Genesis
from chain.governance import KEPT_EPOCHS, advance
from chain.ledger import Place
from chain.params import DEMO, TOKEN
from chain.quality import BUNDLED, Baseline
from chain.state import State, genesis_state
from chain.tables import Tables
from chain.transactions import ParamUpdate, Transfer, Tx, sign_tx
from chain.transition import apply_block, apply_tx, check_tx, open_slot
from chain.vrf import public_key
from chain.weights import Weight, WeightTable

EPOCH = DEMO.slots_per_epoch
LONG = DEMO.proposal_epochs * EPOCH
KEYS = [Keypair.from_seed(bytes([i + 1]) * 32) for i in range(6)]
VRFS = [public_key(bytes([i + 101]) * 32) for i in range(6)]
MNIST = Baseline(b"\x01" * 20, 500_000, 950_000)
STRICT = Baseline(BUNDLED, 700_000, 980_000)
OTHERS = [Baseline(bytes([i]) * 20, 400_000, 900_000) for i in range(2, 40)]


def table_of(ratings: tuple[int, ...]) -> WeightTable:
    entries = [Weight(KEYS[i].public, VRFS[i], rating) for i, rating in enumerate(ratings) if rating]
    return WeightTable(tuple(sorted(entries, key=lambda entry: entry.public)))


class Branch:
    """States after blocks with chosen transactions, in epochs with chosen weights: no draw, no seals."""

    def __init__(self, *tables: tuple[int, tuple[int, ...]], **params: Any) -> None:
        """`tables`: from which epoch on which ratings hold."""
        founders = tuple(
            Founder(key.public, vrf, max(rating, 1), "")
            for key, vrf, rating in zip(KEYS, VRFS, tables[0][1], strict=False)
        )
        allocations = tuple((key.public, 1000 * TOKEN) for key in KEYS)
        self.genesis = Genesis("vote", 0, replace(DEMO, **params), founders, allocations)
        self.state = genesis_state(self.genesis)
        adopted = tuple((epoch, table_of(ratings)) for epoch, ratings in tables)
        self.state.tables = Tables(((0, adopted[0][1]),), adopted)

    def tx(self, who: int, change: Baseline | bytes) -> Tx:
        nonce = self.state.account(KEYS[who].public).nonce
        payload = ParamUpdate(change)
        return sign_tx(
            KEYS[who], self.genesis.chain_id, payload, nonce=nonce, valid_until_slot=2**40, fee=DEMO.min_fee
        )

    def block(self, slot: int, *txs: Tx, prepare: Callable[[Draft], None] | None = None) -> State:
        draft = open_slot(self.state, slot)
        if prepare is not None:
            prepare(draft)
        for tx in txs:
            apply_tx(draft, tx, slot, self.state.height + 1, KEYS[0].public)
        state = self.state
        self.state = draft.seal(
            pack((slot, state.block_id)),
            Place(state.height + 1, slot, state.weight),
            state.randomness,
            state.finality,
            state.tables,
        )
        assert self.state.supply_ok()
        return self.state

    def say(self, slot: int, who: int, change: Baseline | bytes) -> bytes:
        """One block with one transaction; its id."""
        tx = self.tx(who, change)
        self.block(slot, tx)
        return tx.id

    def convict(self, slot: int, who: int) -> None:
        entry = self.state.validator(KEYS[who].public)
        assert entry is not None
        self.block(slot, prepare=lambda draft: draft.put_validator(replace(entry, rating=0, barred_until=9)))

    @property
    def open(self) -> list[bytes]:
        return [entry.id for entry in self.state.governance().proposals]


def three(*ratings: int, **params: Any) -> Branch:
    return Branch((0, ratings or (10, 10, 10)), **params)


# -- two thirds ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratings", "enough"),
    [((10, 10, 10), True), ((10, 9, 11), False), ((1, 1, 1), True), ((3, 2, 3), False), ((4, 3, 3), True)],
)
def test_two_thirds_are_enough_and_one_unit_less_is_not(ratings: tuple[int, ...], enough: bool) -> None:
    branch = three(*ratings)
    proposal = branch.say(1, 0, MNIST)
    assert branch.open == [proposal]
    branch.say(2, 1, proposal)
    assert (branch.open == []) is enough
    assert (branch.state.baseline(2) == MNIST) is enough
    if not enough:
        branch.say(3, 2, proposal)
        assert branch.state.baseline(2) == MNIST


def test_a_change_holds_after_one_full_epoch() -> None:
    branch = three()
    proposal = branch.say(3 * EPOCH - 1, 0, STRICT)
    branch.say(3 * EPOCH, 1, proposal)  # adopted in the first slot of epoch 3
    before = DEMO.baseline
    assert before == Baseline(BUNDLED, 750_000, 950_000)
    assert [branch.state.baseline(epoch) for epoch in (0, 3, 4, 5, 99)] == [before] * 3 + [STRICT] * 2


def test_the_later_of_two_changes_of_one_epoch_holds() -> None:
    branch = three()
    one, other = branch.say(1, 0, MNIST), branch.say(2, 1, STRICT)
    branch.say(3, 2, one)
    assert branch.state.baseline(2) == MNIST
    branch.say(4, 2, other)
    assert branch.state.baseline(2) == STRICT
    assert len(branch.state.governance().adopted) == 1


def test_all_approvals_are_weighed_by_the_table_of_the_block_that_brings_one() -> None:
    """Ratings 1, 1 and 10, and from epoch 1 on 10, 1 and 1."""
    branch = Branch((0, (1, 1, 10)), (1, (10, 1, 1)))
    proposal = branch.say(1, 0, MNIST)
    branch.say(2, 1, proposal)
    branch.block(EPOCH)  # ten of twelve stand behind it now, but nobody has counted
    assert branch.open == [proposal]
    branch.say(EPOCH + 1, 2, proposal)
    assert (branch.open, branch.state.baseline(3)) == ([], MNIST)


def test_weight_that_was_lost_counts_no_more() -> None:
    branch = Branch((0, (10, 10, 10)), (1, (0, 10, 10, 10)))
    proposal = branch.say(EPOCH - 1, 0, MNIST)
    branch.say(EPOCH, 1, proposal)  # the first approval's account is in no table any more
    assert branch.open == [proposal]
    branch.say(EPOCH + 1, 3, proposal)
    assert branch.state.baseline(3) == MNIST


# -- time ------------------------------------------------------------------------------------------------


def test_approvals_come_within_four_epochs_of_the_proposal() -> None:
    branch = three()
    proposal = branch.say(5, 0, MNIST)
    before = branch.state
    branch.say(5 + LONG, 1, proposal)
    assert branch.state.baseline(99) == MNIST
    branch.state = before
    with pytest.raises(InvalidTransaction, match="no open proposal"):
        branch.say(6 + LONG, 1, proposal)
    branch.block(6 + LONG)
    assert branch.state.governance() == Governance()  # it is out of the state, not only out of time
    branch.say(7 + LONG, 0, MNIST)


def test_what_held_is_kept_for_some_epochs() -> None:
    branch = three()
    for number, baseline in enumerate((MNIST, STRICT)):
        proposal = branch.say(number * EPOCH + 1, 0, baseline)
        branch.say(number * EPOCH + 2, 1, proposal)
    branch.block((3 + KEPT_EPOCHS) * EPOCH - 1)
    assert [branch.state.baseline(epoch) for epoch in (1, 2, 3)] == [DEMO.baseline, MNIST, STRICT]
    branch.block((3 + KEPT_EPOCHS) * EPOCH)
    assert branch.state.governance().adopted == ((3, STRICT),)


# -- what is refused -------------------------------------------------------------------------------------


def refused(branch: Branch, who: int, change: Baseline | bytes, says: str, slot: int = 50) -> None:
    with pytest.raises(InvalidTransaction, match=says):
        check_tx(branch.state, branch.tx(who, change), slot)


def test_who_has_no_weight_neither_proposes_nor_approves() -> None:
    branch = three()
    proposal = branch.say(1, 0, MNIST)
    refused(branch, 4, STRICT, "only a voter")
    refused(branch, 4, proposal, "only a voter")


def test_the_convicted_neither_propose_nor_approve_though_the_table_still_has_them() -> None:
    branch = three()
    proposal = branch.say(1, 0, MNIST)
    branch.convict(2, 1)
    assert branch.state.table_at(3).voice(KEYS[1].public) == 10
    refused(branch, 1, proposal, "only a voter")
    refused(branch, 1, STRICT, "only a voter")


def test_approvals_of_the_convicted_no_longer_count() -> None:
    branch = three()
    proposal = branch.say(1, 0, MNIST)
    branch.convict(2, 0)
    branch.say(3, 1, proposal)
    assert branch.open == [proposal]
    branch.say(4, 2, proposal)
    assert branch.state.baseline(2) == MNIST


def test_nobody_approves_twice() -> None:
    branch = three(10, 10, 10, 10)
    proposal = branch.say(1, 0, MNIST)
    refused(branch, 0, proposal, "approved the proposal already")
    branch.say(2, 1, proposal)
    refused(branch, 1, proposal, "approved the proposal already")
    refused(branch, 1, bytes(32), "no open proposal")


def test_one_open_proposal_for_each_account() -> None:
    branch = three()
    branch.say(1, 0, MNIST)
    refused(branch, 0, STRICT, "open already")
    refused(branch, 1, DEMO.baseline, "in force already")


def test_places_are_few_and_go_to_the_greater_weight() -> None:
    branch = three(10, 2, 20, 2, 10, max_proposals=2)
    heavy, light = branch.say(1, 0, OTHERS[0]), branch.say(2, 1, OTHERS[1])
    refused(branch, 3, OTHERS[3], "as much support")
    other = branch.say(3, 4, OTHERS[4])
    assert branch.open == [heavy, other]
    refused(branch, 3, light, "no open proposal")
    branch.say(4, 3, other)
    last = branch.say(5, 2, OTHERS[2])  # weighs 20, the least supported one 10
    assert branch.open == [other, last]


# -- bytes -----------------------------------------------------------------------------------------------


def test_bytes_that_are_no_parameter_update() -> None:
    for good in (ParamUpdate(MNIST), ParamUpdate(b"\x05" * 32)):
        assert ParamUpdate.from_item(good.to_item()) == good
    for wrong in (
        (b"x" * 31,), (), (b"x" * 32, 1), (5,), ((b"x" * 19, 1, 2),), ((b"x" * 20, 2, 2),),
        ((b"x" * 20, 3, 2),), ((b"x" * 20, 0, 10**6 + 1),), ((b"x" * 20, 10**6, 10**6 + 1),),
        ((b"x" * 20, True, 5),), ((b"x" * 20, 1),),
    ):  # fmt: skip
        with pytest.raises(DecodeError):
            ParamUpdate.from_item(wrong)


@pytest.mark.parametrize("bounds", [(-1, 5), (5, 5), (0, 10**6 + 1)])
def test_bounds_that_are_none(bounds: tuple[int, int]) -> None:
    with pytest.raises(ParamsError):
        Baseline(BUNDLED, *bounds)
    with pytest.raises(ParamsError, match="infohash"):
        Baseline(b"\x01" * 32, 1, 2)


# -- on a real chain -------------------------------------------------------------------------------------


def funded(world: Any) -> list[Keypair]:
    """The world's founders, each with tokens."""
    for keys in world.validators:
        world.mine(world.tx(world.users[0], Transfer(keys.public, 50 * TOKEN)))
    return [keys.keypair for keys in world.validators]


def test_blocks_decide_and_whoever_replays_them_finds_the_same(world: Any) -> None:
    voters = funded(world)
    opening = world.tx(voters[0], ParamUpdate(MNIST))
    world.mine(opening)
    world.mine(world.tx(voters[1], ParamUpdate(opening.id)))
    epoch = world.state.epoch
    assert [world.state.baseline(epoch + ahead) for ahead in (1, 2)] == [DEMO.baseline, MNIST]
    replayed = genesis_state(world.genesis)
    for block in reversed(list(world.chain.ancestors(world.chain.head.id))):
        replayed = apply_block(replayed, block)
    assert replayed.root() == world.state.root()


def test_each_branch_counts_for_itself(world: Any) -> None:
    """On one side the second approval came; on the other it did not, until that side goes on alone."""
    voters = funded(world)
    opening = world.tx(voters[0], ParamUpdate(MNIST))
    world.mine(opening)
    other = Chain(world.genesis)
    for block in reversed(list(world.chain.ancestors(world.chain.head.id))):
        other.on_block(block, 2**60)
    fork = world.chain.head.id
    approval = world.tx(voters[1], ParamUpdate(opening.id))
    decided = world.mine(approval)
    for _ in range(2):  # in other slots: nobody has sealed two blocks for one
        slot = world.slot_with(0, max(world.state.slot, other.state().slot), other.state())
        other.on_block(world.build(chain=other, slot=slot), 2**60)
    assert other.state().baseline(99) == DEMO.baseline
    for block in reversed(list(other.ancestors(other.head.id))):
        if not world.chain.has(block.block_id):
            world.give(block)
    assert world.chain.head.id == other.head.id  # the decision was reverted
    assert world.state.baseline(99) == DEMO.baseline
    assert world.chain.state(decided.block_id).baseline(99) == MNIST
    assert world.chain.state(fork).governance().proposals == world.state.governance().proposals
    world.mine(approval)  # and it may come again
    assert world.state.baseline(99) == MNIST


# -- all of it, against a model --------------------------------------------------------------------------


@dataclass
class Model:
    """The rules again, in the plainest way, over lists."""

    tables: list[tuple[int, tuple[int, ...]]]
    barred: set[int] = field(default_factory=set)
    open: dict[bytes, tuple[int, Baseline, int, set[int]]] = field(default_factory=dict)
    adopted: list[tuple[int, Baseline]] = field(default_factory=list)

    def weights(self, slot: int) -> list[int]:
        ratings = [ratings for epoch, ratings in self.tables if epoch <= slot // EPOCH][-1]
        return [0 if who in self.barred else rating for who, rating in enumerate(ratings)]

    def expire(self, slot: int) -> None:
        self.open = {key: value for key, value in self.open.items() if value[2] >= slot}

    def propose(self, slot: int, who: int, baseline: Baseline, key: bytes) -> bool:
        """Whether it is allowed; then it is done."""
        if not self.weights(slot)[who] or any(value[0] == who for value in self.open.values()):
            return False
        if baseline == (self.adopted[-1][1] if self.adopted else DEMO.baseline):
            return False
        self.open[key] = (who, baseline, slot + LONG, {who})
        self.count(slot, key)
        return True

    def approve(self, slot: int, who: int, key: bytes) -> bool:
        if not self.weights(slot)[who] or key not in self.open or who in self.open[key][3]:
            return False
        self.open[key][3].add(who)
        self.count(slot, key)
        return True

    def count(self, slot: int, key: bytes) -> None:
        full = [ratings for epoch, ratings in self.tables if epoch <= slot // EPOCH][-1]
        behind = sum(self.weights(slot)[who] for who in self.open[key][3])
        if behind >= sum(full) * 2 / 3:
            self.adopted.append((slot // EPOCH + 2, self.open.pop(key)[1]))

    def baseline(self, epoch: int) -> Baseline:
        return [DEMO.baseline, *(baseline for begins, baseline in self.adopted if begins <= epoch)][-1]


ratings = st.tuples(*[st.integers(1, 6)] * 4)
moves = st.lists(
    st.tuples(
        st.sampled_from(("propose", "approve", "approve", "approve", "convict", "fork")),
        st.integers(0, 3),
        st.integers(0, 3),
        st.integers(1, EPOCH),
    ),
    min_size=4,
    max_size=24,
)


@settings(max_examples=60, deadline=None)
@given(first=ratings, second=ratings, third=ratings, plan=moves)
def test_any_sequence_decides_what_the_rules_say(
    first: tuple[int, ...],
    second: tuple[int, ...],
    third: tuple[int, ...],
    plan: list[tuple[str, int, int, int]],
) -> None:
    tables = [(0, first), (2, second), (4, third)]
    branch, model = Branch(*tables), Model(tables)
    kept: list[tuple[State, Model, list[bytes]]] = []
    made: list[bytes] = []
    for kind, who, which, later in plan:
        slot = branch.state.slot + later
        if kind == "fork":  # go on from where an earlier fork was, with what that branch knew
            kept.append((branch.state, copied(model), list(made)))
            branch.state, model, made = kept[which % len(kept)]
            model, made = copied(model), list(made)
            continue
        model.expire(slot)
        if kind == "convict":
            branch.convict(slot, who)
            model.barred.add(who)
        else:
            known = [*made, bytes(32)]
            change = [MNIST, STRICT, *OTHERS][which] if kind == "propose" else known[which % len(known)]
            tx = branch.tx(who, change)
            if isinstance(change, bytes):
                allowed = model.approve(slot, who, change)
            else:
                allowed = model.propose(slot, who, change, tx.id)
            if allowed:
                branch.block(slot, tx)
                made += [tx.id] if kind == "propose" else []
            else:
                with pytest.raises(InvalidTransaction):
                    branch.block(slot, tx)
                branch.block(slot)
        check(branch, model)


def copied(model: Model) -> Model:
    opened = {key: (who, base, last, set(voters)) for key, (who, base, last, voters) in model.open.items()}
    return Model(model.tables, set(model.barred), opened, list(model.adopted))


def check(branch: Branch, model: Model) -> None:
    state = branch.state
    assert {entry.id: (entry.baseline, entry.last_slot) for entry in state.governance().proposals} == {
        key: (baseline, last) for key, (_, baseline, last, _) in model.open.items()
    }
    for epoch in range(max(state.epoch - KEPT_EPOCHS, 0), state.epoch + 5):
        assert state.baseline(epoch) == model.baseline(epoch)


def test_a_draft_that_nothing_touches_writes_nothing() -> None:
    branch = three()
    draft = Draft(branch.state)
    advance(draft, 5)
    assert draft.entry(GOVERNANCE_KEY) is None
