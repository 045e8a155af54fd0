"""The books add up after any sequence of transactions, valid or not, and after any fork."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chain import vrf
from chain.crypto import Keypair
from chain.errors import InvalidError
from chain.forkchoice import Chain
from chain.params import TOKEN
from chain.quality import Baseline
from chain.state import genesis_state
from chain.training_records import (
    Commitment,
    Receipt,
    RoundRecord,
    SettledReceipt,
    receipts_root,
    settle_receipts,
)
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
)
from chain.transition import apply_block, check_tx
from chain.votes import sign_vote

FEE = TOKEN // 10
KINDS = [
    *("transfer", "register", "dataset", "open", "record", "settle", "claim", "cancel", "wait"),
    *("vote", "offend", "propose", "approve"),
]
step = st.tuples(
    st.sampled_from(KINDS),
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(1, 700 * TOKEN),
)


class Scenario:
    """Turns random steps into transactions on one world; many of them are refused."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.jobs: list[bytes] = []
        self.receipts: dict[bytes, list[Receipt]] = {}

    def run(self, kind: str, who: int, whom: int, amount: int) -> None:
        world = self.world
        user: Keypair = world.users[who]
        if kind == "wait":
            world.give(world.build(slot=world.state.slot + 1 + amount % 40))
            return
        if kind in ("vote", "offend") and world.state.height:
            self.vote(whom, twice=kind == "offend")
            return
        if kind == "record":
            self.record(whom, amount)
            return
        if kind in ("propose", "approve"):
            self.decide(kind, whom, amount)
            return
        payload = self.payload(kind, whom, amount, user)
        if payload is None:
            return
        tx = world.tx(user, payload, fee=FEE + amount % 1000)
        try:
            check_tx(world.state, tx, world.state.slot + 1)
        except InvalidError:
            pass
        else:
            if kind == "open":
                self.jobs.append(tx.id)
        world.give(world.build([tx]))

    def payload(self, kind: str, whom: int, amount: int, user: Keypair) -> Payload | None:
        world = self.world
        if kind == "transfer":
            return Transfer(world.users[whom].public, amount)
        if kind == "open":
            deadline = world.state.slot + 2 + amount % 50
            return JobOpen(b"d" * 20, bytes(32), 3, amount % 10**6, amount, deadline)
        if kind == "register":
            key = vrf.public_key(bytes([whom + 1]) * 32)
            return Register(user.public, key, "late", amount % (2 * TOKEN), world.state.height + 1)
        if kind == "dataset":
            name = f"set{amount % 5}"
            return DatasetRecord(name, (amount % 5).to_bytes(20, "big"), amount, "", True)
        if not self.jobs:
            return None
        job = self.jobs[amount % len(self.jobs)]
        receipts = self.receipts.get(job, [])
        if kind == "cancel":
            return JobCancel(job)
        if kind == "settle":
            return JobSettle(job, settle_receipts(receipts), amount % 3 == 0)
        return JobClaim(job, tuple(SettledReceipt(receipt) for receipt in receipts)) if receipts else None

    def vote(self, voter: int, twice: bool) -> None:
        """Everybody votes and a block takes the votes; one of them may contradict itself."""
        world = self.world
        vote = world.vote(voter)
        if twice:
            link = replace(vote.link, target=replace(vote.link.target, id=b"\x01" * 32))
            keys = world.validators[voter].keypair
            world.cast(sign_vote(keys, world.genesis.chain_id, vote.slot, link, vote.head))
        world.all_vote()
        world.give(world.build())
        if twice:
            assert world.state.validator(vote.voter).barred_until

    def decide(self, kind: str, voter: int, amount: int) -> None:
        """A founder proposes another baseline, or approves one that is open, out of what it earned."""
        world = self.world
        opened = world.state.governance().proposals
        change = Baseline(amount.to_bytes(20, "big"), 1, 2 + amount % 9)
        wish = opened[amount % len(opened)].id if kind == "approve" and opened else change
        tx = world.tx(world.validators[voter].keypair, ParamUpdate(wish), fee=FEE + amount % 1000)
        world.give(world.build([tx]))

    def record(self, clients: int, amount: int) -> None:
        world = self.world
        for job_id in self.jobs:
            job = world.state.job(job_id)
            requester = next(user for user in world.users if user.public == job.requester)
            receipts = []
            for client in range(clients + 1):
                trainer = world.users[client]
                work = Commitment(
                    world.genesis.chain_id, job_id, job.next_round, client, trainer.public,
                    1 + amount % 1000, job.model, bytes(32),
                )  # fmt: skip
                receipts.append(Receipt.countersign(work, trainer.sign(work.signing_bytes()), requester))
            samples = sum(receipt.commitment.samples for receipt in receipts)
            record = RoundRecord(
                job_id, job.next_round, job.model, amount.to_bytes(32, "big"), receipts_root(receipts),
                len(receipts), samples, 0, 0,
            ).signed(requester)  # fmt: skip
            block = world.build(records=[record])
            world.give(block)
            if block.body.records:
                self.receipts[job_id] = receipts


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(step, min_size=3, max_size=12))
def test_books_add_up(make_world: Any, steps: list[tuple[str, int, int, int]]) -> None:
    world = make_world()
    scenario = Scenario(world)
    for kind, who, whom, amount in steps:
        scenario.run(kind, who, whom, amount)
        state = world.state
        supply = state.supply()
        # From the entries themselves, not from the running totals.
        assert supply.balances == sum(account.balance for account in state.accounts().values())
        rewards = (state.vesting(keys.public).held for keys in world.validators)
        assert supply.vesting == sum(rewards)
        assert supply.bonds == sum(entry.bond for entry in state.validators())
        assert supply.escrow == sum(job.escrow for job in state.jobs())
        assert supply.ok
        for job in state.jobs():
            assert job.paid + job.escrow <= job.budget
    replayed = genesis_state(world.genesis)
    for block in reversed(list(world.chain.ancestors(world.chain.head.id))):
        replayed = apply_block(replayed, block)
    assert replayed.root() == world.state.root()


def test_books_add_up_on_both_sides_of_a_fork(world: Any) -> None:
    base = world.mine(world.transfer(0, 1, 5 * TOKEN))
    other = Chain(world.genesis)
    other.on_block(base, 2**60)
    world.mine(world.transfer(0, 2, 900 * TOKEN))
    tx = world.transfer(1, 2, 900 * TOKEN)
    other.on_block(world.build([tx], slot=world.slot_with(1, 30, other.state()), rank=1, chain=other), 2**60)
    for block in other.ancestors(other.head.id):
        world.give(block)
    states = [world.chain.state(), world.chain.state(other.head.id)]
    assert states[0].root() != states[1].root()
    assert all(state.supply_ok() for state in states)
