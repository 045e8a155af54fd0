"""Who is caught in a rating window, and what it costs: `python -m tests.bench.rating_fraud [--runs N]`.

Prints JSON. Each run is a window of the preset demo among a few validators in this process, with the rules of
blocks, pool, audits and court as they are; one of the validators cheats. What is trained is a stub whose
weights are one hash; signatures and VRF are keyed hashes: both only to have many runs in minutes.
`--kernel digits` has the real kernel, data set and signatures, with short claims. Beside the rate of
detection stand the mean of what the run's own draws predict, and the binomial (1 - f)^n of the design.
`--keep FILE` has the result in a file too, written as each kind ends; a later run plays what is not there.
`--table` prints a kept file as Markdown.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from math import comb
from pathlib import Path
from statistics import fmean
from typing import Any

from chain.baseline.bench import NumpyBench
from chain.baseline.kernel import NumpyTrainer
from chain.params import TOKEN
from chain.rating.auditing import POSITIONS, SPOTS
from chain.rating.closing import Reason
from p2pml.node.baseline_run import load_baseline
from p2pml.sim.shortcuts import stubbed_crypto
from tests.chain import rating_cheats as cheats
from tests.chain.rating_players import HONEST_SEGMENTS, Game, Means, Player

Prediction = Callable[[Game], float]
CLAIMED_ON_DIGITS = 60
"""Segments of a cheater that fakes some with the real kernel."""


@dataclass(frozen=True)
class Setting:
    """How games are set up.

    Args:
        options: of every Game.
        claimed: segments of a cheater that fakes some.
    """

    options: dict[str, Any]
    claimed: int


@dataclass(frozen=True)
class Kind:
    """A behaviour.

    Args:
        deal: a game of that kind with a seed.
        caught: whether it was, after the game.
        predicted: the probability of that, from the draws of the game.
        binomial: as the design counts it; None where nothing is drawn.
        drawn: whether it had the opportunity at all.
        note: what has to be known to read it.
    """

    deal: Callable[[Setting, int], Game]
    caught: Callable[[Game], bool]
    predicted: Prediction
    binomial: float | None = None
    drawn: Callable[[Game], bool] = lambda game: True
    note: str = ""


def convicted(game: Game) -> bool:
    """The cheater was."""
    return game.convicted(game.first)


def missed(reason: Reason) -> Callable[[Game], bool]:
    """Its window counts 0, for this reason."""

    def found(game: Game) -> bool:
        outcomes = game.state.standing(game.first.account).outcomes
        return bool(outcomes) and outcomes[-1].reason == reason

    return found


def unseen(total: int, bad: int, looked: int) -> float:
    """The probability that `looked` of `total` places, drawn without replacement, are all good."""
    return comb(total - bad, looked) / comb(total, looked)


def by_segments(share: float) -> Prediction:
    """Of a faked share, by the places where an honest auditor looks, first or again.

    The false segments are the last of the claim, and the places drawn are dealt to the auditors in ascending
    order, so that of several in a row each auditor gets one.
    """

    def found(game: Game) -> float:
        order, claimed = game.auditors(game.first), game.first.segments
        looked, fakes = min(POSITIONS, claimed), round(share * claimed)
        missed = 0.0
        for bad in range(min(looked, fakes) + 1):
            chance = comb(fakes, bad) * comb(claimed - fakes, looked - bad) / comb(claimed, looked)
            missed += chance * _missed_by_all(game, order, looked, bad)
        return 1 - missed

    return found


def _missed_by_all(game: Game, order: Sequence[bytes], looked: int, bad: int) -> float:
    """The probability that nobody honest sees one of the `bad` last of the places that are looked at."""
    dealt = Counter(order[rank % len(order)] for rank in range(looked))
    false = Counter(order[rank % len(order)] for rank in range(looked - bad, looked))
    if false.keys() - game.colluders:
        return 0.0
    missed = 1.0
    for place, each in enumerate(order):
        if each in game.colluders and order[(place + 1) % len(order)] not in game.colluders:
            missed *= unseen(dealt[each], false[each], min(SPOTS, dealt[each]))
    return missed


def by_spots(share: float) -> Prediction:
    """Of an auditor that makes up a share of its marks: the next auditor of each subject looks at two."""

    def found(game: Game) -> float:
        missed = 1.0
        for positions in game.duties(game.first):
            count = len(positions)
            missed *= unseen(count, round(share * count), min(SPOTS, count))
        return 1 - missed

    return found


def alone(cheater: type[Player]) -> Callable[[Setting, int], Game]:
    """One cheater among honest players."""
    return lambda setting, seed: Game(seed, [cheater], **setting.options)


def faked(share: float, kind: type[cheats.FakedSegments] = cheats.FakedSegments) -> Kind:
    """Made-up segments."""
    return Kind(
        lambda setting, seed: Game(seed, [cheats.faking(share, setting.claimed, kind)], **setting.options),
        convicted,
        by_segments(share),
        1 - (1 - share) ** POSITIONS,
        note="the made-up segments are in episodes that were left unfinished, so none is ever evaluated",
    )


def colluding(friends: int) -> Kind:
    """A tenth made up, and some of the auditors drawn are friends."""
    looked = POSITIONS * (3 - friends) // 3 + SPOTS * (friends < 3)
    return Kind(
        lambda setting, seed: cheats.Colluding(
            seed, friends, cheats.faking(0.1, setting.claimed), **setting.options
        ),
        convicted,
        by_segments(0.1),
        1 - 0.9**looked,
        note="a friend marks false leaves as true and accuses nobody of its own",
    )


def chance_kept_out(game: Game) -> float:
    """No slot of the grace after the first two was the cheater's."""
    grace = game.borders.commit_end - game.borders.train_end
    return float((1 - 1 / len(game.players)) ** (grace - 2))


