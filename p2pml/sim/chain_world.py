"""A chain of N validators on virtual time, its load, and how it fared."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from chain.crypto import H
from chain.genesis import Founder, Genesis
from chain.params import TOKEN, preset
from chain.producer import ProposerKeys
from chain.recent import Recent
from chain.transactions import Transfer, sign_tx
from p2pml.scenario.links import Link
from p2pml.sim.chain_node import ChainNode
from p2pml.sim.chain_rules import ChainRules
from p2pml.sim.world import Actor, Send, Summary, World

GENESIS_MS = 1_700_000_000_000
DEGREE = 6
"""Neighbours that each node has at least; gossip's mesh is about as wide."""
STALL_SLOTS = 10
_AMOUNT = 1000
_SHARED_OUTPUTS = 65_536


@dataclass(frozen=True, slots=True)
class ChainReport:
    """How a simulated chain fared, seen by its honest live nodes.

    Heights and depths in blocks, times in virtual seconds.
    """

    summary: Summary
    nodes: int
    slots: int
    height: int
    distinct_heads: int
    common_prefix: int
    final_height: int
    missed_slots: int
    reorgs: int
    deepest_reorg: int
    median_lag: float
    transfers_sent: int
    transfers_applied: int


class ChainWorld:
    """N validators with ratings of their own, connected at random.

    Args:
        seed: of everything.
        nodes: how many validators, n1, n2, …
        params: preset's name.
        link: everybody's access link.
        transfers_per_second: load, from and to random accounts, until `load_ends` (virtual seconds).
        liars: strategies of the validators of these names.
        followers: names of nodes without keys, which are not there at the start.
        reliable: whether a lost message is late or gone.
        share_checks: whether a sealed header that one node has checked is not checked again by others (see
            `Chain`). Nothing changes but the time that the run takes.
        votes: whether validators vote. Every vote reaches every node, so large worlds are faster without.
        idle: whether validators are silent while there is nothing to say (`chain.idle`), as real ones are;
            else each slot has a block.
    """

    def __init__(
        self,
        seed: int,
        nodes: int,
        params: str = "demo",
        link: Link | None = None,
        transfers_per_second: float = 0.0,
        load_ends: float = float("inf"),
        liars: Mapping[str, type[ChainNode]] | None = None,
        followers: Sequence[str] = (),
        *,
        reliable: bool = True,
        share_checks: bool = True,
        votes: bool = True,
        idle: bool = False,
    ) -> None:
        self._votes, self._idle = votes, idle
        self._rng = random.Random(f"{seed}/chain-world")
        self.validators = [f"n{i + 1}" for i in range(nodes)]
        self.names = [*self.validators, *followers]
        self._liars = dict(liars or {})
        self.keys = {name: keys_of(seed, name) for name in self.validators}
        self.genesis = _genesis([self.keys[name] for name in self.validators], params, self._rng)
        self._neighbours = _topology(self.names, self._rng)
        self._outputs: Recent[bytes, bytes] | None = Recent(_SHARED_OUTPUTS) if share_checks else None
        self.rules = ChainRules(self.genesis, frozenset(self.honest), self.node, lambda: self.world.heap.now)
        self.world = World(
            seed, self.names, self._make, [self.rules.check], reliable=reliable, down=followers
        )
        for name in self.names:
            self.world.network.links[name] = link or Link()
        self._senders = [name for name in self.validators if name not in self._liars]
        self._nonces = dict.fromkeys(self._senders, 0)
        if transfers_per_second > 0:
            self._schedule_load(1.0 / transfers_per_second, load_ends)

    @property
    def honest(self) -> list[str]:
        """Everybody but the liars."""
        return [name for name in self.names if name not in self._liars]

    @property
    def live(self) -> list[ChainNode]:
        """The honest nodes that are up."""
        return [self.node(name) for name in self.honest if name not in self.world.down]

    def node(self, name: str) -> ChainNode:
        """The node of that name."""
        actor = self.world.actors[name]
        assert isinstance(actor, ChainNode)
        return actor

    def run(self, seconds: float) -> ChainReport:
        """Advance and report. Raises InvariantViolated."""
        summary = self.world.run(seconds)
        live = self.live
        best = max(live, key=lambda node: node.chain.head.weight).chain
        slots = int(summary.seconds * 1000 // self.genesis.params.slot_ms)
        reorgs = [depth for depths in self.rules.reorgs.values() for depth in depths]
        return ChainReport(
            summary=summary,
            nodes=len(self.names),
            slots=slots,
            height=best.head.height,
            distinct_heads=len({node.chain.head.id for node in live}),
            common_prefix=common_prefix(live),
            final_height=min(node.chain.final_height for node in live),
            missed_slots=slots - best.head.height,
            reorgs=len(reorgs),
            deepest_reorg=max(reorgs, default=0),
            median_lag=median(best.head.height - node.chain.head.height for node in live),
            transfers_sent=sum(self._nonces.values()),
            transfers_applied=sum(
                best.state().account(self.keys[name].public).nonce for name in self._senders
            ),
        )

    def heal(self) -> None:
        """End a partition; connections that it broke are made again after a second or so."""
        heal(self.world, self.names, self.node, self._rng)

    def problems(self, report: ChainReport, *, load_is_over: bool = False) -> list[str]:
        """What went wrong although no invariant was violated: disagreement, a stall, lost transfers."""
        longest = STALL_SLOTS + (self.genesis.params.slots_per_epoch if self._idle else 0)
        stalled = max(node.chain.head.slot for node in self.live) < report.slots - longest
        found = [f"stall: no block in the last {longest} slots"] if stalled else []
        found += self.agreement(report)
        return found + (self.load_is_in(report) if load_is_over else [])

    def agreement(self, report: ChainReport, depth: int = 2) -> list[str]:
        """What speaks against the nodes being one chain at least `depth` blocks below the best head."""
        short = report.height - depth - report.common_prefix
        if short <= 0:
            return []
        return [f"disagreement: the common prefix of {len(self.live)} nodes ends {short + depth} blocks deep"]

    def load_is_in(self, report: ChainReport) -> list[str]:
        """What speaks against all the load being in blocks, once it has ended and time has passed."""
        lost = report.transfers_sent - report.transfers_applied
        return [f"lost: {lost} of {report.transfers_sent} transfers are in no block"] if lost > 0 else []

    def _make(self, name: str, rng: random.Random) -> Actor:
        kind = self._liars.get(name, ChainNode)
        return kind(
            self.genesis, self.keys.get(name), self._neighbours[name], rng, self._outputs, self._votes,
            idle=self._idle,
        )  # fmt: skip

    def _schedule_load(self, every: float, ends: float) -> None:
        def send() -> None:
            name, to = self._rng.choice(self._senders), self._rng.choice(self.validators)
            if name not in self.world.down:
                self._transfer(name, to)
            if self.world.heap.now + every < ends:
                self.world.at(self.world.heap.now + every, send)

        self.world.at(every, send)

    def _transfer(self, name: str, to: str) -> None:
        tx = sign_tx(
            self.keys[name].keypair, self.genesis.chain_id, Transfer(self.keys[to].public, _AMOUNT),
            nonce=self._nonces[name], valid_until_slot=2**40, fee=self.genesis.params.min_fee,
        )  # fmt: skip
        self._nonces[name] += 1

        def submit(now: float) -> list[Send]:
            return self.node(name).submit(tx, now)

        self.world.inject(name, submit)


def heal(world: World, names: Sequence[str], node: Callable[[str], ChainNode], rng: random.Random) -> None:
    """End a partition; every node's connections are made again after a second or so."""

    def reconnect(name: str) -> Callable[[], None]:
        return lambda: world.inject(name, node(name).reconnected)

    world.network.heal()
    for name in names:
        world.at(world.heap.now + rng.uniform(0.5, 2.0), reconnect(name))


def common_prefix(nodes: Sequence[ChainNode]) -> int:
    """The height up to which all these nodes have the same blocks."""
    low, high = 0, min(node.chain.head.height for node in nodes)
    while low < high:
        middle = (low + high + 1) // 2
        if len({node.chain.canonical_id(middle) for node in nodes}) == 1:
            low = middle
        else:
            high = middle - 1
    return low


def keys_of(seed: int, name: str) -> ProposerKeys:
    """Keys that follow from the seed and a name."""
    raw = name.encode() + seed.to_bytes(8, "big")
    return ProposerKeys.from_seeds(H("sim-key", raw), H("sim-vrf", raw))


def _genesis(keys: Sequence[ProposerKeys], params: str, rng: random.Random) -> Genesis:
    founders = tuple(
        Founder(key.public, key.vrf_public, rng.randint(5, 50), f"n{i + 1}") for i, key in enumerate(keys)
    )
    allocations = tuple((key.public, 1000 * TOKEN) for key in keys)
    return Genesis("sim", GENESIS_MS, preset(params), founders, allocations)


def _topology(names: Sequence[str], rng: random.Random) -> dict[str, list[str]]:
    """A ring, so that it is connected, and random chords up to at least DEGREE neighbours each."""
    edges = {name: {names[i - 1], names[(i + 1) % len(names)]} - {name} for i, name in enumerate(names)}
    for name in names:
        while len(edges[name]) < min(DEGREE, len(names) - 1):
            other = rng.choice(names)
            if other != name:
                edges[name].add(other)
                edges[other].add(name)
    return {name: sorted(peers) for name, peers in edges.items()}
