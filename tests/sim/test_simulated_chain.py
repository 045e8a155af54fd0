"""Chains of real validators on virtual time: faults, bad links and proposers that break the rules."""

from __future__ import annotations

import pytest

from p2pml.scenario.links import Link
from p2pml.sim.chain_liars import (
    LIARS,
    DoubleVoter,
    Equivocator,
    FutureProposer,
    InvalidBodyProposer,
    Withholder,
)
from p2pml.sim.chain_node import ChainNode
from p2pml.sim.chain_world import ChainReport, ChainWorld

pytestmark = pytest.mark.slow

NEAR = Link(delay_ms=50, jitter_ms=10)


def healthy(world: ChainWorld, report: ChainReport, *, load_is_over: bool = False) -> None:
    assert world.problems(report, load_is_over=load_is_over) == []


@pytest.mark.parametrize("seed", range(1, 6))
def test_validators_agree_and_every_transfer_gets_in(seed: int) -> None:
    world = ChainWorld(seed, 10, link=NEAR, transfers_per_second=1.0, load_ends=60)
    report = world.run(90)
    healthy(world, report, load_is_over=True)
    assert report.height >= 43
    assert report.transfers_sent >= 55
    assert report.deepest_reorg <= 1


def test_a_crashed_node_comes_back_from_its_disk_and_catches_up() -> None:
    world = ChainWorld(3, 6, link=NEAR)
    world.run(20)
    world.world.crash("n2")
    stored = world.node("n2").chain.head.height
    world.run(60)
    assert world.node("n2").chain.head.height == stored
    world.world.restart("n2")
    assert world.node("n2").chain.head.height == stored
    healthy(world, world.run(15))
    assert world.node("n2").chain.head.height >= 40


def test_a_node_that_lost_its_disk_syncs_everything_even_what_others_no_longer_keep_in_memory() -> None:
    world = ChainWorld(4, 4, link=NEAR)
    world.run(570)
    lost = world.node("n3")
    world.world.crash("n3")
    world.world.restart("n3", disk=False)
    assert world.node("n3") is not lost
    assert world.node("n3").chain.head.height == 0
    healthy(world, world.run(30))
    assert world.node("n3").chain.head.height > 256 + 20


def test_a_node_that_was_down_from_the_start_syncs_late() -> None:
    world = ChainWorld(5, 6, link=NEAR, followers=["late"])
    world.run(60)
    world.world.restart("late")
    healthy(world, world.run(10))
    assert world.node("late").chain.head.height >= 30


def test_a_slow_node_does_not_hold_the_others_up() -> None:
    world = ChainWorld(6, 8, link=NEAR)
    world.world.slow("n1", 1.2)
    report = world.run(120)
    healthy(world, report)
    assert report.height >= 56


def test_a_frozen_node_goes_on_where_the_others_are() -> None:
    world = ChainWorld(7, 6, link=NEAR)
    world.world.at(20, lambda: world.world.pause("n4"))
    world.world.at(50, lambda: world.world.resume("n4"))
    healthy(world, world.run(80))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_two_halves_agree_after_they_heal_and_lose_no_transfer(seed: int) -> None:
    world = ChainWorld(seed, 10, link=NEAR, transfers_per_second=1.0, load_ends=70)
    halves = world.names[:5], world.names[5:]
    world.world.at(20, lambda: world.world.network.partition(halves))
    split = world.run(49)
    left, right = ([world.node(name).chain for name in half] for half in halves)
    assert len({chain.head.id for chain in left}.intersection(chain.head.id for chain in right)) == 0
    assert split.height - split.common_prefix > 5
    world.heal()
    report = world.run(61.5)  # in the middle of a slot: the last block is everywhere
    healthy(world, report, load_is_over=True)
    assert report.distinct_heads == 1
    assert report.deepest_reorg > 3


@pytest.mark.parametrize("reliable", [True, False])
def test_lossy_links(reliable: bool) -> None:
    lossy = Link(delay_ms=80, jitter_ms=40, loss=0.1)
    world = ChainWorld(9, 10, link=lossy, transfers_per_second=0.5, reliable=reliable)
    report = world.run(120)
    healthy(world, report)
    assert report.height >= 50