def sure(value: float) -> Prediction:
    """Nothing is drawn."""
    return lambda game: value


def has_duty(game: Game) -> bool:
    """It was drawn as an auditor."""
    return bool(game.duties(game.first))


def lied(game: Game) -> bool:
    """Its matrix was not what it had anyway: now and then an honest one is perfect."""
    return isinstance(game.first, cheats.WrongMatrix) and game.first.lied


KINDS: dict[str, Kind] = {
    "honest": Kind(alone(Player), convicted, sure(0.0), 0.0, note="nobody cheats"),
    "copied trace": Kind(alone(cheats.CopiedTrace), convicted, sure(1.0), 1.0),
    "late commitment": Kind(
        alone(cheats.LateCommitment), missed(Reason.NO_CLAIM), chance_kept_out,
        note="caught: kept off the chain; a slot of its own in the grace saves it",
    ),
    "withheld data": Kind(alone(cheats.WithheldData), missed(Reason.NOT_SERVED), sure(1.0), 1.0),
    **{f"{share:.0%} faked segments": faked(share) for share in (0.02, 0.05, 0.1, 0.2)},
    "10% faked segments, shown on the chain only": faked(0.1, cheats.FakedAnswers),
    "wrong confusion matrix": Kind(alone(cheats.WrongMatrix), convicted, sure(1.0), 1.0, lied),
    "impossible energy": Kind(alone(cheats.ImpossibleEnergy), missed(Reason.IMPOSSIBLE), sure(1.0), 1.0),
    "flattering energy": Kind(
        alone(cheats.FlatteringEnergy), convicted, sure(0.0), 0.0,
        note="cannot be found out; it is worth what the preset's span is, see `rating gain`",
    ),
    "lazy auditor": Kind(alone(cheats.LazyAuditor), convicted, by_spots(1.0), 1.0, has_duty),
    "lazy auditor, every second mark": Kind(
        alone(cheats.HalfLazyAuditor), convicted, by_spots(0.5), None, has_duty
    ),
    **{f"{friends} of 3 auditors collude, 10% faked": colluding(friends) for friends in (1, 2, 3)},
    "false accuser": Kind(alone(cheats.FalseAccuser), convicted, sure(1.0), 1.0, has_duty),
}  # fmt: skip


def measure(kind: Kind, setting: Setting, runs: int) -> dict[str, Any]:
    """Play so many windows: the first in which the cheater has the opportunity."""
    games: list[Game] = []
    skipped = 0
    while len(games) < runs and skipped < 10 * runs:
        game = kind.deal(setting, len(games) + skipped).play()
        assert game.state.supply_ok()
        if kind.drawn(game):
            games.append(game)
        else:
            skipped += 1
    caught = [kind.caught(game) for game in games]
    found = {
        "runs": runs,
        "not drawn": skipped,
        "caught": sum(caught),
        "rate": round(fmean(caught), 3),
        "predicted": round(fmean(kind.predicted(game) for game in games), 3),
        "binomial": None if kind.binomial is None else round(kind.binomial, 3),
        "friends convicted": sum(friends_convicted(game) for game in games),
        "honest convicted": sum(honest_convicted(game) for game in games),
        "cheater before": average([game.before[game.first.account] for game in games]),
        "cheater after": average([game.means(game.first) for game in games]),
        "rating per segment of those not caught, honest = 1": rating_not_caught(games, caught),
    }
    return found | ({"note": kind.note} if kind.note else {})


