"""Swarms in which one trait of the core shows, each a function of a seed; the tests and the table share them.

The pickers and choke rounds that the core is held against differ from it in `SwarmConfig` only: a random
picker never ends its random first pieces, a swarm without endgame asks nobody twice.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from p2pml.scenario.links import Link
from p2pml.sim.swarm_liars import FREE_RIDER, POISONER
from p2pml.sim.swarm_world import SwarmWorld
from torrent.config import SwarmConfig

KIB, MIB = 1024, 1024 * 1024
PLAIN = SwarmConfig()
RANDOM_PICKER = SwarmConfig(random_first=1 << 30)
NO_ENDGAME = SwarmConfig(endgame_copies=1)
SHORT_ROUNDS = SwarmConfig(choke_round=5.0, optimistic_round=15.0, snub_time=30.0)
"""Half as long as usual: a small torrent then sees as many turns as one of twice its size."""


def least_copies(seed: int, config: SwarmConfig = PLAIN) -> int:
    """Copies of the rarest piece among ten peers that come and go, from when the only seed has left.

    The seed leaves once it has uploaded 1.75 copies of the torrent. Every 15 s from then on a peer,
    drawn by lot, leaves for good and a new one comes. Few requests are in flight, as they are beside the many
    pieces of a real torrent.
    """
    names = [f"p{n}" for n in range(1, 16)]
    world = SwarmWorld(
        seed,
        names,
        1,
        2 * MIB,
        Link(rate=400_000, delay_ms=25),
        piece=16 * KIB,
        config=replace(config, min_depth=1, max_depth=2),
        links={"s1": Link(rate=2_000_000, delay_ms=25)},
        later=names[10:],
    )
    while sum(world.node("s1").swarm.stats(0.0).served.values()) < 1.75 * 2 * MIB:
        assert world.world.heap.now < 300, "the seed is not asked for so much"
        world.run(0.25)
    world.kill("s1")
    rng = random.Random(f"{seed}/churn")
    present, least = names[:10], min(world.copies())
    for coming in names[10:]:
        world.run(15.0)
        world.kill(present.pop(rng.randrange(len(present))))
        least = min(least, *world.copies())
        present.append(coming)
        world.world.restart(coming)
    return least


@dataclass(frozen=True)
class Riding:
    """Virtual seconds that the median of the honest peers and the free rider took."""

    median: float
    rider: float


def free_riding(seed: int) -> Riding:
    """One peer takes and never gives among twenty that trade; uplinks are scarce, downlinks are not.

    Whoever has everything leaves after 5 s, and a new peer comes in its place: there are always twenty. How
    long the rider takes is luck where it has few turns: rounds are short.
    """
    names = [f"p{n}" for n in range(1, 161)]
    world = SwarmWorld(
        seed,
        names,
        1,
        4 * MIB,
        Link(rate=200_000, delay_ms=25),
        {"p11": FREE_RIDER},
        piece=32 * KIB,
        config=replace(SHORT_ROUNDS, min_depth=4, max_depth=4),
        links={"s1": Link(rate=800_000, delay_ms=25)},
        later=names[21:],
    )
    world.world.network.sparse = 200
    world.world.network.downlinks.update(dict.fromkeys(names, 1_000_000))
    came = dict.fromkeys(names[:21], 0.0)
    took: list[float] = []
    coming = names[21:]
    while (rider := world.node("p11").done_at) is None:
        world.run(1.0)
        now = world.world.heap.now
        assert now < 3000, "the free rider never finishes"
        for name in [name for name in came if name != "p11"]:
            done = world.node(name).done_at
            if done is not None and done + 5.0 <= now:
                took.append(done - came.pop(name))
                world.kill(name)
                came[coming[0]] = now
                world.world.restart(coming.pop(0))
    return Riding(statistics.median(took) if took else rider, rider)


def optimistic_shares(seed: int, turns: int = 3) -> list[float]:
    """What each of twenty waiting peers got, as a part of their mean.

    One peer trades with four that give it much; twenty more have nothing that it wants and live on its
    optimistic slot. Its rounds are half as long as usual, to save time.
    """
    config = replace(SHORT_ROUNDS, most_slots=4)
    givers, takers = [f"g{n}" for n in range(4)], [f"t{n}" for n in range(20)]
    seconds = 15.0 * len(takers) * turns
    slot = 20_000  # bytes per second through each of five slots
    half = int(slot * seconds * 1.3) // (64 * KIB)
    world = SwarmWorld(
        seed,
        ["hub", *givers, *takers],
        [],
        2 * half * 64 * KIB,
        Link(rate=slot * 8 * 5, delay_ms=25),
        config=config,
        holds={"hub": range(half)} | dict.fromkeys(givers, range(half, 2 * half)),
        dials={"hub": []} | {name: ["hub"] for name in [*givers, *takers]},
        links=dict.fromkeys(givers, Link(rate=slot * 2, delay_ms=25)),
        later=takers,
    )
    world.run(config.optimistic_round)  # until the givers have shown themselves
    for taker in takers:
        world.world.restart(taker)
    # from the first turn on: had it begun before the observation, one taker would miss a turn and another
    # one have one more
    world.run(config.choke_round)
    before = _served(world, takers)
    world.run(seconds)
    got = [now - then for now, then in zip(_served(world, takers), before, strict=True)]
    assert not world.node("hub").complete
    return [amount * len(takers) / sum(got) for amount in got]


def _served(world: SwarmWorld, peers: Sequence[str]) -> list[int]:
    served = world.node("hub").swarm.stats(world.world.heap.now).served
    return [served.get(peer, 0) for peer in peers]


def last_pieces(seed: int, config: SwarmConfig = PLAIN) -> float:
    """Seconds for the last 2 % of 100 pieces; of four seeds one has a 25th of the others' rate."""
    world = SwarmWorld(
        seed,
        1,
        4,
        100 * 64 * KIB,
        Link(rate=2_000_000, delay_ms=25),
        links={"s2": Link(rate=80_000, delay_ms=25), "p1": Link(rate=20_000_000, delay_ms=25)},
        config=config,
    )
    world.run_until_done(300.0)
    times = world.node("p1").kept_at
    assert len(times) == 100
    return times[-1] - times[-3]


@dataclass(frozen=True)
class Poisoning:
    """`bad`: of each honest leecher that banned the poisoner, how many pieces had come false by then;
    `unbanned`: leechers that got false pieces and banned nobody; `wronged`: honest peers that were banned.
    """

    bad: list[int]
    unbanned: int
    wronged: int


def poisoning(seed: int, leechers: int = 8) -> Poisoning:
    """Ten peers: a poisoner that has everything, so many honest leechers, the rest honest seeds."""
    world = SwarmWorld(
        seed, leechers, 10 - leechers, 12 * 64 * KIB, Link(rate=4_000_000, delay_ms=25), {"s1": POISONER}
    )
    report = world.run_until_done(120.0)
    assert world.problems(report) == []
    nodes = [world.node(name) for name in world.names if name not in world.liars]
    return Poisoning(
        bad=[node.bad_before_ban["s1"] for node in nodes if "s1" in node.bad_before_ban],
        unbanned=sum(node.bad_pieces > 0 and "s1" not in node.refused for node in nodes),
        wronged=sum(bool(node.refused.keys() - world.liars.keys()) for node in nodes),
    )
