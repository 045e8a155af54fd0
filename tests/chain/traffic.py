"""Everything that a block's body can hold, at random: every transaction type, records, votes, evidence."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from chain import vrf
from chain.crypto import Keypair
from chain.forkchoice import Chain
from chain.params import TOKEN
from chain.rating.items import RatingItem
from chain.state import State
from chain.training_records import (
    Commitment,
    Receipt,
    RoundRecord,
    SettledReceipt,
    receipts_root,
    settle_receipts,
)
from chain.transactions import JobCancel, JobClaim, JobSettle, Payload, Register, Tx
from chain.types import Block
from chain.votes import sign_vote
from tests.chain.conftest import World
from tests.chain.rating_window import BRIEF, due
from tests.chain.test_supply import Scenario

PARAMS = replace(BRIEF, slots_per_epoch=4, window_every_epochs=6, job_challenge_slots=8, max_user_txs=20)
"""Borders of epochs come often, and rating windows."""
RATINGS = (10,) * 9
"""Only the first three ever lie, so that the others go on making final."""
KINDS = (
    "transfer", "register", "sponsored", "dataset", "open", "record", "settle", "claim", "end", "cancel",
    "wait", "vote", "offend", "seal twice", "a job's life", "propose", "approve",
)  # fmt: skip


class Watched(World):
    """A world that notes each block that joins its chain."""

    def __init__(self, keep: int = 10**6) -> None:
        self.joined: list[tuple[Block, State]] = []
        super().__init__(RATINGS, params=PARAMS, keep=keep)

    def build(
        self,
        txs: Iterable[Tx] = (),
        records: Iterable[RoundRecord] = (),
        slot: int | None = None,
        rank: int = 0,
        parent: bytes | None = None,
        chain: Chain | None = None,
        ratings: Iterable[RatingItem] = (),
    ) -> Block:
        """With what everybody owes a rating window, where the block's slot is in one."""
        state = (chain or self.chain).state(parent)
        slot = self.slot_with(rank, state.slot, state) if slot is None else slot
        return super().build(txs, records, slot, rank, parent, chain, (*ratings, *due(self, slot, state)))


