"""`p2pml sim …`: the cores on virtual time, hundreds of nodes in this one process, every run repeatable."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from p2pml.cli.options import JsonOption
from p2pml.cli.output import emit, emit_json, fields, say
from p2pml.cli.sim_consensus import consensus
from p2pml.errors import ExitCode, UserError

if TYPE_CHECKING:
    from p2pml.scenario.links import Link

group = typer.Typer(
    help="Simulate chain and swarms in virtual time: same seed, same run.", no_args_is_help=True
)
T = TypeVar("T")

SecondsOption = Annotated[float, typer.Option("--seconds", min=0.0, help="virtual seconds")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="everything random comes from it")]
SeedsOption = Annotated[
    int, typer.Option("--seeds", min=1, help="run so many seeds, counting up from --seed")
]
LinkOption = Annotated[
    str,
    typer.Option("--link", help="everybody's link, e.g. 'rate=20 Mbit,delay_ms=25,jitter_ms=5,loss=0.01'"),
]
LiarOption = Annotated[
    list[str] | None, typer.Option("--liar", metavar="NODE=HOW", help="a node that breaks the rules, and how")
]


def register(app: typer.Typer) -> None:
    group.command("consensus")(consensus)
    app.add_typer(group, name="sim")


@group.command("chain")
def chain(
    nodes: Annotated[int, typer.Option("--nodes", min=2, max=2000, help="validators n1, n2, …")] = 20,
    seconds: SecondsOption = 120.0,
    seed: SeedOption = 1,
    seeds: SeedsOption = 1,
    link: LinkOption = "delay_ms=50,jitter_ms=10",
    preset: Annotated[str, typer.Option("--preset", help="demo, lab, main or report")] = "demo",
    load: Annotated[float, typer.Option("--load", min=0.0, help="transfers per second, all nodes")] = 1.0,
    partition: Annotated[
        float, typer.Option("--partition", min=0.0, help="cut the network in halves for so many seconds")
    ] = 0.0,
    liar: LiarOption = None,
    votes: Annotated[
        bool | None, typer.Option("--votes/--no-votes", help="whether validators vote; default: up to 20 do")
    ] = None,
    idle: Annotated[
        bool, typer.Option("--idle/--no-idle", help="whether validators are silent while nothing waits")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a chain and say how it fared; HOW of a liar is one of those in docs/guide/simulator.md."""
    from p2pml.sim.chain_liars import LIARS
    from p2pml.sim.chain_world import ChainWorld

    shape = parse_link(link)
    voting = nodes <= 20 if votes is None else votes
    liars = _liars(liar or [], LIARS, [f"n{i + 1}" for i in range(nodes)])
    _known_preset(preset)

    def run(number: int) -> tuple[Any, list[str]]:
        world = ChainWorld(number, nodes, preset, shape, load, liars=liars, votes=voting, idle=idle)
        if partition:
            half = len(world.names) // 2
            cut = [world.names[:half], world.names[half:]]
            world.world.at(seconds / 4, lambda: world.world.network.partition(cut))
            world.world.at(seconds / 4 + partition, world.heal)
        report = world.run(seconds)
        return report, world.problems(report)

    again = f"p2pml sim chain --nodes {nodes} --seconds {seconds:g} --link '{link}' --preset {preset}"
    again += f" --load {load:g} --partition {partition:g}" + "".join(f" --liar {item}" for item in liar or [])
    again += (" --votes" if voting else " --no-votes") + (" --idle" if idle else "")
    _repeat(run, seed, seeds, again, as_json)


