"""Audits in a rating window, of real training on a data set so small that an episode takes milliseconds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from chain.baseline.bench import NumpyBench
from chain.baseline.dataset import Samples
from chain.baseline.draws import challenge
from chain.baseline.episode import train
from chain.baseline.kernel import NumpyTrainer
from chain.baseline.net import Net
from chain.baseline.trace import Leaf
from chain.crypto import Keypair
from chain.params import ChainParams
from chain.quality import BUNDLED
from chain.rating.auditing import NO_MARK, mark, mark_step, parts
from chain.rating.court import Court
from chain.rating.draws import split
from chain.rating.entries import Window
from chain.rating.items import (
    Accusation,
    Answer,
    AuditCommit,
    AuditReveal,
    Challenge,
    Charge,
    ProvenLeaf,
    Report,
    Reveal,
    Ruling,
    reports_digest,
)
from chain.rating.phases import NET
from tests.chain.conftest import World
from tests.chain.rating_window import BRIEF, Windows, Work, proven

LONGER = replace(BRIEF, audit_commit_slots=3, audit_reveal_slots=2, challenge_slots=3)
"""Audits until slot 35, the end in 38."""
SALT = b"\x5a" * 32
FOUR = (10, 10, 10, 10)


def small_bench(seed: int = 0) -> NumpyBench:
    """Two classes of eight numbers, which a handful of hidden units learns."""
    rng = np.random.default_rng(seed)
    net = Net(pixels=8, inputs=8, hidden=8, classes=2, batch=8)

    def samples(count: int) -> Samples:
        y = rng.integers(0, 2, count)
        x = np.clip(rng.normal(0, 30, (count, 8)) + np.where(y[:, None], 50, -50), -127, 127)
        return Samples(x.astype(np.int8), y.astype(np.intp))

    return NumpyBench(net, samples(64), samples(40))


BENCH = small_bench()


@cache
def trained(bench: NumpyBench, given: bytes, segments: int) -> tuple[Leaf, ...]:
    """The true leaves of so many segments."""
    found: list[Leaf] = []
    trainer = NumpyTrainer(bench.net, bench.train)
    for episode in range(-(-segments // NET.segments)):
        for leaf in train(trainer, given, episode):
            if leaf is not None and len(found) < segments:
                found.append(leaf)
    return tuple(found)


@cache
def states(bench: NumpyBench, given: bytes, episode: int) -> tuple[bytes, ...]:
    """The state after each step of an episode."""
    trainer = NumpyTrainer(bench.net, bench.train)
    return tuple(trainer.state() for leaf in train(trainer, given, episode) if leaf is None)


class Trained(Work):
    """What an account really trained, before a test changes it.

    Args:
        leaves: where a test has trained them itself.
    """

    def __init__(
        self,
        world: World,
        keys: Keypair,
        window: Window,
        segments: int = 20,
        bench: NumpyBench = BENCH,
        leaves: Iterable[Leaf] = (),
    ) -> None:
        super().__init__(world, keys, window, segments)
        self.bench, self.given = bench, challenge(window.mix, window.start, keys.public)
        self.leaves = list(leaves or trained(bench, self.given, segments))
        self.last = [leaf for leaf in self.leaves if leaf.segment == NET.segments - 1]

    def true_reveal(self, window: Window) -> Reveal:
        """With the confusion matrices that a replay gives."""
        rows = split(window.draw, self.bench.tests)
        shown = self.reveal(window).evaluations
        matrices = [self.bench.evaluate(self.given, each.leaf.episode, rows)[1] for each in shown]
        return self.with_matrices(window, matrices)

    def with_matrices(self, window: Window, matrices: Iterable[tuple[tuple[int, ...], ...]]) -> Reveal:
        shown = self.reveal(window).evaluations
        evaluations = tuple(
            type(each)(each.leaf, matrix) for each, matrix in zip(shown, matrices, strict=True)
        )
        point: Reveal = self.signed(Reveal(self.keys.public, window.start, window.draw, evaluations))
        return point


class Audited(Windows):
    """A window with four validators, each the auditor of the three others."""

    def __init__(
        self, world: World | None = None, params: ChainParams = LONGER, bench: NumpyBench = BENCH
    ) -> None:
        super().__init__(world or World(ratings=FOUR, params=params))
        self.bench = bench
        self.court = Court({BUNDLED: bench}.get)

    # -- going on --------------------------------------------------------------------------------------

    def train(self, segments: int = 20) -> None:
        """To the announcement; everybody trains."""
        window = self.announce()
        for keys in self.world.validators:
            self.work[keys.public] = Trained(self.world, keys.keypair, window, segments, self.bench)

    def claim(self) -> None:
        """To the draw: everybody commits to what it has."""
        self.go(self.borders.train_end, [work.commit for work in self.work.values()])
        self.draw()

    def show(self) -> None:
        """To the end of the reveals."""
        self.go(self.borders.commit_end + 1, [self.of(i).true_reveal(self.window) for i in range(4)])
        self.go(self.borders.reveal_end)

    def ready(self, segments: int = 20) -> Audited:
        """To where audits begin, everybody honest."""
        self.train(segments)
        self.claim()
        self.show()
        return self

    def audit(self, *who: int) -> None:
        """These auditors seal their reports and open them."""
        found = {i: self.reports(i) for i in who}
        self.go(self.world.state.slot + 1, [self.sealed(i, found[i]) for i in who])
        self.go(self.borders.audit_commit_end, [self.opened(i, found[i]) for i in who])

    # -- items -----------------------------------------------------------------------------------------

    def of(self, i: int) -> Trained:
        work = self.work[self.public(i)]
        assert isinstance(work, Trained)
        return work

    def public(self, i: int) -> bytes:
        return self.world.validators[i].public

    def part(self, auditor: int, subject: int) -> tuple[int, ...]:
        """The positions that an auditor has of a subject."""
        return parts(self.world.state, self.window, self.public(subject))[self.public(auditor)]

    def marks(self, auditor: int, subject: int) -> bytes:
        """True ones; none where the leaf is not what the subject should have trained."""
        draw, whose, work = self.window.draw, self.public(subject), self.of(subject)
        true = trained(self.bench, work.given, len(work.leaves))
        found = []
        for position in self.part(auditor, subject):
            leaf = work.leaves[position]
            step = leaf.segment * NET.steps + mark_step(draw, whose, position, NET.steps)
            state = states(self.bench, work.given, leaf.episode)[step]
            right = leaf == true[position]
            found.append(mark(self.public(auditor), whose, position, state) if right else NO_MARK)
        return b"".join(found)

    def reports(self, auditor: int) -> tuple[Report, ...]:
        """Of all others, ascending."""
        subjects = sorted((i for i in range(4) if i != auditor), key=self.public)
        return tuple(Report(self.public(i), self.marks(auditor, i)) for i in subjects)

    def sealed(self, i: int, reports: tuple[Report, ...]) -> AuditCommit:
        digest = reports_digest(self.public(i), SALT, reports)
        return self.signed(i, AuditCommit, digest)

    def opened(self, i: int, reports: tuple[Report, ...], salt: bytes = SALT) -> AuditReveal:
        return self.signed(i, AuditReveal, salt, reports)

    def challenge(self, i: int, subject: int, *positions: int) -> Challenge:
        return self.signed(i, Challenge, self.public(subject), positions)

    def answer(self, i: int, challenger: int, *indexes: int) -> Answer:
        return self.signed(i, Answer, self.public(challenger), self.leaves(i, *indexes))

    def leaves(self, i: int, *indexes: int) -> tuple[ProvenLeaf, ...]:
        """Of the trace."""
        return tuple(proven(self.of(i).leaves, index) for index in indexes)

    def accuse(
        self,
        by: int,
        charge: Charge,
        accused: int,
        leaves: tuple[ProvenLeaf, ...] = (),
        place: int = 0,
        about: bytes = b"",
    ) -> Accusation:
        return self.signed(by, Accusation, charge, self.public(accused), leaves, place, about)

    def rule(self, accusation: Accusation, guilty: bool) -> None:
        """Put a ruling into the next block."""
        self.go(self.world.state.slot + 1, [Ruling(accusation, guilty)])

    def signed(self, i: int, kind: Any, *rest: Any) -> Any:
        point = kind(self.public(i), self.window.start, self.window.draw, *rest)
        return self.work[self.public(i)].signed(point)
