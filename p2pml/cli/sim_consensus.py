"""`p2pml sim consensus`: large consensus runs, selection rules side by side, adversaries, partitions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from p2pml.cli.options import JsonOption
from p2pml.cli.output import emit, emit_json, say
from p2pml.errors import ExitCode, UserError


def consensus(
    study: Annotated[
        list[str] | None,
        typer.Option(
            "--study", help="rules (default), faults, partitions, attacks, large, or all; repeatable"
        ),
    ] = None,
    validators: Annotated[int, typer.Option("--validators", min=4, max=1000, help="how many")] = 16,
    slots: Annotated[int, typer.Option("--slots", min=20, help="slots that are measured")] = 100,
    seed: Annotated[int, typer.Option("--seed", min=0, help="everything random comes from it")] = 1,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="run so many, counting up from --seed")] = 1,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="runs side by side")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="folder for consensus-….json, plots (SVG), and runs/: what ended is not run again"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare how proposers are selected, on one workload; and what faults and adversaries do to it."""
    from p2pml.sim import consensus_study as studies
    from p2pml.sim.consensus_kept import run_kept

    chosen = _chosen(study or ["rules"], studies.STUDIES)
    numbers = range(seed, seed + seeds)
    work = [task for name in chosen for task in studies.tasks(name, numbers, validators, slots)]
    say(f"{len(work)} runs, {jobs} at a time")
    run = studies.run_task if out is None else partial(run_kept, out / "runs")
    rows: list[dict[str, Any]] = []
    for number, each in enumerate(studies.run_tasks(work, jobs, run), 1):
        rows += each
        say(f"{number} of {len(work)}: {work[number - 1].part}, seed {work[number - 1].seed}")
    document = studies.document(chosen, rows, validators, slots, seed)
    if out is not None:
        _write(document, out)
    if as_json:
        emit_json(document)
    else:
        _show(document)
    if failed := studies.failures(rows):
        again = f"p2pml sim consensus --validators {validators} --slots {slots}"
        again += "".join(f" --study {name}" for name in chosen)
        raise UserError(failed[0], f"repeat it: {again} --seed N with the seed named above")


def _chosen(given: Sequence[str], known: Sequence[str]) -> list[str]:
    if "all" in given:
        return list(known)
    for name in given:
        if name not in known:
            raise UserError(
                f"there is no study {name!r}", f"choose from {', '.join(known)} or all", ExitCode.USAGE
            )
    return list(dict.fromkeys(given))


def _write(document: Mapping[str, Any], folder: Path) -> None:
    from p2pml.sim.plots import draw

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"consensus-{'-'.join(document['studies'])}.json"
    short = json.loads(json.dumps(document), parse_float=lambda figure: round(float(figure), 5))
    path.write_text(json.dumps(short, indent=1) + "\n")
    written = [path]
    try:
        written += draw(document, folder)
    except ImportError:
        say("no plots: install p2pml with the extra 'plots' (matplotlib)")
    for each in written:
        say(f"wrote {each}")


def _show(document: Mapping[str, Any]) -> None:
    for part, figures in document["parts"].items():
        shown = [name for name in _SHOWN if name in figures]
        emit(f"{part} ({figures['runs']} runs): " + ", ".join(_told(name, figures[name]) for name in shown))
    for cost in document.get("costs", []):
        emit(f"a block by {cost['rule']}: {cost['network']:.3g} CPU seconds of the whole network")
    if "joules" in document:
        emit(f"joules: {document['joules']}")
    for tail in document.get("tail", []):
        published = "" if tail["randao"] is None else f", RANDAO {tail['randao']:.2%}"
        emit(f"tail withholding with {tail['weight']:.0%}: {tail['blocks']:.2%} of the blocks{published}")


_SHOWN = (
    "final_share", "delay_p50", "delay_p95", "missed", "stale", "reorgs", "deepest_reorg", "blocks_gini",
    "weights_gini", "rewards_gini", "split_final", "gain", "gain_over_draw", "convicted",
    "split_expired", "expired", "events_per_cpu_second",
)  # fmt: skip


def _told(name: str, figure: Mapping[str, Any]) -> str:
    error = "" if figure["error"] is None else f" ± {figure['error']:.2g}"
    return f"{name.replace('_', ' ')} {figure['mean']:.4g}{error}"
