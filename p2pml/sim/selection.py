"""Four ways to say whose block it is, on one workload: rating, the richest, everybody alike, proof of work.

The first three run on the chain core, with the same validators, ratings, balances, links, clocks and
transfers. Proof of work is `proof_of_work`: hash rates for ratings, without transfers. What a block costs
is measured with real signatures, VRF proofs and hashes, apart from the runs.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from chain.crypto import verify
from chain.genesis import Genesis
from chain.params import preset
from chain.producer import ProposerKeys, seal
from chain.state import genesis_state
from chain.transition import apply_block
from chain.types import Block
from chain.votes import sign_vote
from p2pml.scenario.links import Link
from p2pml.sim.consensus_report import gini
from p2pml.sim.consensus_world import ConsensusWorld, Trial
from p2pml.sim.energy import Meter
from p2pml.sim.proof_of_work import mine
from p2pml.sim.shortcuts import shared_transitions, stubbed_crypto

RULES = ("rating", "richest", "uniform", "work")
_COST_SLOTS = 12


@dataclass(frozen=True, slots=True)
class RuleResult:
    """How a rule fared on one seed; shares and Gini coefficients 0..1, depths in blocks.

    Args:
        how: what stood for the rule in this run.
        blocks: share of the blocks of each validator, in their order; `weights` what the rule went by.
        rewards_gini: of what validators earned; for `work` of the blocks, each with the same reward.
        missed: share of slots without a block that lasted.
        stale: of all blocks, the share that did not last.
    """

    rule: str
    how: str
    blocks: list[float]
    weights: list[float]
    blocks_gini: float
    weights_gini: float
    rewards_gini: float
    missed: float
    stale: float
    reorgs: int
    deepest_reorg: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What one block costs a network of so many validators; CPU seconds, joules where they can be read.

    Args:
        propose: by its proposer: draw, VRF proof, seal.
        check: by each node: the block and the votes in it.
        vote: by each voter.
        network: all together; for `work` the hashing that finds a block here, and checking nothing.
        joules: of the processor package while one proposed, one checked and all voted, or while they hashed;
            None where it does not tell.
        full_scale: for `work`, if each validator hashed on one core for the whole slot, as miners do.
    """

    rule: str
    validators: int
    propose: float
    check: float
    vote: float
    network: float
    joules: float | None
    full_scale: float


def compare(seed: int, trial: Trial) -> list[RuleResult]:
    """All rules on one seed. Ratings and balances are drawn apart, both with a long tail."""
    rng = random.Random(f"{seed}/selection")
    ratings = [max(1, round(1000 * rng.lognormvariate(0, 0.7))) for _ in range(trial.validators)]
    balances = [max(1, round(1000 * rng.paretovariate(1.16))) for _ in range(trial.validators)]
    trial = replace(trial, weights=tuple(ratings), balances=tuple(balances))
    results = [_drawn(seed, "rating", "the core's draw by rating", trial, ratings)]
    theirs = replace(trial, selection="richest")
    results.append(_drawn(seed, "richest", "the core's richest accounts", theirs, ratings, balances))
    alike = [1000] * trial.validators
    results.append(_drawn(seed, "uniform", "the core's draw, all ratings alike", trial, alike))
    return [*results, _work(seed, trial, ratings)]


def _drawn(
    seed: int, rule: str, how: str, trial: Trial, ratings: Sequence[int], by: Sequence[int] | None = None
) -> RuleResult:
    with stubbed_crypto(), shared_transitions():
        world = ConsensusWorld(seed, replace(trial, weights=tuple(ratings)))
        found = world.run()
    weights = ratings if by is None else by
    kept = trial.slots - found.missed
    return RuleResult(
        rule=rule,
        how=how,
        blocks=list(found.blocks.values()),
        weights=[weight / sum(weights) for weight in weights],
        blocks_gini=found.blocks_gini,
        weights_gini=gini(weights),
        rewards_gini=found.rewards_gini,
        missed=found.missed / trial.slots,
        stale=found.stale / max(1, kept + found.stale),
        reorgs=found.reorgs,
        deepest_reorg=found.deepest_reorg,
    )