class Traffic(Scenario):
    """Turns random steps into transactions and blocks on one world; many of them are refused."""

    def run(self, kind: str, who: int, whom: int, amount: int) -> None:
        if kind == "seal twice":
            self.seal_twice()
        elif kind == "rate":
            self.window()
        elif kind == "a job's life":
            self.life(who, whom, amount)
        elif kind == "sponsored":
            self.world.give(self.world.build([self.sponsored(who, whom, amount)]))
        else:
            super().run(kind, who, whom, amount)

    def vote(self, voter: int, twice: bool) -> None:
        """Whoever has a voice votes and a block takes the votes; one of them may contradict itself."""
        world = self.world
        votes = [world.vote(number) for number in range(len(world.validators))]
        table = world.state.table_at(world.state.slot)
        world.cast(*(vote for vote in votes if table.voice(vote.voter)))
        liar = votes[voter]
        if twice and table.voice(liar.voter):
            link = replace(liar.link, target=replace(liar.link.target, id=b"\x01" * 32))
            keys = world.validators[voter].keypair
            world.cast(sign_vote(keys, world.genesis.chain_id, liar.slot, link, liar.head))
        world.give(world.build())

    def payload(self, kind: str, whom: int, amount: int, user: Keypair) -> Payload | None:
        """As before; a job of another user is settled and ended by its own requester only now and then."""
        jobs = [job for job in self.jobs if self.world.state.job(job) is not None]
        if kind not in ("settle", "claim", "end", "cancel") or not jobs:
            return super().payload(kind, whom, amount, user) if kind != "end" else None
        job = jobs[amount % len(jobs)]
        receipts = self.receipts.get(job, [])
        if kind == "end":
            return JobSettle(job, (), True)
        if kind == "claim" and receipts:  # one that was left out of its round's tree
            late = self.receipt(job, receipts[0].commitment.round, whom + 5, 1 + amount % 1000)
            return JobClaim(job, (SettledReceipt(late),))
        return super().payload(kind, whom, amount, user)

    def sponsored(self, who: int, whom: int, amount: int) -> Any:
        """A newcomer who owns nothing, registered by a user."""
        world, newcomer = self.world, Keypair.from_seed(bytes([200 + whom]) * 32)
        sponsor = world.users[who]
        wish = Register(
            newcomer.public, vrf.public_key(bytes([210 + whom]) * 32), "new", TOKEN + amount % TOKEN,
            world.state.height + 1,
        )  # fmt: skip
        agreed = newcomer.sign(wish.signing_bytes(world.genesis.chain_id, sponsor.public))
        return world.tx(sponsor, replace(wish, consent=agreed))

    def life(self, who: int, clients: int, amount: int) -> None:
        """A job from its opening on: a round, a settlement, its end, a claim; or it is cancelled at once."""
        self.run("open", who, 0, amount)
        if not self.jobs or self.world.state.job(self.jobs[-1]) is None:
            return
        job = self.jobs[-1]
        requester = self.requester(job)
        if amount % 3 == 0:
            self.world.give(self.world.build([self.world.tx(requester, JobCancel(job))]))
            return
        self.record(clients, amount)
        paid = settle_receipts(self.receipts.get(job, []))[:1]
        left_out = SettledReceipt(self.receipt(job, 1, 9, 10**9))
        for sender, payload in (
            (requester, JobSettle(job, paid, True)),
            (self.world.users[clients], JobClaim(job, (left_out,))),
        ):
            self.world.give(self.world.build([self.world.tx(sender, payload)]))

    def window(self) -> None:
        """Everybody votes in each slot, until a rating window has come to its end or two were void."""
        closed = self.world.state.window().funded
        for _ in range(2 * PARAMS.window_every_slots):
            if self.world.state.window().funded == closed:
                self.run("vote", 0, 0, 1)

    def seal_twice(self) -> None:
        """Two blocks of one proposer for one slot; the next block convicts it."""
        world, parent = self.world, self.world.chain.head.id
        slots = range(world.state.slot + 1, world.state.slot + 60)
        slot = next((slot for slot in slots if world.drawn(slot) in world.validators[:3]), None)
        if slot is None:  # none of the three is left in the table
            return
        for txs in ([], [world.transfer(0, 1, 5)]):
            world.give(world.build(txs, slot=slot, parent=parent))
        world.give(world.build())

    def requester(self, job: bytes) -> Keypair:
        public = self.world.state.job(job).requester
        return next(user for user in self.world.users if user.public == public)

    def receipt(self, job_id: bytes, round_: int, client: int, samples: int) -> Receipt:
        """For a trainer among the users, countersigned by the requester."""
        world, trainer = self.world, self.world.users[client % len(self.world.users)]
        work = Commitment(
            world.genesis.chain_id, job_id, round_, client, trainer.public, samples,
            world.state.job(job_id).model, bytes(32),
        )  # fmt: skip
        return Receipt.countersign(work, trainer.sign(work.signing_bytes()), self.requester(job_id))

    def record(self, clients: int, amount: int) -> None:
        """The next round of each job that runs."""
        world = self.world
        for job_id in self.jobs:
            job = world.state.job(job_id)
            if job is None:  # it was opened on a branch that lost
                continue
            samples = 1 + amount % 1000
            receipts = [
                self.receipt(job_id, job.next_round, client, samples) for client in range(clients + 1)
            ]
            record = RoundRecord(
                job_id, job.next_round, job.model, amount.to_bytes(32, "big"), receipts_root(receipts),
                len(receipts), samples * len(receipts), 0, 0,
            ).signed(self.requester(job_id))  # fmt: skip
            block = world.build(records=[record])
            world.give(block)
            if block.body.records:
                self.receipts[job_id] = receipts


def history(seed: int, blocks: int) -> tuple[Watched, list[Block], Counter[str]]:
    """A chain of at least so many blocks.

    Returns:
        Its world, the best branch, oldest first, and what is in it, by name.
    """
    rng = random.Random(seed)
    world = Watched()
    traffic = Traffic(world)
    rarely = {"offend": 0.3, "seal twice": 0.3, "wait": 0.3, "rate": 0.2, "vote": 3.0}
    kinds = (*KINDS, "rate")
    weights = [rarely.get(kind, 1.0) for kind in kinds]
    while world.state.height < blocks:
        (kind,) = rng.choices(kinds, weights)
        traffic.run(kind, rng.randrange(3), rng.randrange(3), rng.randrange(1, 30 * TOKEN))
    best = list(reversed(list(world.chain.ancestors(world.chain.head.id))))
    return world, best, contents(best)


def contents(blocks: list[Block]) -> Counter[str]:
    """How many of what the bodies hold."""
    found: Counter[str] = Counter()
    for block in blocks:
        found.update(tx.type.name for tx in block.body.txs)
        found.update(type(each).__name__ for each in block.body.evidence)
        found["votes"] += len(block.body.votes)
        found["records"] += len(block.body.records)
        found.update(type(each).__name__ for each in block.body.ratings)
    return found
