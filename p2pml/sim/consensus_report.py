"""How a consensus run went, in figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, quantiles
from typing import TYPE_CHECKING

from chain import selection
from chain.params import ChainParams
from p2pml.sim.consensus_watch import Seen
from p2pml.sim.world import Summary

if TYPE_CHECKING:
    from p2pml.sim.consensus_world import ConsensusWorld


@dataclass(frozen=True, slots=True)
class ConsensusReport:
    """How a run went, seen by its honest nodes.

    Args:
        final_share: of the measured slots, those with a final block.
        missed: measured slots without one.
        stale: blocks that were accepted somewhere and did not become final.
        delay_p50, delay_p95: slots from a block's slot until a node has it final, of the nodes that were up;
            the length of the run where nothing became final.
        reorgs, deepest_reorg: how often honest nodes reverted blocks, and how many at most.
        split_final: final blocks of the slots of the partition, as its end saw them.
        blocks_gini, rewards_gini, weights_gini: 0 when all have the same, near 1 when one has all.
        blocks, rewards: share of the final blocks and of what validators earned, by validator's name.
        transfers, included: sent, and in final blocks.
        coalition_weight, coalition_drawn, coalition_blocks: the adversary's share of the rating, of the
            first choices of the measured slots, and of the final blocks.
        convicted: validators that lost their rating by evidence.
        split_expired, expired: validators whose rating had run out when the partition ended, on whichever
            branch, and at the end.
    """

    summary: Summary
    final_share: float
    missed: int
    stale: int
    delay_p50: float
    delay_p95: float
    reorgs: int
    deepest_reorg: int
    split_final: int
    blocks_gini: float
    rewards_gini: float
    weights_gini: float
    blocks: dict[str, float]
    rewards: dict[str, float]
    transfers: int
    included: int
    coalition_weight: float
    coalition_drawn: float
    coalition_blocks: float
    convicted: int
    split_expired: int
    expired: int


def report(world: ConsensusWorld, summary: Summary) -> ConsensusReport:
    """The figures of a world that has run."""
    watch, trial = world.watch, world.trial
    final = [watch.blocks[block_id] for block_id in watch.final[1:]]
    measured = [seen for seen in final if seen.slot <= trial.slots]
    named = {key.public: name for name, key in world.keys.items()}
    made = Counter(named[seen.block.sealed.proposer] for seen in measured)
    users = {user.public for user in world.users}
    members = {world.keys[name].public for name in world.members}
    best = max(watch.up_since, key=lambda name: world.node(name).chain.final_height)
    earned, convicted = _outcome(world, best)
    delays = quantiles(watch.delays, n=100) if len(watch.delays) > 1 else [float(trial.slots)] * 99
    total, blocks = sum(world.weights.values()), max(1, len(measured))
    return ConsensusReport(
        summary=summary,
        final_share=len(measured) / trial.slots,
        missed=trial.slots - len(measured),
        stale=sum(seen.slot <= trial.slots for seen in watch.blocks.values()) - len(measured),
        delay_p50=delays[49],
        delay_p95=delays[94],
        reorgs=len(watch.reorgs),
        deepest_reorg=max(watch.reorgs, default=0),
        split_final=world.split_final,
        blocks_gini=gini([made[name] for name in world.names]),
        rewards_gini=gini(list(earned.values())),
        weights_gini=gini(list(world.weights.values())),
        blocks={name: made[name] / blocks for name in world.names},
        rewards={name: earned[name] / max(1, sum(earned.values())) for name in world.names},
        transfers=sum(world.nonces),
        included=sum(tx.sender in users for seen in final for tx in seen.block.body.txs),
        coalition_weight=sum(world.weights[name] for name in world.members) / total,
        coalition_drawn=_drawn(measured, members, trial.slots, world.genesis.params),
        coalition_blocks=sum(made[name] for name in world.members) / blocks,
        convicted=convicted,
        split_expired=world.split_expired,
        expired=len(world.expired(best)),
    )


def _outcome(world: ConsensusWorld, best: str) -> tuple[dict[str, int], int]:
    """What each validator earned, and how many were convicted, to the node of that name.

    Transfers are between others: what a validator has more than at first, it earned.
    """
    state = world.node(best).chain.state()
    first = dict(world.genesis.allocations)
    keys = {name: world.keys[name].public for name in world.names}
    owned = {name: state.account(key).balance + state.vesting(key).held for name, key in keys.items()}
    earned = {name: owned[name] - first.get(key, 0) for name, key in keys.items()}
    entries = [state.validator(key) for key in keys.values()]
    return earned, sum(entry is not None and entry.barred_until > 0 for entry in entries)


def _drawn(final: Sequence[Seen], members: set[bytes], slots: int, params: ChainParams) -> float:
    """Of the slots of all epochs with a final block, the share with a member as first choice."""
    draw, per_epoch = selection.RULES[params.selection].draw, params.slots_per_epoch
    draws = {seen.slot // per_epoch: seen for seen in final}
    mine = [
        draw(draws[slot // per_epoch].seed, slot, 0, draws[slot // per_epoch].table).public in members
        for slot in range(1, slots + 1)
        if slot // per_epoch in draws
    ]
    return sum(mine) / max(1, len(mine))


def gini(values: Sequence[float]) -> float:
    """Mean difference of all pairs over twice the mean: 0 for equal values, (n - 1)/n when one has all."""
    if not sum(values):
        return 0.0
    ordered, count = sorted(values), len(values)
    ranked = sum((2 * place - count + 1) * value for place, value in enumerate(ordered))
    return ranked / (count * count * mean(ordered))