def _work(seed: int, trial: Trial, ratings: Sequence[int]) -> RuleResult:
    low, high = trial.latency_ms
    link = Link(delay_ms=(low + high) / 2, jitter_ms=(high - low) / 2, loss=trial.loss)
    found = mine(seed, ratings, trial.slots, preset(trial.params).slot_ms / 1000, link)
    return RuleResult(
        rule="work",
        how="real SHA-256, hash rates := ratings, no absences, no transfers",
        blocks=found.blocks,
        weights=[rating / sum(ratings) for rating in ratings],
        blocks_gini=found.blocks_gini,
        weights_gini=gini(ratings),
        rewards_gini=found.blocks_gini,
        missed=found.slots_without / trial.slots,
        stale=found.stale / max(1, found.blocks_found),
        reorgs=found.reorgs,
        deepest_reorg=found.deepest_reorg,
    )


def costs(seed: int, trial: Trial) -> list[Cost]:
    """Of a block by draw (rating, richest and uniform differ in a table and in the hashes of the draw, which
    cost next to nothing) and of one by work.
    """
    short = replace(trial, slots=_COST_SLOTS, loss=0.0, churn=0.0)
    world = ConsensusWorld(seed, short)
    world.run()
    blocks = [world.watch.blocks[block_id].block for block_id in world.watch.final[1:]]
    return [_cost_of_draw(world.genesis, list(world.keys.values()), blocks), _cost_of_work(seed, trial)]


def _cost_of_draw(genesis: Genesis, keys: Sequence[ProposerKeys], blocks: Sequence[Block]) -> Cost:
    """Everything again, with nothing remembered of signatures."""
    by_public, chain_id = {key.public: key for key in keys}, genesis.chain_id
    fresh = [Block.decode(block.encoded) for block in blocks]
    votes = [vote for block in fresh for vote in block.body.votes]
    states = [genesis_state(genesis)]
    with Meter() as checking:
        for block in fresh:
            states.append(apply_block(states[-1], block))
        assert all(verify(vote.voter, vote.signing_bytes(chain_id), vote.signature) for vote in votes)
    with Meter() as proposing:
        for state, block in zip(states, fresh, strict=False):
            slot, proposer = genesis.slot_at(block.sealed.timestamp_ms), by_public[block.sealed.proposer]
            seal(state, slot, block.sealed.rank, proposer, block.body)
    with Meter() as voting:
        for vote in votes:
            sign_vote(by_public[vote.voter].keypair, chain_id, vote.slot, vote.link, vote.head)
    count = max(1, len(blocks))
    propose, check = proposing.cpu_seconds / count, checking.cpu_seconds / count
    vote_once = voting.cpu_seconds / max(1, len(votes))
    energy = [meter.joules for meter in (checking, proposing, voting) if meter.joules is not None]
    return Cost(
        rule="rating",
        validators=len(keys),
        propose=propose,
        check=check,
        vote=vote_once,
        network=propose + len(keys) * (check + vote_once),
        joules=sum(energy) / count if energy else None,
        full_scale=0.0,
    )


def _cost_of_work(seed: int, trial: Trial) -> Cost:
    """The hashing of a run; virtual delivery costs next to nothing."""
    slot_s = preset(trial.params).slot_ms / 1000
    with Meter() as meter:
        found = mine(seed, [1], 20, slot_s, Link())
    spent = meter.cpu_seconds / max(1, found.height)
    return Cost(
        rule="work",
        validators=trial.validators,
        propose=spent,
        check=0.0,
        vote=0.0,
        network=spent,
        joules=None if meter.joules is None else meter.joules / max(1, found.height),
        full_scale=trial.validators * slot_s,
    )
