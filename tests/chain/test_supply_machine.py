"""The books and the state root under random sequences of everything, with forks and reorganizations.

`tests/chain/test_supply.py` has shorter sequences on one branch, `tests/bench/supply.py` 10^5 transactions.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chain import buckets, jobs, rewards, validators
from chain.draft import Draft
from chain.entries import Account, Entry, Job, JobStatus, Validator, Vesting
from chain.errors import ChainError, InvalidBlock, StaleBlock, UnknownBlock, UnknownParent
from chain.forkchoice import Chain
from chain.params import TOKEN
from chain.state import State, genesis_state
from chain.transition import apply_block, apply_tx
from chain.types import Block, Body
from tests.chain.traffic import KINDS, Traffic, Watched, history
from tests.planting import plant

users = st.integers(0, 2)
amounts = st.integers(1, 700 * TOKEN)


def rows(state: State) -> list[tuple[bytes, Entry]]:
    """Everything in a state, in the order of its buckets."""
    return list(buckets.walk(state._tree))


def recomputed(state: State) -> tuple[int, int, int, int]:
    """Balances, escrow, bonds and vesting rewards, from the entries alone."""
    entries = [entry for _, entry in rows(state)]
    return (
        sum(entry.balance for entry in entries if isinstance(entry, Account)),
        sum(entry.escrow for entry in entries if isinstance(entry, Job)),
        sum(entry.bond for entry in entries if isinstance(entry, Validator)),
        sum(grant.left for entry in entries if isinstance(entry, Vesting) for grant in entry.grants),
    )


def check_books(state: State) -> None:
    supply = state.supply()
    held = recomputed(state)
    assert (supply.balances, supply.escrow, supply.bonds, supply.vesting) == held
    assert sum(held) == supply.genesis + supply.issued - supply.burned
    assert supply.genesis == state.genesis.supply
    for _, entry in rows(state):
        if isinstance(entry, Job):
            assert entry.paid + entry.escrow <= entry.budget
            assert entry.status < JobStatus.CLOSED or entry.escrow == 0


class Ledger(RuleBasedStateMachine):
    """One chain with all its branches, and each block's state once more, from the block's bytes."""

    @initialize()
    def found(self) -> None:
        self.world = Watched()
        self.traffic = Traffic(self.world)
        first = genesis_state(self.world.genesis)
        self.states: dict[bytes, State] = {first.block_id: first}
        self.blocks: list[Block] = []
        self.known: dict[bytes, bytes] = {}
        """State roots by block, as they were when the block joined."""

    # -- what happens ------------------------------------------------------------------------------------

    @rule(kind=st.sampled_from(KINDS), who=users, whom=users, amount=amounts)
    def transact(self, kind: str, who: int, whom: int, amount: int) -> None:
        self.traffic.run(kind, who, whom, amount)

    @rule(who=users, whom=users, amount=amounts)
    def a_job_pays(self, who: int, whom: int, amount: int) -> None:
        self.traffic.life(who, whom, 3 * amount + 1)  # what divides by three is cancelled at once

    @rule(slots=st.integers(4, 10))
    def go_on(self, slots: int) -> None:
        """Everybody votes for some slots: blocks become final, epochs pass, rewards vest."""
        for _ in range(slots):
            self.traffic.run("vote", 0, 0, 1)

    @rule()
    def deadlines_pass(self) -> None:
        """Jobs that are open go into their challenge window, and those in it come to their end."""
        for _ in range(2):
            self.world.give(self.world.build(slot=self.world.slot_with(0, self.world.state.slot + 60)))

    @rule(who=users, whom=users, amount=amounts)
    def transfer_what_may_be_too_much(self, who: int, whom: int, amount: int) -> None:
        self.traffic.run("transfer", who, whom, 2 * amount)

    @rule(who=users, whom=users, nonce=st.integers(0, 3))
    def spoil(self, who: int, whom: int, nonce: int) -> None:
        """A block with a transaction that does not fit is refused and changes nothing."""
        world, before = self.world, self.world.state.root()
        tx = world.transfer(
            who, whom, 5000 * TOKEN, nonce=world.state.account(world.users[who].public).nonce + nonce
        )
        with pytest.raises(InvalidBlock):
            apply_block(world.state, world.reseal(world.build(), Body(txs=(tx,))))
        assert world.state.root() == before

    @precondition(lambda self: self.world.state.height > 1)
    @rule(depth=st.integers(1, 4), length=st.integers(1, 5), who=users, whom=users, amount=amounts)
    def fork(self, depth: int, length: int, who: int, whom: int, amount: int) -> None:
        """A branch of some blocks on an ancestor of the head; it may win."""
        world = self.world
        branch = list(world.chain.ancestors(world.chain.head.id))
        self.extend(branch[min(depth, len(branch) - 1)].block_id, length, who, whom, amount)

    @precondition(lambda self: self.world.state.height > 1)
    @rule(amount=amounts, length=st.integers(1, 3))
    def there_and_back(self, amount: int, length: int) -> None:
        """Two branches on the head; each overtakes the other once, where votes do not decide."""
        base = self.world.chain.head.id
        one = self.extend(base, length, 0, 1, amount)
        other = self.extend(base, length + 1, 1, 2, amount)
        one = self.extend(one, 2, 2, 0, amount)
        self.extend(other, 2, 0, 2, amount)

    def extend(self, parent: bytes, length: int, who: int, whom: int, amount: int) -> bytes:
        """Blocks on any kept block, the first one with a transfer; its last id."""
        world = self.world
        for number in range(length):
            try:
                nonce = world.chain.state(parent).account(world.users[who].public).nonce
                pay = world.transfer(who, whom, amount, nonce=nonce)
                block = world.build([pay] if number == 0 else [], parent=parent)
                world.give(block)
            except (UnknownBlock, StaleBlock):
                return parent  # what it forks off from has become final meanwhile
            parent = block.block_id
        return parent

    # -- what must hold ----------------------------------------------------------------------------------

    @invariant()
    def books_and_roots(self) -> None:
        """Of each new block: the books by its entries, and the same root from its bytes."""
        for block, state in self.world.joined:
            check_books(state)
            again = apply_block(self.states[block.prev], Block.decode(block.encode()))
            assert again.root() == state.root()
            assert again.supply() == state.supply()
            self.states[block.block_id] = again
            self.known[block.block_id] = state.root()
            self.blocks.append(block)
        self.world.joined.clear()

    @invariant()
    def the_order_of_entries_does_not_matter(self) -> None:
        state = self.world.state
        entries = rows(state)
        random.Random(state.height).shuffle(entries)
        tree = buckets.EMPTY
        half = len(entries) // 2
        for part in (entries[:half], entries[half:]):
            tree = buckets.updated(tree, dict(part))
        assert tree.hash == state._tree.hash

    @invariant()
    def an_old_state_is_what_it_was(self) -> None:
        """States share their trees: no later block, and no reorganization, may reach into an earlier one."""
        for block_id in list(self.known)[-6:]:
            if self.world.chain.has(block_id) and self.world.chain.block(block_id) is not None:
                state = self.world.chain.state(block_id)
                state._root = None
                assert state.root() == self.known[block_id]

    def teardown(self) -> None:
        """Another node gets the blocks in another order: each state that it keeps has the same root."""
        if not hasattr(self, "blocks"):
            return
        chain = Chain(self.world.genesis, 10**6)
        middle = len(self.blocks) // 2
        for block in (*self.blocks[middle:], *self.blocks[:middle]):
            try:
                self.world.give(block, chain)
            except (UnknownParent, StaleBlock):
                continue
        for block in self.blocks:
            if chain.has(block.block_id) and chain.block(block.block_id) is not None:
                assert chain.state(block.block_id).root() == self.known[block.block_id]


TestLedger: Any = pytest.mark.slow(Ledger.TestCase)
TestLedger.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)

SAME = settings(
    max_examples=300, stateful_step_count=20, deadline=None, derandomize=True, database=None,
    phases=[Phase.generate], print_blob=False,
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "right", "wrong"),
    [
        (apply_tx, "trial.credit(proposer, tx.fee)", "pass"),
        (validators.punish, "draft.books.burned += lost - reward", "pass"),
        (validators.register, 'draft.debit(tx.sender, payload.bond, "the bond")', "pass"),
        (jobs.advance, "draft.credit(job.requester, job.escrow)", "pass"),
        (jobs._pay, "job = replace(job, escrow=job.escrow - pay, paid=job.paid + pay)", "pass"),
        (rewards._pay, "draft.books.issued += amount", "pass"),
        (rewards.release, "draft.credit(public, vesting.held - left.held)", "pass"),
        (Draft.__init__, "replace(below.books)", "below.books"),
    ],
)
def test_the_machine_sees_what_is_planted(
    function: Any, right: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, function, right, wrong)
    with pytest.raises((AssertionError, ChainError)):
        run_state_machine_as_test(Ledger, settings=SAME)


@pytest.mark.slow
def test_the_books_through_rating_windows() -> None:
    """Auditors are paid, registrations and convictions lie between windows."""
    world, best, found = history(2, 150)
    assert found["AuditReveal"]
    assert found["TwoSeals"]
    states = [world.chain.state(block.block_id) for block in best if world.chain.has(block.block_id)]
    assert len(states) > 100
    for state in states:
        check_books(state)
    assert any(state.standing(keys.public).outcomes for state in states for keys in world.validators)


def test_back_and_forth_between_two_branches() -> None:
    """Without votes the heavier branch wins: five changes of the head, and each branch's root stays."""
    world = Watched()
    base = world.mine().block_id
    tips, roots, winners = [base, base], {}, []
    for turn in range(6):
        side = turn % 2
        while world.chain.head.id != tips[side] or tips[side] == base:
            pay = [
                world.transfer(
                    side, 2, 7, nonce=world.chain.state(tips[side]).account(world.users[side].public).nonce
                )
            ]
            block = world.build(pay, parent=tips[side])
            world.give(block)
            tips[side] = block.block_id
        for tip, root in roots.items():
            state = world.chain.state(tip)
            state._root = None
            assert state.root() == root
        roots[tips[side]] = world.state.root()
        winners.append(world.balance(world.users[side].public) < world.balance(world.users[1 - side].public))
        check_books(world.state)
    assert winners == [True] * 6
    assert len(set(roots.values())) == 6
