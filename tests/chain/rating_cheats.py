"""Cheaters of a rating window: each honest but for one thing, and as clever as that thing allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from chain.baseline.trace import Leaf
from chain.rating.auditor import Finding, Subject, Task
from chain.rating.bench import Bench
from chain.rating.entries import Window
from chain.rating.items import (
    MARK_BYTES,
    Accusation,
    Charge,
    ProvenLeaf,
    RatingItem,
    Report,
    Reveal,
    sign,
)
from chain.rating.phases import NET
from chain.state import State
from tests.chain.rating_players import EPISODE, HONEST_SEGMENTS, Game, Player

CLAIMED = 800
"""Segments of a cheater that fakes some: so many that 40 of them are nearly drawn with replacement."""


class Believing:
    """A bench that finds what a subject claims, so that it reveals what is not so."""

    def __init__(self, bench: Bench, subject: Subject) -> None:
        self.tests, self._bench = bench.tests, bench
        self._claimed = {leaf.episode: leaf.digest for leaf in subject.last_leaves}

    def looks(
        self, challenge: bytes, episode: int, steps: Mapping[int, int]
    ) -> dict[int, tuple[bytes, bytes]]:
        return self._bench.looks(challenge, episode, steps)

    def evaluate(
        self, challenge: bytes, episode: int, rows: Sequence[int]
    ) -> tuple[bytes, tuple[tuple[int, ...], ...]]:
        return self._claimed[episode], self._bench.evaluate(challenge, episode, rows)[1]


class CopiedTrace(Player):
    """Trains nothing: claims what another account trained, which it serves."""

    def train(self, window: Window) -> None:
        victim = list(self.game.players.values())[-1]
        victim.train(window)
        self.subject = Subject(self.account, victim.subject.trace)

    def reveal(self, window: Window) -> Reveal | None:
        return self.subject.reveal(window, Believing(self.game.bench, self.subject))


class LateCommitment(Player):
    """Trains two slots longer; only blocks of its own take the commitment then."""

    late = 2

    def own_items(self, slot: int) -> list[RatingItem]:
        borders, state = self.game.borders, self.game.state
        known = state.claim(self.account, state.window().start) is not None
        if known or not borders.train_end + self.late <= slot < borders.commit_end:
            return []
        return [sign(self.commit(state.window()), self.keys, self.game.world.genesis.chain_id)]


class WithheldData(Player):
    """Shows nothing, neither to auditors nor on the chain."""

    def serve(self, positions: Sequence[int]) -> tuple[ProvenLeaf, ...]:
        return ()

    def answers(self, state: State) -> list[Any]:
        return []


class FakedSegments(Player):
    """Makes up a share of its segments, in episodes that it leaves unfinished: those are never evaluated."""

    segments = CLAIMED
    share = 0.1

    def leaves(self, window: Window) -> list[Leaf]:
        fakes = round(self.share * self.segments)
        honest, self.segments = self.segments, self.segments - fakes
        true, self.segments = super().leaves(window), honest
        first = -(-len(true) // EPISODE)
        return true + [
            Leaf(first + number // (EPISODE - 1), number % (EPISODE - 1), self.rng.randbytes(32))
            for number in range(fakes)
        ]


class FakedAnswers(FakedSegments):
    """Shows auditors nothing, but answers on the chain, made up segments as well."""

    def serve(self, positions: Sequence[int]) -> tuple[ProvenLeaf, ...]:
        return ()


def faking(
    share: float, segments: int = CLAIMED, kind: type[FakedSegments] = FakedSegments
) -> type[FakedSegments]:
    """With this share of so many."""
    return type("Faked", (kind,), {"share": share, "segments": segments})


class WrongMatrix(Player):
    """Reveals that every sample was recognized; `lied` is false where that is so."""

    lied = False

    def reveal(self, window: Window) -> Reveal | None:
        found = super().reveal(window)
        assert found is not None
        perfect = [
            replace(
                each,
                confusion=tuple(
                    tuple(sum(row) * (place == other) for other in range(len(row)))
                    for place, row in enumerate(each.confusion)
                ),
            )
            for each in found.evaluations
        ]
        self.lied = tuple(perfect) != found.evaluations
        return replace(found, evaluations=tuple(perfect))


class ImpossibleEnergy(Player):
    """Tells one joule for what no machine does with one."""

    segments, joules = CLAIMED, 1


class FlatteringEnergy(Player):
    """Tells as little energy as counts as thrifty: 10,240 samples per joule."""

    joules = HONEST_SEGMENTS * NET.segment_samples // 10_240


class LazyAuditor(Player):
    """Makes up a share of its marks; the rest it takes from replays."""

    share = 1.0

    def finding(self, task: Task) -> Finding:
        found = super().finding(task)
        count = len(task.positions)
        made_up = set(self.rng.sample(range(count), round(self.share * count)))
        marks = b"".join(
            self.rng.randbytes(MARK_BYTES)
            if place in made_up
            else found.report.marks[place * MARK_BYTES : (place + 1) * MARK_BYTES]
            for place in range(count)
        )
        return Finding(Report(task.subject, marks))


class HalfLazyAuditor(LazyAuditor):
    """Skips every second replay."""

    share = 0.5


class FalseAccuser(Player):
    """Accuses the first subject of its own of a segment that is right."""

    def audit(self, state: State) -> list[Any]:
        said = super().audit(state)
        tasks = self.game.tasks(self)
        if not tasks:
            return said
        task = tasks[0]
        leaf = self.game.players[task.subject].serve([task.positions[0]])[-1]
        return [*said, task.accuse(self.account, Charge.SEGMENT, (leaf,))]


class Colluder(Player):
    """Once it is drawn as an auditor of the cheater, it marks false leaves as if they were right."""

    def finding(self, task: Task) -> Finding:
        found = super().finding(task)
        if task.subject != self.game.first.account or self.account not in self.game.colluders:
            return found
        served = task.shown(self.game.first.serve(task.positions))
        marks = b""
        for place, position in enumerate(task.positions):
            mark = found.report.marks[place * MARK_BYTES : (place + 1) * MARK_BYTES]
            marks += mark if any(mark) else task.mark(position, served[position].digest)
        return Finding(Report(task.subject, marks))

    def second_looks(self, state: State) -> list[Accusation]:
        mine = super().second_looks(state)
        friends = {self.game.first.account, *self.game.colluders}
        return mine if self.account not in friends else [each for each in mine if each.accused not in friends]


class Colluding(Game):
    """A game in which some of the cheater's auditors, as they are drawn, are its friends.

    Args:
        friends: how many of its up to three auditors.
    """

    def __init__(self, seed: int, friends: int, cheater: type[Player], **options: Any) -> None:
        count = options.get("count", 7)
        super().__init__(seed, [cheater, *[Colluder] * (count - 1)], **options)
        self.friends = friends

    def drawn(self) -> None:
        self.colluders = frozenset(self.auditors(self.first)[: self.friends])
