"""A chain of N validators on virtual time, its load, and what must hold after every event."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from chain.crypto import H
from chain.genesis import Founder, Genesis
from chain.params import TOKEN, preset
from chain.producer import ProposerKeys
from chain.transactions import Transfer, sign_tx
from p2pml.scenario.links import Link
from p2pml.sim.chain_node import ChainNode
from p2pml.sim.world import Actor, Summary, World

GENESIS_MS = 1_700_000_000_000
DEGREE = 6
"""Neighbours that each node dials; gossip's mesh is about as wide."""


@dataclass(frozen=True, slots=True)
class ChainReport:
    """How a simulated chain fared. Heights and depths in blocks, times in virtual seconds."""

    summary: Summary
    nodes: int
    slots: int
    height: int
    distinct_heads: int
    common_prefix: int
    missed_slots: int
    reorgs: int
    deepest_reorg: int
    median_lag: float
    transfers_applied: int
    supply_exact: bool


class ChainWorld:
    """N validators with ratings of their own.

    Args:
        seed: of everything.
        nodes: how many validators.
        params: preset's name.
        link: everybody's access link.
        transfers_per_second: load, from and to random accounts.
    """

    def __init__(
        self,
        seed: int,
        nodes: int,
        params: str = "demo",
        link: Link | None = None,
        transfers_per_second: float = 0.0,
    ) -> None:
        self.rng = random.Random(f"{seed}/chain-world")
        self.names = [f"n{i + 1}" for i in range(nodes)]
        self.keys = {name: _keys(seed, name) for name in self.names}
        self.genesis = _genesis([self.keys[name] for name in self.names], params, self.rng)
        self.neighbours = _topology(self.names, self.rng)
        self._seen_heads: dict[str, tuple[int, bytes]] = {}
        self.world = World(seed, self.names, self._make, [self._supply_is_exact, self._weight_never_falls])
        for name in self.names:
            self.world.network.links[name] = link or Link()
        self._nonces = dict.fromkeys(self.names, 0)
        if transfers_per_second > 0:
            self._schedule_load(1.0 / transfers_per_second)

    def node(self, name: str) -> ChainNode:
        """The node of that name."""
        actor = self.world.actors[name]
        assert isinstance(actor, ChainNode)
        return actor

    def run(self, seconds: float) -> ChainReport:
        """Advance and report. Raises InvariantViolated."""
        summary = self.world.run(seconds)
        live = [self.node(name) for name in self.names if name not in self.world.down]
        heads = {node.chain.head.id for node in live}
        best = max(live, key=lambda node: node.chain.head.weight)
        slots = int(summary.seconds * 1000 // self.genesis.params.slot_ms)
        reorgs = [depth for node in live for depth in node.reorgs if depth]
        return ChainReport(
            summary=summary,
            nodes=len(self.names),
            slots=slots,
            height=best.chain.head.height,
            distinct_heads=len(heads),
            common_prefix=_common_prefix(live),
            missed_slots=slots - best.chain.head.height,
            reorgs=len(reorgs),
            deepest_reorg=max(reorgs, default=0),
            median_lag=median(best.chain.head.height - node.chain.head.height for node in live),
            transfers_applied=sum(
                best.chain.state().account(self.keys[name].public).nonce for name in self.names
            ),
            supply_exact=all(node.chain.state().supply_ok() for node in live),
        )

    def _make(self, name: str, rng: random.Random) -> Actor:
        return ChainNode(self.genesis, self.keys[name], self.neighbours[name], rng)

    def _schedule_load(self, every: float) -> None:
        def send() -> None:
            name, to = self.rng.choice(self.names), self.rng.choice(self.names)
            if name not in self.world.down:
                tx = sign_tx(
                    self.keys[name].keypair, self.genesis.chain_id, Transfer(self.keys[to].public, 1000),
                    nonce=self._nonces[name], valid_until_slot=2**40, fee=self.genesis.params.min_fee,
                )  # fmt: skip
                self._nonces[name] += 1
                for effect in self.node(name).submit(tx, self.world.heap.now):
                    self.world.send(name, effect.to, effect.payload)
            self.world.at(self.world.heap.now + every, send)

        self.world.at(every, send)

    # -- invariants --------------------------------------------------------------------------------------

    def _supply_is_exact(self, actors: dict[str, Actor], name: str) -> None:
        """Balances, escrow and issue add up in every state that anybody takes for the head."""
        node = self.node(name)
        if self._seen_heads.get(name, (0, b""))[1] != node.chain.head.id:
            assert node.chain.state().supply_ok(), f"supply of {name} at height {node.chain.head.height}"

    def _weight_never_falls(self, actors: dict[str, Actor], name: str) -> None:
        """A node never leaves a heavier chain for a lighter one, and its state is that of its head."""
        node = self.node(name)
        head, last = node.chain.head, self._seen_heads.get(name, (0, b""))
        fresh = len(node.reorgs) == 0
        assert fresh or head.weight >= last[0], f"{name} fell from weight {last[0]} to {head.weight}"
        assert node.chain.state().height == head.height, f"state and head of {name} differ in height"
        self._seen_heads[name] = (head.weight, head.id)


def _keys(seed: int, name: str) -> ProposerKeys:
    raw = name.encode() + seed.to_bytes(8, "big")
    return ProposerKeys.from_seeds(H("sim-key", raw), H("sim-vrf", raw))


def _genesis(keys: Sequence[ProposerKeys], params: str, rng: random.Random) -> Genesis:
    founders = tuple(
        Founder(key.public, key.vrf_public, rng.randint(5, 50), f"n{i + 1}") for i, key in enumerate(keys)
    )
    allocations = tuple((key.public, 1000 * TOKEN) for key in keys)
    return Genesis("sim", GENESIS_MS, preset(params), founders, allocations)


def _topology(names: Sequence[str], rng: random.Random) -> dict[str, list[str]]:
    """A ring, so that it is connected, and random chords up to about DEGREE neighbours each."""
    edges = {name: {names[i - 1], names[(i + 1) % len(names)]} - {name} for i, name in enumerate(names)}
    for name in names:
        while len(edges[name]) < min(DEGREE, len(names) - 1):
            other = rng.choice(names)
            if other != name:
                edges[name].add(other)
                edges[other].add(name)
    return {name: sorted(peers) for name, peers in edges.items()}


def _common_prefix(nodes: Sequence[ChainNode]) -> int:
    height = min(node.chain.head.height for node in nodes)
    while height > 0 and len({node.chain.canonical_id(height) for node in nodes}) > 1:
        height -= 1
    return height
