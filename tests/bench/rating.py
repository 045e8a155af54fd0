"""What the baseline test measures: `python -m tests.bench.rating --study NAME` prints JSON.

    exactness     one trace root over threads, OpenBLAS kernels, int64, TensorFlow with and without oneDNN
    identities    one identity with all cores against 2, 4 and 8 that share them, windows at the same time
    cap           lanes that may use half of a core against lanes that may use all of it
    environments  one core, half the time, other OpenBLAS kernels, a program that fills the memory beside it

But for exactness, each figure is the median of ratios of pairs. A round is a window of the anchor (one
identity, a lane on each core, nothing else) and one of each variant, one after the other, the order turned
from round to round; each variant's window is paired with its round's anchor. Segments tell the rating, since
the quality is the same; processor time is told beside them. Each window is told on stderr as it ends.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from chain.baseline.draws import challenge
from chain.baseline.trace import Trace
from p2pml.node.baseline_run import Baseline, load_baseline
from p2pml.worker.lanes import store
from p2pml.worker.lanes.pool import Plan, Window, WindowRun

REPO = Path(__file__).parents[2]
CORES = sorted(os.sched_getaffinity(0))
ANCHOR = "anchor"
OPENBLAS = ("Prescott", "Nehalem", "Sandybridge", "Haswell")
START_S = 1.5
"""In which a core starts a lane; lanes that are later are told in the results."""
MEMORY_HOG = """
import numpy
data = numpy.zeros(32 << 20, numpy.int64)
print("ready", flush=True)
while True:
    data += 1
"""


@dataclass(frozen=True)
class Variant:
    """How windows are run: identities at the same time, lanes of each, and what surrounds them."""

    identities: int = 1
    lanes: int = len(CORES)
    cap: int = 100
    cores: int = len(CORES)
    environment: dict[str, str] = field(default_factory=dict)
    beside: str = ""


@dataclass(frozen=True)
class Options:
    """What all windows of a study share."""

    baseline: Baseline
    seconds: float
    rounds: int


def exactness(options: Options, smoke: bool) -> dict[str, Any]:
    """Roots of processes with other settings; `same` says whether there is but one."""
    variants: dict[str, tuple[str, dict[str, str]]] = {
        "1 thread": ("numpy", {"OPENBLAS_NUM_THREADS": "1"}),
        "2 threads": ("numpy", {"OPENBLAS_NUM_THREADS": "2"}),
        **{name: ("numpy", {"OPENBLAS_CORETYPE": name}) for name in OPENBLAS[: 1 if smoke else None]},
    }
    if not smoke:
        variants["int64"] = ("int64", {})
        for onednn in ("0", "1"):
            variants[f"TensorFlow, oneDNN {onednn}"] = ("tensorflow", {"TF_ENABLE_ONEDNN_OPTS": onednn})
    found = {name: _probe(kernel, environment) for name, (kernel, environment) in variants.items()}
    return {"same": len({each["root"] for each in found.values()}) == 1, "variants": found}


def identities(options: Options, smoke: bool) -> dict[str, Any]:
    """Segments of k identities together, as a share of what one has."""
    counts = (2,) if smoke else (2, 4, 8)
    variants = {
        f"{count} identities": Variant(identities=count, lanes=max(1, len(CORES) // count))
        for count in counts
    }
    return compare(options, variants)


def cap(options: Options, smoke: bool) -> dict[str, Any]:
    """Segments with half of each core, as a share of those with all of it."""
    return compare(options, {"cap 50 %": Variant(cap=50)})


def environments(options: Options, smoke: bool) -> dict[str, Any]:
    """Segments on lesser machines, as a share of those on this one."""
    variants = {
        "1 core": Variant(lanes=1, cores=1),
        "half of each core": Variant(cap=50),
        "more lanes than cores": Variant(lanes=2 * len(CORES)),
        **{name: Variant(environment={"OPENBLAS_CORETYPE": name}) for name in OPENBLAS},
        "memory pressure": Variant(beside=MEMORY_HOG),
    }
    if smoke:
        variants = {name: variants[name] for name in ("1 core", "memory pressure")}
    return compare(options, variants)


def compare(options: Options, variants: dict[str, Variant]) -> dict[str, Any]:
    """Interleaved pairs of each variant with its round's anchor, and the medians of their ratios."""
    pairs: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
    every = [(ANCHOR, Variant()), *variants.items()]
    for number in range(options.rounds):
        turn = number % len(every)
        found = {}
        for name, variant in every[turn:] + every[:turn]:
            found[name] = window(options, variant)
            print(f"round {number + 1}, {name}: {json.dumps(found[name])}", file=sys.stderr, flush=True)
        for name in variants:
            pairs[name].append({"anchor": found[ANCHOR], "variant": found[name]})
    return {
        "ratio": {name: _median(found, "segments") for name, found in pairs.items()},
        "ratio per processor second": {
            name: round(_median(found, "segments") / max(_median(found, "cpu_s"), 1e-9), 4)
            for name, found in pairs.items()
        },
        "pairs": pairs,
    }


