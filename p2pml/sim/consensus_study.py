"""The consensus studies: which trials with which seeds, run side by side, and what they are together."""

from __future__ import annotations

import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from statistics import mean, stdev
from typing import Any

from chain.params import preset
from p2pml.sim import selection
from p2pml.sim.consensus_world import CALM, ConsensusWorld, Trial
from p2pml.sim.shortcuts import shared_transitions, stubbed_crypto
from p2pml.sim.tail import RANDAO, bias
from p2pml.sim.world import InvariantViolated

STUDIES = ("rules", "faults", "partitions", "attacks", "large")
COALITIONS = (0.2, 0.3)
_TAIL_EPOCHS = 20_000
_NOTES = (
    "Signatures and VRF are keyed hashes (p2pml.sim.shortcuts); costs of a block are of real ones.",
    "Each message goes to each node once, with a sampled latency, or is lost; nothing is relayed.",
    "A block is executed once per process and its state shared: that nodes agree on it is not tested here.",
)


@dataclass(frozen=True, slots=True)
class Task:
    """One run: a part of a study, of one seed."""

    study: str
    part: str
    seed: int
    trial: Trial


def tasks(study: str, seeds: Sequence[int], validators: int, slots: int) -> Iterator[Task]:
    """The runs of a study. `large` has a size of its own, 200 validators and 500 slots, and one seed only."""
    if study == "large":
        yield Task(study, "large", seeds[0], Trial(validators=200, slots=500))
        return
    for part, trial in _parts(study, slots):
        for seed in seeds:
            yield Task(study, part, seed, replace(trial, validators=validators, slots=slots))