def friends_convicted(game: Game) -> int:
    """Auditors who helped the cheater."""
    return sum(game.convicted(game.players[public]) for public in game.colluders)


def honest_convicted(game: Game) -> int:
    """Anybody else."""
    guilty = {game.first.account, *game.colluders}
    return sum(game.convicted(player) for public, player in game.players.items() if public not in guilty)


def average(means: list[Means]) -> dict[str, float]:
    """In tokens, and ratings."""
    return {
        "tokens": round(fmean(each.tokens for each in means) / TOKEN, 3),
        "bond": round(fmean(each.bond for each in means) / TOKEN, 3),
        "vesting": round(fmean(each.vesting for each in means) / TOKEN, 3),
        "rating": round(fmean(each.rating for each in means), 1),
    }


def rating_not_caught(games: list[Game], caught: list[bool]) -> float | None:
    """Rating over segments claimed, against the mean of the other players of the same window."""
    ratios = []
    for game, found in zip(games, caught, strict=True):
        first, *others = (game.means(each).rating / each.segments for each in game.players.values())
        if not found and first:
            ratios.append(first / fmean(others))
    return round(fmean(ratios), 3) if ratios else None


def digits() -> Setting:
    """The real kernel and data set. Few players, as each trains: three auditors and a subject are four."""
    baseline = load_baseline()
    bench = NumpyBench(baseline.net, baseline.train, baseline.test)
    options = {"count": 4, "bench": bench, "trainer": lambda: NumpyTrainer(baseline.net, baseline.train)}
    return Setting(options, CLAIMED_ON_DIGITS)


def kept(path: Path | None, about: dict[str, Any]) -> dict[str, Any]:
    """What an earlier run wrote there, by kind.

    Raises:
        SystemExit: it was another setting's.
    """
    if path is None or not path.exists():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    if found["about"] != about:
        raise SystemExit(f"{path} is of another setting: {found['about']}; name another file")
    return dict(found["kinds"])


def table(kinds: dict[str, Any]) -> str:
    """Markdown: a line for each kind."""
    lines = [
        "| behaviour | caught | predicted | binomial | honest convicted"
        " | bond, vesting, rating before | after |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in kinds.items():
        binomial = "–" if found["binomial"] is None else found["binomial"]
        before, after = (
            " / ".join(str(found[f"cheater {when}"][what]) for what in ("bond", "vesting", "rating"))
            for when in ("before", "after")
        )
        lines.append(
            f"| {name} | {found['caught']} of {found['runs']} | {found['predicted']} | {binomial}"
            f" | {found['honest convicted']} | {before} | {after} |"
        )
    return "\n".join(lines)


def described(stub: bool, setting: Setting, runs: int) -> dict[str, Any]:
    """What all kinds of a run share."""
    return {
        "trainer": "a stub whose weights are one hash" if stub else "the NumPy kernel on the bundled digits",
        "signatures": "keyed hashes" if stub else "Ed25519 and VRF",
        "preset": "demo",
        "players": setting.options["count"],
        "segments of an honest player": HONEST_SEGMENTS,
        "segments of a cheater that fakes some": setting.claimed,
        "runs": runs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="windows of each kind")
    parser.add_argument("--kernel", choices=("stub", "digits"), default="stub")
    parser.add_argument("--only", action="append", help="kinds, by the beginning of their name")
    parser.add_argument("--keep", type=Path, help="a file to write to as each kind ends, and to go on from")
    parser.add_argument("--table", type=Path, help="print this kept file as Markdown, and play nothing")
    given = parser.parse_args()
    if given.table:
        print(table(json.loads(given.table.read_text(encoding="utf-8"))["kinds"]))
        return
    names = [name for name in KINDS if not given.only or name.startswith(tuple(given.only))]
    stub = given.kernel == "stub"
    with stubbed_crypto() if stub else nullcontext():
        setting = Setting({"count": 7}, cheats.CLAIMED) if stub else digits()
        about = described(stub, setting, given.runs)
        found = kept(given.keep, about)
        for name in names:
            if name in found:
                continue
            found[name] = measure(KINDS[name], setting, given.runs)
            if given.keep:
                given.keep.write_text(json.dumps({"about": about, "kinds": found}, indent=2) + "\n")
    print(json.dumps({"about": about, "kinds": found}, indent=2))


if __name__ == "__main__":
    main()
