"""Swarms of real machines on virtual time: faults and peers that lie, babble, keep still or only take."""

from __future__ import annotations

import pytest

from p2pml.scenario.links import Link
from p2pml.sim.swarm_liars import BABBLER, FREE_RIDER, MUTE, POISONER, Behaviour
from p2pml.sim.swarm_world import SwarmWorld, fluid_bound

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
LINK = Link(rate=4_000_000, delay_ms=25)


def finished(world: SwarmWorld, within: float = 120.0) -> float:
    report = world.run_until_done(within)
    assert world.problems(report) == []
    assert report.slowest_time is not None
    return report.slowest_time


@pytest.mark.parametrize("seed", range(1, 6))
def test_all_get_everything_in_a_small_multiple_of_the_bound(seed: int) -> None:
    world = SwarmWorld(seed, 8, 1, 2 * MIB, LINK)
    bound = fluid_bound(2 * MIB, 1, 8, 4_000_000)
    assert bound < finished(world) < 4 * bound


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_honest_leecher_bans_the_poisoner_and_nobody_else(seed: int) -> None:
    world = SwarmWorld(seed, 8, 2, 4 * MIB, LINK, {"s2": POISONER})
    finished(world)
    assert {tuple(world.node(name).refused) for name in world.leechers} == {("s2",)}
    assert world.run(0).banned_by == {"s2": 8}


@pytest.mark.parametrize(
    ("behaviour", "within"),
    [(MUTE, 60.0), (BABBLER, 40.0), (FREE_RIDER, 40.0)],
    ids=["mute", "babbler", "rider"],
)
def test_the_honest_finish_beside_one_who_does_not_play(behaviour: Behaviour, within: float) -> None:
    liar = "p3" if behaviour is FREE_RIDER else "s2"
    world = SwarmWorld(4, 8, 2, 2 * MIB, LINK, {liar: behaviour})
    finished(world, within)
    assert world.run(0).banned_by == {liar: 0}


@pytest.mark.parametrize("powerless", [True, False], ids=["power cut", "kill -9"])
def test_a_leecher_that_crashes_goes_on_with_what_its_disk_kept(powerless: bool) -> None:
    world = SwarmWorld(6, 4, 1, 4 * MIB, LINK)
    world.run(5.0)
    kept = dict(world.node("p2").disk)
    assert 0 < len(kept) < world.metainfo.piece_count
    if powerless:
        world.world.crash("p2")
    else:
        world.kill("p2")
    world.run(10.0)
    world.world.restart("p2")
    assert world.node("p2").disk == kept
    finished(world)
    assert world.node("p2").complete
    assert kept.items() <= world.node("p2").disk.items()


def test_a_leecher_that_lost_its_disk_begins_anew() -> None:
    world = SwarmWorld(7, 4, 1, 2 * MIB, LINK)
    world.run(4.0)
    world.kill("p1")
    world.world.restart("p1", disk=False)
    assert not world.node("p1").disk
    finished(world)


def test_the_seed_leaves_when_each_piece_exists_twice() -> None:
    world = SwarmWorld(8, 6, 1, 2 * MIB, LINK)
    world.leave_when_replicated("s1")
    finished(world)
    assert "s1" in world.world.down


def test_a_partition_breaks_connections_and_the_swarm_goes_on_after_it() -> None:
    world = SwarmWorld(9, 6, 1, 2 * MIB, LINK)
    world.world.at(2.0, lambda: world.world.network.partition([["s1", "p1", "p2"], ["p3", "p4", "p5", "p6"]]))
    world.world.at(30.0, world.world.network.heal)
    assert finished(world, 300.0) > 30.0


def test_a_lossy_link_only_takes_longer() -> None:
    assert finished(SwarmWorld(10, 4, 1, MIB, Link(rate=4_000_000, delay_ms=25, loss=0.02))) < 60