@group.command("swarm")
def swarm(
    nodes: Annotated[int, typer.Option("--nodes", min=1, max=2000, help="leechers p1, p2, …")] = 20,
    sources: Annotated[int, typer.Option("--sources", min=1, max=100, help="seeds s1, s2, …")] = 1,
    size: Annotated[int, typer.Option("--size", min=1, max=1024, help="MiB of the torrent")] = 4,
    seconds: SecondsOption = 600.0,
    seed: SeedOption = 1,
    seeds: SeedsOption = 1,
    link: LinkOption = "rate=20 Mbit,delay_ms=25",
    liar: LiarOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a swarm until all have everything; HOW of a liar is poisoner, mute, babbler or free-rider."""
    from p2pml.sim.swarm_liars import BEHAVIOURS
    from p2pml.sim.swarm_world import SwarmWorld

    shape = parse_link(link)
    names = [*(f"s{i + 1}" for i in range(sources)), *(f"p{i + 1}" for i in range(nodes))]
    liars = _liars(liar or [], BEHAVIOURS, names)

    def run(number: int) -> tuple[Any, list[str]]:
        world = SwarmWorld(number, nodes, sources, size * 1024 * 1024, shape, liars)
        report = world.run_until_done(seconds)
        return report, world.problems(report)

    again = f"p2pml sim swarm --nodes {nodes} --sources {sources} --size {size} --seconds {seconds:g}"
    again += f" --link '{link}'" + "".join(f" --liar {item}" for item in liar or [])
    _repeat(run, seed, seeds, again, as_json)


@group.command("lab")
def lab(
    scenario: Annotated[Path, typer.Argument(help="a lab scenario, e.g. examples/lab/lab.yaml")],
    seed: SeedOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Run the steps of a lab scenario that virtual time can, and say which it cannot."""
    from p2pml.scenario.spec import load
    from p2pml.sim.lab import VirtualLab
    from p2pml.sim.world import InvariantViolated

    virtual = VirtualLab(load(scenario), scenario.parent, seed)
    began = time.process_time()
    try:
        report = virtual.run()
    except InvariantViolated as error:
        raise _told(error, f"p2pml sim lab {scenario} --seed {seed}") from error
    if as_json:
        emit_json({"ok": report.ok, **asdict(report)})
    else:
        for step in report.steps:
            emit(f"{step.at:8.1f} s  {step.outcome:6}  {step.verb:16}  {step.detail}")
        say(f"{_speed(report.events, time.process_time() - began)}, seed {seed}, trace {report.trace}")
    if not report.ok:
        failed = next(step for step in report.steps if step.outcome == "failed")
        raise UserError(f"step {failed.number}, {failed.verb}: {failed.detail}", f"seed {seed} repeats it")


def parse_link(text: str) -> Link:
    """A link from `key=value,…`.

    Raises:
        UserError: (code 2) a part that is not one, or a value that is out of range.
    """
    from p2pml.scenario.links import Link

    values: dict[str, object] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = part.partition("=")
        values[key.strip()] = value.strip() if key.strip() == "rate" else _number(value)
    try:
        return Link.from_mapping(values)
    except ValueError as error:
        raise UserError(
            f"--link {text!r}: {error}", "write it as 'rate=20 Mbit,delay_ms=25,loss=0.01'", ExitCode.USAGE
        ) from error


def _number(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text  # the link says what is wrong with it


def _liars(given: list[str], known: dict[str, T], names: list[str]) -> dict[str, T]:
    found: dict[str, T] = {}
    for item in given:
        name, _, how = item.partition("=")
        if name not in names or how not in known:
            raise UserError(
                f"--liar {item!r} is not NODE=HOW",
                f"nodes are {names[0]} to {names[-1]}; HOW is {', '.join(known)}",
                ExitCode.USAGE,
            )
        found[name] = known[how]
    return found


def _known_preset(name: str) -> None:
    from chain.errors import ParamsError
    from chain.params import preset

    try:
        preset(name)
    except ParamsError as error:
        raise UserError(str(error), "give --preset one of them", ExitCode.USAGE) from error


def _repeat(
    run: Callable[[int], tuple[Any, list[str]]], first: int, count: int, again: str, as_json: bool
) -> None:
    """Run the seeds one after the other; the first that fails ends it with the command that repeats it."""
    from p2pml.sim.world import InvariantViolated

    reports = []
    for number in range(first, first + count):
        began = time.process_time()
        try:
            report, problems = run(number)
        except InvariantViolated as error:
            raise _told(error, f"{again} --seed {number}") from error
        speed = time.process_time() - began
        reports.append({**asdict(report), "problems": problems, "cpu_seconds": round(speed, 3)})
        if not as_json:
            _show(reports[-1], report.summary.events, speed)
        if problems:
            break
    if as_json:
        emit_json(reports if count > 1 else reports[0])
    if problems:
        raise UserError(f"seed {number}: {problems[0]}", f"repeat it: {again} --seed {number}")


def _show(report: dict[str, Any], events: int, seconds: float) -> None:
    summary = report["summary"]
    rows = [("seed", summary["seed"]), ("virtual time", f"{summary['seconds']:g} s")]
    rows += [("speed", _speed(events, seconds)), ("trace", summary["trace"])]
    rows += [
        (name.replace("_", " "), f"{value:.3g}" if isinstance(value, float) else value)
        for name, value in report.items()
        if name not in ("summary", "problems", "cpu_seconds") and value != {}
    ]
    emit(fields(rows))


def _speed(events: int, seconds: float) -> str:
    return f"{events} events in {seconds:.1f} s of CPU, {events / max(seconds, 1e-9):,.0f} per second"


def _told(error: AssertionError, again: str) -> UserError:
    return UserError(f"an invariant was violated: {error}", f"repeat it: {again}")
