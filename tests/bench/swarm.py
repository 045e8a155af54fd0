"""How swarms of the real core behave in virtual time: `python -m tests.bench.swarm` prints JSON.

The figures of docs/guide/swarm.md, over many seeds of the trials in `tests.sim.swarm_trials`:

    python -m tests.bench.swarm --seeds 50                   # all, 50 seeds each
    python -m tests.bench.swarm --only poisoner --seeds 1000 --jobs 2
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing import Pool
from typing import Any

from tests.sim import swarm_trials as trials

Measure = Callable[[int], Any]
Spread = dict[str, float]


def rarity(seed: int) -> tuple[int, int]:
    return trials.least_copies(seed), trials.least_copies(seed, trials.RANDOM_PICKER)


def rider(seed: int) -> float:
    riding = trials.free_riding(seed)
    return riding.rider / riding.median


def shares(seed: int) -> tuple[float, float]:
    found = trials.optimistic_shares(seed)
    return min(found), max(found)


def endgame(seed: int) -> tuple[float, float]:
    return trials.last_pieces(seed), trials.last_pieces(seed, trials.NO_ENDGAME)


def poisoner(seed: int) -> trials.Poisoning:
    return trials.poisoning(seed)


def told_rarity(found: Sequence[tuple[int, int]]) -> dict[str, Any]:
    ours, chance = ([pair[n] for pair in found] for n in (0, 1))
    return {
        "least copies, rarest first": histogram(ours),
        "least copies, random": histogram(chance),
        "random at 1 or none": share(copies <= 1 for copies in chance),
    }


def told_rider(found: Sequence[float]) -> dict[str, Any]:
    return {"free rider's time over the median": spread(found)}


def told_shares(found: Sequence[tuple[float, float]]) -> dict[str, Any]:
    lows, highs = [low for low, _ in found], [high for _, high in found]
    return {"least share over the mean": spread(lows), "greatest share over the mean": spread(highs)}


def told_endgame(found: Sequence[tuple[float, float]]) -> dict[str, Any]:
    return {
        "last 2 %, s": spread([ours for ours, _ in found]),
        "without endgame, s": spread([none for _, none in found]),
        "ratio": spread([ours / none for ours, none in found]),
    }


def told_poisoner(found: Sequence[trials.Poisoning]) -> dict[str, Any]:
    return {
        "bad pieces before the ban": histogram([bad for run in found for bad in run.bad]),
        "leechers with bad pieces and no ban": sum(run.unbanned for run in found),
        "honest peers banned": sum(run.wronged for run in found),
    }


TRIALS: dict[str, tuple[Measure, Callable[[Any], dict[str, Any]]]] = {
    "rarity": (rarity, told_rarity),
    "rider": (rider, told_rider),
    "shares": (shares, told_shares),
    "endgame": (endgame, told_endgame),
    "poisoner": (poisoner, told_poisoner),
}


def histogram(values: Sequence[int]) -> dict[str, int]:
    return {str(value): count for value, count in sorted(Counter(values).items())}


def spread(values: Sequence[float]) -> Spread:
    return {
        "least": round(min(values), 3),
        "median": round(statistics.median(values), 3),
        "greatest": round(max(values), 3),
    }


def share(flags: Any) -> float:
    return round(statistics.mean(map(float, flags)), 3)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=sorted(TRIALS), default=list(TRIALS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    seeds = range(given.first, given.first + given.seeds)
    result: dict[str, Any] = {"seeds": [seeds[0], seeds[-1]]}
    with Pool(given.jobs) as pool:
        for name in given.only:
            measure, tell = TRIALS[name]
            result[name] = tell(pool.map(measure, seeds, chunksize=1))
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
