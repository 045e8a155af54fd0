"""Large consensus runs: the unchanged chain cores, direct delivery, faults by chance, and how it went."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from chain.genesis import Founder, Genesis
from chain.params import TOKEN, preset
from chain.transactions import Transfer, sign_tx
from p2pml.scenario.links import Link
from p2pml.sim.chain_world import GENESIS_MS, heal, keys_of
from p2pml.sim.coalition import STRATEGIES, Plot
from p2pml.sim.consensus_report import ConsensusReport, report
from p2pml.sim.consensus_watch import Watch
from p2pml.sim.direct_node import DirectNode, Shared
from p2pml.sim.world import Actor, World

TAIL = 8
"""Slots after those that are measured, in which the last of them can become final."""
_NEIGHBOURS = 6
_USERS = 32
_USER_BALANCE = 10_000 * TOKEN


@dataclass(frozen=True, slots=True)
class Trial:
    """One consensus run; everything else comes from the seed.

    Args:
        validators, slots: how many; slots begin at 1.
        params: preset's name.
        latency_ms: least and most of each message, uniform.
        loss: share of messages that never arrive.
        churn: share of its time that each validator is away, on average.
        outage_slots: mean length of an absence.
        skew_ms: clocks are off by up to so much, either way.
        load: transfers per second, from and to `_USERS` accounts that are no validators.
        coalition: share of the rating that one adversary has; its members come first: n1, n2, …
        strategy: the coalition's, of `coalition.STRATEGIES`; empty when it is honest.
        boost_percent: instead of the preset's.
        split: share of the rating on the first side of a partition, 0 for none.
        split_from, split_slots: when the partition begins, and how long it lasts.
        expires: after so many finalized epochs the ratings of the partition's second side end; 0 for never.
        selection: how proposers are drawn, one of the core's ways.
        weights: the validators' ratings instead of random ones.
        balances: what each validator owns at the start, tokens; nothing by default.
        idle: whether validators are silent while there is nothing to say (`chain.idle`), as real ones are;
            the studies count slots, so there each has a block.
    """

    validators: int = 40
    slots: int = 300
    params: str = "lab"
    latency_ms: tuple[float, float] = (50.0, 300.0)
    loss: float = 0.01
    churn: float = 0.05
    outage_slots: float = 10.0
    skew_ms: float = 250.0
    load: float = 1.0
    coalition: float = 0.0
    strategy: str = ""
    boost_percent: int | None = None
    split: float = 0.0
    split_from: int = 0
    split_slots: int = 0
    expires: int = 0
    selection: str = "rating"
    weights: tuple[int, ...] = ()
    balances: tuple[int, ...] = ()
    idle: bool = False


CALM = Trial(loss=0.0, churn=0.0)
"""Without faults: only latency, clocks that are off, and load."""


class ConsensusWorld:
    """The validators n1, n2, … of one trial.

    Args:
        seed: of everything.
        trial: what happens.
    """

    def __init__(self, seed: int, trial: Trial) -> None:
        self.trial = trial
        self._rng = random.Random(f"{seed}/consensus-world")
        self.names = [f"n{i + 1}" for i in range(trial.validators)]
        self.keys = {name: keys_of(seed, name) for name in self.names}
        self.members = self.names[: round(trial.coalition * trial.validators)]
        self.sides = _sides(self.names, trial.split)
        self.weights = dict(zip(self.names, self._weigh(), strict=True))
        self.users = [keys_of(seed, f"user {i}") for i in range(_USERS)]
        self.genesis = self._found()
        self.slot_s = self.genesis.params.slot_ms / 1000
        self._shared = Shared()
        self._plot = Plot({name: self.keys[name] for name in self.members})
        self.nonces = [0] * _USERS
        """Transfers sent, by user."""
        honest = frozenset(name for name in self.names if not trial.strategy or name not in self.members)
        self.watch = Watch(self.genesis, honest, self.node, lambda: self.world.heap.now)
        self.world = World(seed, self.names, self._make, [self.watch.check], reliable=False)
        low, high = trial.latency_ms
        link = Link(delay_ms=(low + high) / 2, jitter_ms=(high - low) / 2, loss=trial.loss)
        self.world.network.links.update(dict.fromkeys(self.names, link))
        self.split_final = 0
        """Final blocks of the partition's slots when it ended."""
        self.split_expired = 0
        """Ratings that had run out then, on the branch of whoever saw the most."""
        self._schedule()

    def node(self, name: str) -> DirectNode:
        """The node of that name."""
        actor = self.world.actors[name]
        assert isinstance(actor, DirectNode)
        return actor

    def run(self) -> ConsensusReport:
        """The whole trial. Raises InvariantViolated."""
        summary = self.world.run((self.trial.slots + TAIL) * self.slot_s)
        return report(self, summary)

    def expired(self, name: str) -> list[bytes]:
        """Accounts that lost their rating by its age, as a node's head has it."""
        state = self.node(name).chain.state()
        entries = filter(None, (state.validator(key.public) for key in self.keys.values()))
        return [entry.public for entry in entries if not entry.rating and not entry.convicted]

    # -- the cast --------------------------------------------------------------------------------------------

    def _weigh(self) -> Sequence[int]:
        """Ratings, scaled so that a coalition or a side has exactly its share, but for rounding."""
        weights = self.trial.weights or tuple(self._rng.randint(500, 5000) for _ in self.names)
        share = self.trial.coalition or self.trial.split
        if not share:
            return weights
        first = len(self.members) if self.trial.coalition else len(self.sides[0])
        factor = share * sum(weights[first:]) / ((1 - share) * sum(weights[:first]))
        return [*(round(weight * factor) for weight in weights[:first]), *weights[first:]]

    def _found(self) -> Genesis:
        params = replace(preset(self.trial.params), selection=self.trial.selection)
        if self.trial.boost_percent is not None:
            params = replace(params, boost_percent=self.trial.boost_percent)
        founders = tuple(
            Founder(self.keys[name].public, self.keys[name].vrf_public, self.weights[name], name, until)
            for until, side in zip((0, self.trial.expires), self.sides, strict=True)
            for name in side
        )
        allocations = [(user.public, _USER_BALANCE) for user in self.users]
        allocations += [
            (self.keys[name].public, tokens * TOKEN)
            for name, tokens in zip(self.names, self.trial.balances, strict=False)
        ]
        return Genesis("sim", GENESIS_MS, params, founders, tuple(allocations))

    def _make(self, name: str, rng: random.Random) -> Actor:
        others = [other for other in self.names if other != name]
        neighbours = sorted(rng.sample(others, min(_NEIGHBOURS, len(others))))
        clock = rng.uniform(-self.trial.skew_ms, self.trial.skew_ms) / 1000
        keys, shared, idle = self.keys[name], self._shared, self.trial.idle
        if self.trial.strategy and name in self.members:
            strategy = STRATEGIES[self.trial.strategy]
            member = strategy(self.genesis, keys, neighbours, rng, clock, others, shared, idle)
            member.plot = self._plot
            return member
        return DirectNode(self.genesis, keys, neighbours, rng, clock, others, shared, idle)

    # -- what happens ----------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        trial = self.trial
        if trial.load > 0:
            self._transfer(1 / trial.load)
        if trial.churn > 0:
            for name in self.names:
                self._go(name)
        if trial.split:
            start = trial.split_from * self.slot_s
            self.world.at(start, lambda: self.world.network.partition(self.sides))
            self.world.at(start + trial.split_slots * self.slot_s, self._heal)

    def _transfer(self, every: float) -> None:
        """One now and then, for as long as slots are measured."""

        def send() -> None:
            up = [name for name in self.names if name not in self.world.down]
            who, to = self._rng.sample(range(_USERS), 2)
            fee = self.genesis.params.min_fee * self._rng.randint(1, 5)
            tx = sign_tx(
                self.users[who].keypair, self.genesis.chain_id, Transfer(self.users[to].public, 1000),
                nonce=self.nonces[who], valid_until_slot=2**40, fee=fee,
            )  # fmt: skip
            self.nonces[who] += 1
            if up:
                name = self._rng.choice(up)
                self.world.inject(name, lambda now: self.node(name).submit(tx, now))
            self._transfer(every)

        if self.world.heap.now + every < self.trial.slots * self.slot_s:
            self.world.at(self.world.heap.now + every, send)

    def _go(self, name: str) -> None:
        """Away once in a while; what its disk kept is there when it comes back."""
        away = self.trial.outage_slots * self.slot_s
        leaves = self.world.heap.now + self._rng.expovariate(self.trial.churn / (1 - self.trial.churn) / away)
        comes = leaves + self._rng.expovariate(1 / away)
        self.world.at(leaves, lambda: self.world.crash(name))
        self.world.at(comes, lambda: self._come(name))

    def _come(self, name: str) -> None:
        if name in self.watch.up_since:
            self.watch.up_since[name] = self.world.heap.now
        self.world.restart(name)
        self._go(name)

    def _heal(self) -> None:
        final = [self.watch.blocks[block_id] for block_id in self.watch.final[1:]]
        self.split_final = sum(seen.slot > self.trial.split_from for seen in final)
        self.split_expired = max(len(self.expired(name)) for name in self.names)
        heal(self.world, self.names, self.node, self._rng)


def _sides(names: list[str], share: float) -> tuple[list[str], list[str]]:
    first = round(share * len(names))
    return names[:first], names[first:]
