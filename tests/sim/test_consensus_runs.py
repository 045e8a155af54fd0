"""Consensus runs with faults, partitions and adversaries, at a reduced size; large ones are run by hand."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from chain import finality, forkchoice, ratings
from chain.draft import Draft
from chain.params import preset
from chain.state import State
from chain.weights import WeightTable
from p2pml.sim.consensus_report import ConsensusReport, gini
from p2pml.sim.consensus_study import problems
from p2pml.sim.consensus_world import CALM, ConsensusWorld, Trial
from p2pml.sim.shortcuts import shared_transitions, stubbed_crypto
from p2pml.sim.world import InvariantViolated

HALVES = Trial(
    validators=10, slots=90, params="demo", churn=0.0, skew_ms=100, load=0.25,
    split=0.5, split_from=10, split_slots=60,
)  # fmt: skip
"""Sixty slots are almost four epochs of the preset: longer than tables look ahead."""


def run(seed: int, trial: Trial) -> tuple[ConsensusReport, ConsensusWorld]:
    with stubbed_crypto(), shared_transitions():
        world = ConsensusWorld(seed, trial)
        return world.run(), world


def kept(report: ConsensusReport, trial: Trial) -> list[str]:
    return problems(asdict(report), trial)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_lossy_links_absences_wrong_clocks_and_load(seed: int) -> None:
    trial = Trial(validators=12, slots=150)
    report, _ = run(seed, trial)
    assert kept(report, trial) == []
    assert report.final_share >= 0.95
    assert report.included >= report.transfers - 5 > 500, "the load gets in"
    assert report.deepest_reorg <= 3


@pytest.mark.slow
def test_without_faults_a_block_is_final_two_slots_later() -> None:
    trial = replace(CALM, validators=10, slots=50)
    report, _ = run(3, trial)
    assert kept(report, trial) == []
    assert report.missed == 0
    assert 2 < report.delay_p50 < report.delay_p95 < 3


@pytest.mark.slow
@pytest.mark.parametrize("faults", [CALM, Trial()], ids=["calm", "faults"])
def test_with_work_in_every_slot_the_idle_rule_leaves_finality_fast(faults: Trial) -> None:
    trial = replace(faults, validators=12, slots=80, idle=True)
    report, _ = run(3, trial)
    assert kept(report, trial) == []
    assert report.missed <= (0 if faults is CALM else 4)
    assert report.included >= report.transfers - 5
    assert 2 < report.delay_p50 < 3
    assert report.delay_p95 < (3 if faults is CALM else 4)


@pytest.mark.slow
def test_halves_make_nothing_final_and_heal() -> None:
    report, world = run(1, HALVES)
    assert world.trial.split_slots > 3 * preset("demo").slots_per_epoch
    assert report.split_final <= 2
    assert kept(report, HALVES) == []
    assert report.deepest_reorg > 30, "the halves were apart"
    assert report.final_share > 0.9, "afterwards one branch becomes final, with what it did meanwhile"


OUTLIVED = replace(HALVES, expires=1)
"""At the calendar's pace the second half's ratings would end in slot 16, six slots after the cut."""


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_partition_beyond_the_expiry_of_ratings_takes_none_away_and_heals(seed: int) -> None:
    report, _ = run(seed, OUTLIVED)
    assert kept(report, OUTLIVED) == []
    assert (report.split_final, report.split_expired) == (0, 0)
    assert report.final_share >= 0.85
    assert report.expired == 5, "they end once things become final again"


@pytest.mark.slow
def test_ratings_that_end_by_the_calendar_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    expire = ratings.expire

    def by_calendar(draft: Draft) -> None:
        epochs, draft.epochs = draft.epochs, draft._below.epoch  # type: ignore[union-attr]
        expire(draft)
        draft.epochs = epochs

    monkeypatch.setattr(ratings, "expire", by_calendar)
    report, _ = run(1, OUTLIVED)
    assert kept(report, OUTLIVED) == ["5 ratings ran out while nothing became final"]


@pytest.mark.slow
def test_the_richest_make_blocks_and_they_become_final() -> None:
    balances = tuple(range(100, 200, 10))
    trial = replace(CALM, validators=10, slots=60, params="report", selection="richest", balances=balances)
    report, world = run(4, trial)
    assert kept(report, trial) == []
    made = [report.blocks[name] for name in world.names]
    assert made[-1] > 0.95
    assert sum(made[-3:]) == pytest.approx(1), "rank 0, and its fallbacks"
    assert report.rewards_gini > 0


@pytest.mark.slow
def test_seven_tenths_go_on() -> None:
    trial = replace(HALVES, split=0.7)
    report, _ = run(1, trial)
    assert kept(report, trial) == []
    assert report.split_final >= 50


@pytest.mark.slow
def test_a_third_as_quorum_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def third(voters: frozenset[bytes], link: object, params: object, table_of: object) -> bool:
        table: WeightTable = table_of(0)  # type: ignore[operator]
        return 3 * sum(map(table.voice, voters)) >= table.voices

    monkeypatch.setattr(finality, "quorum", third)
    with pytest.raises(InvariantViolated, match=r"made another block of height \d+ final"):
        run(1, HALVES)


@pytest.mark.slow
def test_wrong_books_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    credit = Draft.credit
    monkeypatch.setattr(Draft, "credit", lambda self, public, amount: credit(self, public, amount + 1))
    monkeypatch.setattr(State, "supply_ok", lambda self: True)
    with pytest.raises(InvariantViolated, match="the books at height"):
        run(1, replace(CALM, validators=4, slots=20))


@pytest.mark.slow
def test_sharing_transitions_changes_nothing_and_spares_work(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial(validators=6, slots=20)
    calls = []
    insert = forkchoice.Chain._insert

    def counting(self: forkchoice.Chain, *arguments: object, **named: object) -> object:
        outcome = insert(self, *arguments, **named)  # type: ignore[arg-type]
        calls.append(id(outcome.state))
        return outcome

    monkeypatch.setattr(forkchoice.Chain, "_insert", counting)
    with stubbed_crypto():
        alone = ConsensusWorld(1, trial).run().summary
        own = len(set(calls)) / len(calls)
        calls.clear()
        with shared_transitions():
            shared_world = ConsensusWorld(1, trial)
            together = shared_world.run().summary
    assert together == alone
    assert len(calls) > 5 * len(shared_world.watch.blocks)
    assert len(set(calls)) == len(shared_world.watch.blocks) < own * len(calls)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["withholding", "equivocation", "ex-ante", "tail"])
def test_a_coalition_gains_nothing_to_speak_of(strategy: str) -> None:
    trial = replace(CALM, validators=10, slots=64, coalition=0.2, strategy=strategy)
    report, world = run(2, trial)
    assert abs(report.coalition_weight - 0.2) < 0.001
    assert report.final_share >= 0.95
    assert report.coalition_blocks <= report.coalition_drawn + 0.01
    if strategy == "withholding":
        assert report.coalition_blocks < report.coalition_drawn / 2, "fallback ranks take the slots"
    if strategy == "equivocation":
        assert report.convicted == len(world.members)
        assert report.coalition_drawn < 0.2, "convicted members are drawn no more"


@pytest.mark.slow
def test_an_ex_ante_reorganization_needs_that_nobody_boosts_timely_blocks() -> None:
    """So much of the rating that the coalition has all early ranks of many slots."""
    trial = replace(CALM, validators=8, slots=80, coalition=0.38, strategy="ex-ante")
    boosted, bare = (run(5, replace(trial, boost_percent=boost))[0] for boost in (None, 0))
    assert bare.coalition_blocks / bare.coalition_drawn > boosted.coalition_blocks / boosted.coalition_drawn


def test_gini() -> None:
    assert gini([3, 3, 3]) == 0
    assert gini([0, 0, 0, 5]) == pytest.approx(3 / 4)
    assert gini([1, 3]) == pytest.approx(1 / 4)
    assert gini([0, 0]) == 0
