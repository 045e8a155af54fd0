"""Wrong clocks in a whole network, on virtual time: they neither stop finality nor take part in it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from p2pml.net.clock import Offsets, Sample
from p2pml.node.clock_watch import ClockWatch
from p2pml.node.events import Events
from p2pml.sim.consensus_world import CALM, ConsensusWorld, Trial
from p2pml.sim.direct_node import DirectNode
from p2pml.sim.shortcuts import shared_transitions, stubbed_crypto
from p2pml.sim.world import Actor

pytestmark = pytest.mark.slow

TRIAL = replace(CALM, validators=13, slots=50, params="demo", load=0.25, weights=(100,) * 13)


class Watching(DirectNode):
    """A validator that compares its clock with the others' and heeds what it finds, as the node does."""

    wrong = False

    def watch(self, others: list[float]) -> None:
        """By an exchange with each of these clocks (seconds ahead of virtual time)."""
        offsets, watch = Offsets(), ClockWatch(Events(), self.genesis.params.skew_ms)
        for peer, other in enumerate(others):
            sent, there = 50 + self._clock, 50.1 + other
            offsets.add(str(peer), Sample.of(sent, there, there, sent + 0.2), 0.0)
        watch.heard(offsets.estimate(1.0))
        self.wrong = watch.wrong
        if watch.wrong:
            self.keys, self.votes = None, False


class SkewedWorld(ConsensusWorld):
    """Validators whose clocks are off by so many milliseconds."""

    def __init__(self, trial: Trial, clocks_ms: list[float]) -> None:
        self.clocks = [each / 1000 for each in clocks_ms]
        super().__init__(1, trial)

    def _make(self, name: str, rng: random.Random) -> Actor:
        place = self.names.index(name)
        others = [other for other in self.names if other != name]
        neighbours = sorted(rng.sample(others, 6))
        keys, clock = self.keys[name], self.clocks[place]
        node = Watching(self.genesis, keys, neighbours, rng, clock, others, self._shared)
        node.watch([*self.clocks[:place], *self.clocks[place + 1 :]])
        return node


def test_clock_skew_of_many() -> None:
    """Four of thirteen clocks are off by more than an eighth of a slot, the others by almost that much."""
    skew = 2000 // 8
    spread = [skew * 0.45 * (-1) ** i for i in range(9)]
    clocks = [*spread, 2.0 * skew, -2.0 * skew, 60_000.0, -1500.0]
    with stubbed_crypto(), shared_transitions():
        world = SkewedWorld(TRIAL, clocks)
        report = world.run()
    nodes = [node for name in world.names if isinstance(node := world.node(name), Watching)]
    assert [node.wrong for node in nodes] == [False] * 9 + [True] * 4
    silent = {world.keys[name].public for name in world.names[9:]}
    chain = nodes[0].chain
    assert not {vote.voter for vote in chain.votes} & silent
    assert not {block.sealed.proposer for block in chain.ancestors(chain.head.id)} & silent
    assert report.deepest_reorg <= 1
    assert chain.state().finality.final.number >= TRIAL.slots - 6
    proposers = {block.sealed.proposer for block in chain.ancestors(chain.head.id)}
    assert {node.keys.public for node in nodes if node.keys} == proposers, "each of the others takes part"