def window(options: Options, variant: Variant) -> dict[str, Any]:
    """One window of all the variant's identities at the same time."""
    before = dict(os.environ)
    os.environ.update(variant.environment)
    os.sched_setaffinity(0, CORES[: variant.cores])
    try:
        with _beside(variant.beside), tempfile.TemporaryDirectory(prefix="p2pml-rating-") as folder:
            store.write(Path(folder), options.baseline.net, options.baseline.train)
            windows = trio.run(_all, options, variant, Path(folder))
    finally:
        os.sched_setaffinity(0, CORES)
        os.environ.clear()
        os.environ.update(before)
    for each in windows:
        Trace(options.baseline.net, each.leaves)
    segments = [len(each.leaves) for each in windows]
    return {
        "segments": sum(segments),
        "of each": segments,
        "cpu_s": sum(each.cpu_ms for each in windows) / 1000,
        "joules": [each.joules for each in windows],
        "late lanes": sum(each.late for each in windows),
        "load": os.getloadavg()[0],
    }


async def _all(options: Options, variant: Variant, folder: Path) -> list[Window]:
    windows: list[Window] = []
    # One beginning for all; more lanes than cores take turns in starting.
    opens_at = trio.current_time() + START_S * (1 + variant.identities * variant.lanes / variant.cores)

    async def one(number: int) -> None:
        own = folder / str(number)
        own.mkdir()
        for name in ("x.npy", "y.npy", "net.json"):
            (own / name).symlink_to(folder / name)
        given = challenge(bytes(32), 1, number.to_bytes(32, "big"))
        plan = Plan(
            own,
            options.baseline.net,
            given,
            variant.lanes,
            options.seconds,
            variant.cap,
            0,
            opens_at=opens_at,
        )
        windows.append(await WindowRun(plan).run())

    async with trio.open_nursery() as nursery:
        for number in range(variant.identities):
            nursery.start_soon(one, number)
    return windows


@contextmanager
def _beside(code: str) -> Iterator[None]:
    if not code:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield
        finally:
            process.kill()


def _probe(kernel: str, environment: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.baseline_probe", "--kernel", kernel]
    found = json.loads(
        subprocess.run(
            command, cwd=REPO, env={**os.environ, **environment}, stdout=subprocess.PIPE, check=True
        ).stdout
    )
    assert isinstance(found, dict)
    return found


def _median(pairs: list[dict[str, Any]], what: str) -> float:
    return round(
        statistics.median(pair["variant"][what] / max(pair["anchor"][what], 1e-9) for pair in pairs), 4
    )


STUDIES: dict[str, Callable[[Options, bool], dict[str, Any]]] = {
    "exactness": exactness,
    "identities": identities,
    "cap": cap,
    "environments": environments,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", choices=STUDIES, required=True)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each window")
    parser.add_argument("--rounds", type=int, default=5, help="windows of the anchor and of each variant")
    parser.add_argument("--dataset", type=Path, help="an .npz instead of the bundled digits")
    parser.add_argument("--smoke", action="store_true", help="two seconds, one round, few variants")
    given = parser.parse_args()
    seconds, rounds = (2.0, 1) if given.smoke else (given.seconds, given.rounds)
    options = Options(load_baseline(given.dataset), seconds, rounds)
    found = STUDIES[given.study](options, given.smoke)
    setting = {"study": given.study, "seconds": seconds, "rounds": rounds, "cores": len(CORES)}
    print(json.dumps({**setting, **found}, indent=1))


if __name__ == "__main__":
    main()
