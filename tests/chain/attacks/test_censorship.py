"""Censorship at a deadline: a coalition of validators wants that a trainer is not paid.

It leaves the trainer's JOB_CLAIM out of its blocks until the challenge window is over. A slot whose first
choice belongs to it is lost for the claim; of an honest first choice it cannot take the slot. So the claim
fails with the probability that all slots of the window are the coalition's, `share ** window`: 4 x 10^-9 at
30 % and the shortest window of the presets, 16 slots.
"""

from __future__ import annotations

import random
from itertools import groupby

import pytest

from chain import lottery
from chain.entries import JobStatus
from chain.mempool import Mempool
from chain.params import PRESETS
from chain.producer import build_block
from chain.training_records import SettledReceipt
from chain.transactions import JobClaim, Tx
from chain.types import Block
from chain.weights import Weight, WeightTable
from tests.chain.conftest import JobWorld, World

SHARES = (20, 30)
CLAIM_SAMPLES = 200_000
"""Enough that the claim brings its own fee."""


def fails(share: int, window: int) -> float:
    """The probability that a claim which everybody knows when the window begins never gets in."""
    return float((share / 100) ** window)


class Court:
    """One job with a trainer who was left out, and validators of whom the first one censors its claim.

    Args:
        share: the censor's rating, per cent; the others share the rest.
        seed: another network for each, so other draws.
    """

    def __init__(self, share: int, seed: int) -> None:
        rest = (100 - share) // 2
        self.world = World(ratings=(share, rest, 100 - share - rest), users=3 + seed)
        self.job = JobWorld(self.world)
        self.censor = self.world.validators[0].public
        self.trainer = self.job.trainers[1]
        receipt = self.job.receipt(0, 1, samples=CLAIM_SAMPLES)
        self.claim: Tx = self.world.tx(self.trainer, JobClaim(self.job.id, (SettledReceipt(receipt),)))
        self.pool = Mempool()

    @property
    def open(self) -> bool:
        return bool(self.world.state.job(self.job.id).status is JobStatus.CHALLENGE)

    @property
    def paid(self) -> bool:
        return self.world.balance(self.trainer.public) > 0

    def end_job(self) -> None:
        """The requester settles without the trainer; from now on everybody has the claim."""
        self.world.mine(self.job.settle([], final=True))
        self.pool.add(self.claim, self.world.state, self.world.state.slot + 1)

    def slot(self, slot: int) -> Block:
        """The block of the slot's first choice: the censor never fails to publish one."""
        world, state = self.world, self.world.state
        keys = world.by_public[lottery.draw(state.seed_at(slot), slot, 0, state.table_at(slot)).public]
        txs = () if keys.public == self.censor else self.pool.select(state, slot)
        block: Block = build_block(world.chain, slot, 0, keys, txs)
        world.give(block)
        world.all_vote(slot)
        return block

    def play(self) -> tuple[bool, int]:
        """Slot by slot to the end of the window: whether the trainer was paid, and after how many slots."""
        self.end_job()
        waited = 0
        while self.open and not self.paid:
            waited += 1
            self.slot(self.world.state.slot + 1)
        return self.paid, waited


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("share", SHARES)
def test_censorship_at_a_deadline_by_the_presets_windows(preset: str, share: int) -> None:
    """The window's length is what protects the trainer: less than one claim in 10^8 is lost."""
    assert fails(share, PRESETS[preset].job_challenge_slots) < 1e-8
    assert fails(share, 1) == share / 100, "one slot would protect nobody"


@pytest.mark.slow
@pytest.mark.parametrize("share", SHARES)
def test_censorship_at_a_deadline_in_drawn_slots(share: int) -> None:
    """The draw gives the coalition runs of slots as often as by chance: over 50,000 slots, none of 16."""
    table = WeightTable((Weight(bytes(32), bytes(32), share), Weight(b"\xff" * 32, bytes(32), 100 - share)))
    seed = random.Random(share).randbytes(32)
    drawn = [lottery.draw(seed, slot, 0, table).public == bytes(32) for slot in range(50_000)]
    runs = [len(list(run)) for mine, run in groupby(drawn) if mine]
    for length in (1, 2, 3):
        expected = fails(share, length - 1)
        longer = sum(run >= length for run in runs) / len(runs)
        assert abs(longer - expected) < 5 * (expected * (1 - expected) / len(runs)) ** 0.5 + 1e-9
    assert max(runs) < min(params.job_challenge_slots for params in PRESETS.values())


@pytest.mark.slow
@pytest.mark.parametrize("share", SHARES)
def test_censorship_at_a_deadline(share: int) -> None:
    """Forty jobs on chains of their own: everybody is paid, as late as the coalition's share says."""
    played = [Court(share, seed).play() for seed in range(40)]
    assert all(paid for paid, _ in played)
    waited = [slots for _, slots in played]
    assert sum(slots > 1 for slots in waited) > 40 * share / 300, "the coalition did what it could"
    assert sum(waited) / len(waited) < 1.6 / (1 - share / 100)
    assert max(waited) < 16


def test_censorship_at_a_deadline_by_silence() -> None:
    """No block comes for longer than the window. It begins with the first one after the deadline, so there
    is still time for the claim.
    """
    court = Court(30, 0)
    world = court.world
    over = world.state.job(court.job.id).deadline_slot + 2 * world.genesis.params.job_challenge_slots
    world.mine(slot=world.slot_with(0, over))
    assert court.open
    court.pool.add(court.claim, world.state, world.state.slot + 1)
    while court.open and not court.paid:
        court.slot(world.state.slot + 1)
    assert court.paid