@pytest.mark.parametrize("strategy", LIARS.values(), ids=LIARS.keys())
@pytest.mark.parametrize("seed", [1, 2])
def test_honest_nodes_agree_although_a_quarter_breaks_the_rules(seed: int, strategy: type[ChainNode]) -> None:
    world = ChainWorld(
        seed, 8, link=NEAR, transfers_per_second=0.5, load_ends=90, liars={"n2": strategy, "n5": strategy}
    )
    report = world.run(120)
    healthy(world, report, load_is_over=True)
    assert report.height >= 45
    assert report.height - report.final_height <= 6, "the honest three quarters go on making blocks final"
    if strategy is Equivocator:
        assert report.reorgs > 0, "the strategy had no effect at all"
    if strategy is DoubleVoter:
        assert all(len(node.chain.votes.convicted) == 2 for node in world.live)
    if strategy is InvalidBodyProposer:
        assert report.reorgs == 0
    if strategy is FutureProposer:
        # Nothing is taken early (an invariant). But it seals slots more than twice, so that gossip ignores
        # its later seals: what it builds on those comes by sync, as if it had been withheld.
        assert report.deepest_reorg <= FutureProposer.AHEAD


@pytest.mark.parametrize("seed", [1, 2])
def test_votes_take_from_withholding_what_it_gains(seed: int) -> None:
    """Blocks that were held back make the others revert theirs, unless votes stand behind those."""
    depths = []
    for votes in (True, False):
        liars = {"n2": Withholder, "n5": Withholder}
        depths.append(ChainWorld(seed, 8, link=NEAR, liars=liars, votes=votes).run(120).deepest_reorg)
    assert depths[0] <= 1 < 1 + depths[1]


@pytest.mark.parametrize(("minority", "seed"), [(5, 1), (5, 2), (3, 3)])
def test_a_partition_makes_final_at_most_on_one_side_and_both_sides_agree_afterwards(
    minority: int, seed: int
) -> None:
    world = ChainWorld(seed, 10, link=NEAR)
    ratings = {founder.public: founder.rating for founder in world.genesis.validators}
    names = sorted(world.names, key=lambda name: ratings[world.keys[name].public])
    few, many = names[:minority], names[minority:]
    share = sum(ratings[world.keys[name].public] for name in many) / sum(ratings.values())
    world.run(20)
    before = {name: world.node(name).chain.final_height for name in names}
    world.world.network.partition([few, many])
    world.run(40)
    grown = {name: world.node(name).chain.final_height - before[name] for name in names}
    assert max(grown[name] for name in few) <= 2, "less than a third makes nothing final"
    if share >= 2 / 3:
        assert min(grown[name] for name in many) >= 10, "two thirds go on"
    world.heal()
    report = world.run(30.5)
    healthy(world, report)
    assert report.height - report.final_height <= 4


@pytest.mark.parametrize("down", [3, 4])
def test_finality_stands_still_without_two_thirds_and_catches_up(down: int) -> None:
    world = ChainWorld(8, 10, link=NEAR)
    ratings = {founder.public: founder.rating for founder in world.genesis.validators}
    names = sorted(world.names, key=lambda name: -ratings[world.keys[name].public])[:down]
    world.run(20)
    for name in names:
        world.world.crash(name)
    still = world.run(5).final_height
    gone = sum(ratings[world.keys[name].public] for name in names) / sum(ratings.values())
    assert gone > 1 / 3
    report = world.run(40)
    assert report.final_height - still <= 1
    assert report.height > still + 8, "blocks go on"
    for name in names:
        world.world.restart(name)
    report = world.run(25)
    healthy(world, report)
    assert report.height - report.final_height <= 4


def test_sharing_header_checks_changes_nothing_but_the_time() -> None:
    runs = [ChainWorld(11, 5, link=NEAR, share_checks=share).run(30).summary for share in (True, False)]
    assert runs[0] == runs[1]