def _parts(study: str, slots: int) -> Iterator[tuple[str, Trial]]:
    if study == "rules":
        yield "rules", Trial()
    elif study == "faults":
        yield "calm", CALM
        yield "faults", Trial()
    elif study == "partitions":
        cut = Trial(churn=0.0, split_from=slots // 10, split_slots=slots * 6 // 10)
        yield "split 50/50", replace(cut, split=0.5)
        yield "split 70/30", replace(cut, split=0.7)
        yield "split 50/50 beyond expiry", replace(cut, split=0.5, expires=_amid(cut))
    elif study == "attacks":
        for share in COALITIONS:
            for strategy in ("", "withholding", "equivocation", "ex-ante", "tail"):
                trial = replace(CALM, coalition=share, strategy=strategy)
                yield f"{strategy or 'honest'} {share:.0%}", trial
            bare = replace(CALM, coalition=share, strategy="ex-ante", boost_percent=0)
            yield f"ex-ante without boost {share:.0%}", bare


def _amid(cut: Trial) -> int:
    """Finalized epochs that would have passed early in the partition, if something became final in it."""
    per_epoch = preset(cut.params).slots_per_epoch
    return cut.split_from // per_epoch + max(1, cut.split_slots // per_epoch // 3)


Rows = list[dict[str, Any]]


def run_tasks(work: Sequence[Task], jobs: int, run: Callable[[Task], Rows]) -> Iterator[Rows]:
    """All of them by `run`, which other processes must be able to import, `jobs` at a time, in the order
    given; one row per run, several for `rules`.
    """
    if jobs == 1:
        yield from map(run, work)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(run, work)


def run_task(task: Task) -> Rows:
    """Rows of figures; `violated` says which invariant was, where one was."""
    head = {"study": task.study, "part": task.part, "seed": task.seed}
    began = time.process_time()
    try:
        if task.study == "rules":
            found = selection.compare(task.seed, task.trial)
            return [{**head, "part": result.rule, **asdict(result)} for result in found]
        with stubbed_crypto(), shared_transitions():
            world = ConsensusWorld(task.seed, task.trial)
            report = world.run()
    except InvariantViolated as error:
        return [{**head, "violated": str(error)}]
    spent = time.process_time() - began
    row = {**head, **asdict(report), **_gain(report.coalition_blocks, task.trial, report.coalition_drawn)}
    summary = row.pop("summary")
    del row["blocks"], row["rewards"]
    height = max(1, len(world.watch.final) - 1)
    return [
        {
            **row,
            "problems": problems(row, task.trial),
            "trace": summary["trace"],
            "events": summary["events"],
            "events_per_cpu_second": round(summary["events"] / spent),
            "cpu_seconds": round(spent, 2),
            "cpu_seconds_per_block": spent / height,
        }
    ]


def _gain(blocks: float, trial: Trial, drawn: float) -> dict[str, float]:
    """Share of the blocks over share of the rating, and over share of the draws, which has less noise."""
    if not trial.coalition:
        return {}
    return {"gain": blocks / trial.coalition, "gain_over_draw": blocks / drawn if drawn else 0.0}


def problems(row: Mapping[str, Any], trial: Trial) -> list[str]:
    """Which of the promises a run broke although no invariant was violated."""
    found = []
    faulty = trial.split or trial.strategy
    if not faulty and row["final_share"] < 0.95:
        found.append(f"of the slots {row['final_share']:.1%} have a final block, not 95 %")
    if not faulty and not trial.churn and not trial.loss and row["delay_p95"] > 4:
        found.append(f"time to finality: p95 is {row['delay_p95']:.2f} slots, not at most 4")
    if trial.strategy and row["final_share"] < 0.9:
        found.append(f"of the slots only {row['final_share']:.1%} have a final block, by {trial.strategy}")
    if trial.split == 0.5 and row["split_final"] > 2:
        found.append(f"half of the weight made {row['split_final']} blocks final during the partition")
    if trial.split == 0.5 and row["split_expired"]:
        found.append(f"{row['split_expired']} ratings ran out while nothing became final")
    if trial.split > 2 / 3 and row["split_final"] < trial.split_slots // 2:
        found.append(f"{trial.split:.0%} of the weight made only {row['split_final']} blocks final")
    if trial.split and row["included"] < row["transfers"]:
        found.append(f"{row['transfers'] - row['included']} transfers are in no final block")
    return found


def together(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Per part: of each figure the mean over the seeds and its standard error, where there are several."""
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if "violated" not in row:
            parts.setdefault(row["part"], []).append(row)
    found: dict[str, dict[str, Any]] = {}
    for part, each in parts.items():
        figures = [name for name, value in each[0].items() if _is_figure(name, value)]
        found[part] = {"runs": len(each)}
        for name in figures:
            values = [row[name] for row in each]
            error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
            found[part][name] = {"mean": mean(values), "error": error}
    return found


def _is_figure(name: str, value: object) -> bool:
    return isinstance(value, int | float) and name != "seed"


def document(
    studies: Sequence[str], rows: Sequence[dict[str, Any]], validators: int, slots: int, seed: int
) -> dict[str, Any]:
    """All that a results file holds."""
    found: dict[str, Any] = {
        "what": "p2pml sim consensus",
        "studies": list(studies),
        "validators": validators,
        "slots": slots,
        "notes": list(_NOTES),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count()},
        "parts": together(rows),
        "runs": list(rows),
    }
    if "rules" in studies:
        found["costs"] = [asdict(cost) for cost in selection.costs(seed, Trial(validators=validators))]
        found["joules"] = _joules(found["costs"])
    if "attacks" in studies:
        measured = [asdict(bias(seed, share, _TAIL_EPOCHS)) for share in (*sorted(RANDAO), 0.3)]
        found["tail"] = [{**each, "randao": RANDAO.get(each["weight"])} for each in measured]
    return found


def _joules(costs: Sequence[Mapping[str, Any]]) -> str:
    told = any(cost["joules"] is not None for cost in costs)
    return "RAPL, the whole processor package" if told else "this machine does not tell them (RAPL)"


def failures(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What went wrong, with the seed that repeats it."""
    found = []
    for row in rows:
        told = [row["violated"]] if "violated" in row else row.get("problems", [])
        found += [f"{row['part']}, seed {row['seed']}: {each}" for each in told]
    return found
