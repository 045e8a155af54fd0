"""Deliberate bugs, one at a time, in the real cores: the simulator must see each of them.

A bug is a line of the core, replaced in the function's own source and compiled in its own module. Without
the bug the same scenario passes. The list is explained in docs/guide/simulator.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from chain import finality, transition
from chain.forkchoice import Chain
from chain.mempool import Mempool
from chain.transition import apply_tx
from p2pml.scenario.links import Link
from p2pml.sim.chain_liars import FutureProposer
from p2pml.sim.chain_world import ChainWorld
from p2pml.sim.swarm_liars import POISONER
from p2pml.sim.swarm_world import SwarmWorld
from p2pml.sim.world import InvariantViolated
from tests.planting import plant
from torrent.blame import Blame
from torrent.download import Downloader
from torrent.picker import Picker
from torrent.swarm import Swarm

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Bug:
    """`right` in the source of `function` becomes `wrong`; `scenario` then says `symptom`."""

    name: str
    function: Callable[..., Any]
    right: str
    wrong: str
    scenario: Callable[[], list[str]]
    symptom: str


def split_and_heal() -> list[str]:
    """Ten validators in two halves for 30 s, with load; slow links, so that ranks compete for slots."""
    world = ChainWorld(5, 10, link=Link(delay_ms=700), transfers_per_second=1.0, load_ends=90)
    world.world.at(30, lambda: world.world.network.partition([world.names[:5], world.names[5:]]))
    world.world.at(60, world.heal)
    return world.problems(world.run(150), load_is_over=True)


def impatient_proposer() -> list[str]:
    """One validator publishes blocks of slots that have not begun."""
    world = ChainWorld(2, 5, link=Link(delay_ms=50), liars={"n1": FutureProposer})
    return world.problems(world.run(60))


def poisoned_swarm() -> list[str]:
    """Two leechers and four seeds on slow links, one of which sends false blocks; pieces have many
    senders.
    """
    slow = Link(rate=2_000_000, delay_ms=25)
    world = SwarmWorld(1, 2, 4, 2 * 1024 * 1024, slow, {"s2": POISONER}, piece=512 * 1024)
    return world.problems(world.run_until_done(120))


def seed_comes_and_goes() -> list[str]:
    """The only seed ends in the middle of the download and comes back."""
    world = SwarmWorld(1, 1, 1, 1024 * 1024, Link(rate=4_000_000, delay_ms=25))
    world.world.at(1.0, lambda: world.kill("s1"))
    world.world.at(10.0, lambda: world.world.restart("s1"))
    return world.problems(world.run_until_done(120))


def seed_leaves() -> list[str]:
    """The only seed leaves when each piece is on two other disks."""
    world = SwarmWorld(3, 6, 1, 1024 * 1024, Link(rate=4_000_000, delay_ms=25))
    world.leave_when_replicated("s1")
    return world.problems(world.run_until_done(120))


def halves() -> list[str]:
    """Twelve validators in two halves for 40 s: neither has two thirds."""
    world = ChainWorld(7, 12, link=Link(delay_ms=50))
    world.world.at(10, lambda: world.world.network.partition([world.names[:6], world.names[6:]]))
    world.world.at(50, world.heal)
    return world.problems(world.run(80))


BUGS = [
    Bug(
        "a third of the weight makes final",
        finality.quorum,
        "if 3 * sum(map(table.voice, voters)) < 2 * table.voices:",
        "if 3 * sum(map(table.voice, voters)) < table.voices:",
        halves,
        "made another block of height",
    ),
    Bug(
        "a block of a fallback rank weighs as much as one of rank 0",
        transition.finish,
        "(parent.table_at(slot).total >> sealed.rank)",
        "parent.table_at(slot).total",
        split_and_heal,
        "weighs",
    ),
    Bug(
        "the proposer does not get the fee",
        apply_tx,
        "trial.credit(proposer, tx.fee)",
        "pass",
        split_and_heal,
        "the books do not add up",
    ),
    Bug(
        "transactions of reverted blocks do not come back to the pool",
        Mempool.on_head,
        "for tx in block.body.txs:",
        "for tx in ():",
        split_and_heal,
        "transfers are in no block",
    ),
    Bug(
        "a block is taken before its time",
        Chain._check_time,
        "if now_ms < ready:",
        "if now_ms < 0:",
        impatient_proposer,
        "before its time",
    ),
    Bug(
        "a piece that failed its hash counts as had",
        Picker.failed,
        "self._suspect.add(index)",
        "self._stock.gain(index)",
        poisoned_swarm,
        "pieces, on its disk are",
    ),
    Bug(
        "of two peers that sent different blocks, the honest one is convicted",
        Blame.verified,
        "if digest != right[number]",
        "if digest == right[number]",
        poisoned_swarm,
        "which is honest",
    ),
    Bug(
        "what a peer was asked for stays reserved when it has left",
        Downloader._release,
        "self.picker.release(session.peer, block)",
        "pass",
        seed_comes_and_goes,
        "not complete after",
    ),
    Bug(
        "a new piece is not told to the others",
        Swarm._verified,
        "if fresh:",
        "if False:",
        seed_leaves,
        "not complete after",
    ),
]


def symptoms(scenario: Callable[[], list[str]]) -> str:
    """What the simulator says; empty when all is well."""
    try:
        return "; ".join(scenario())
    except InvariantViolated as violated:
        return str(violated)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, bug.function, bug.right, bug.wrong)
    assert bug.symptom in symptoms(bug.scenario)


@pytest.mark.parametrize("scenario", sorted({b.scenario for b in BUGS}, key=lambda s: s.__name__))
def test_without_a_bug_the_same_scenario_passes(scenario: Callable[[], list[str]]) -> None:
    assert symptoms(scenario) == ""
