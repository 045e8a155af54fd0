"""What honest nodes say in a rating window: pure functions of the chain's draws, a trace and a replay.

A subject commits to its trace, evaluates the episodes that are drawn and shows leaves. An auditor trains the
segments of its part anew: it marks those that are as claimed, challenges what it was not shown and accuses
of what is false. The next auditor looks at a few of its marks again. Items are made unsigned
(`chain.rating.items.sign`); who is asked, when, and on which thread is for the caller.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from chain import merkle
from chain.baseline.draws import challenge
from chain.baseline.trace import Leaf, Trace, check_neighbours
from chain.errors import ChainError, InvalidRating
from chain.rating import auditing
from chain.rating.auditing import with_neighbours
from chain.rating.bench import Bench
from chain.rating.draws import evaluated, split
from chain.rating.entries import Claim, OpenChallenge, Window
from chain.rating.items import (
    MARK_BYTES,
    Accusation,
    Answer,
    Challenge,
    Charge,
    Commit,
    Evaluation,
    ProvenLeaf,
    Report,
    Reveal,
)
from chain.rating.phases import NET, check_leaf
from chain.state import State

Served = Mapping[int, ProvenLeaf]
"""What a subject showed, by position in its trace."""


class Subject:
    """A node and its own trace.

    Args:
        account: 32 bytes.
        trace: of the window, with at least one whole episode.

    Raises:
        ChainError: there is no whole episode to commit to.
    """

    def __init__(self, account: bytes, trace: Trace) -> None:
        self.account, self.trace = account, trace
        self.last_leaves = tuple(leaf for leaf in trace.leaves if leaf.segment == NET.segments - 1)
        if not self.last_leaves:
            raise ChainError("a window without a whole episode cannot be rated")

    def commit(self, window: Window, joules: int) -> Commit:
        """What it claims; `joules` is 0 where nobody told."""
        return Commit(
            self.account, window.start, window.mix, len(self.trace), self.trace.root,
            len(self.last_leaves), merkle.root([leaf.encode() for leaf in self.last_leaves]), joules,
        )  # fmt: skip

    def reveal(self, window: Window, bench: Bench) -> Reveal:
        """The drawn episodes, trained anew and evaluated: up to two episodes of work.

        Raises:
            ChainError: one comes out otherwise, so that this machine's arithmetic or memory is faulty. Who
                says nothing misses the window; who reveals it is convicted of fraud.
        """
        given = challenge(window.mix, window.start, self.account)
        rows = split(window.draw, bench.tests)
        encoded = [leaf.encode() for leaf in self.last_leaves]
        found = []
        for index in evaluated(window.draw, self.account, len(self.last_leaves)):
            digest, confusion = bench.evaluate(given, self.last_leaves[index].episode, rows)
            if digest != self.last_leaves[index].digest:
                raise ChainError(
                    f"episode {self.last_leaves[index].episode} does not come out as it was trained"
                )
            found.append(
                Evaluation(_proven(self.last_leaves[index], index, merkle.path(encoded, index)), confusion)
            )
        return Reveal(self.account, window.start, window.draw, tuple(found))

    def leaf(self, position: int) -> ProvenLeaf:
        """The leaf at a position of its trace. Raises IndexError for one that it has not."""
        if not 0 <= position < len(self.trace):
            raise IndexError(f"leaf {position} of {len(self.trace)}")
        return _proven(self.trace.leaves[position], position, self._paths[position])

    def serve(self, positions: Iterable[int]) -> tuple[ProvenLeaf, ...]:
        """The leaves at these positions and the one before each, ascending. Raises IndexError."""
        return tuple(self.leaf(place) for place in sorted(with_neighbours(positions)))

    def answer(self, window: Window, asked: OpenChallenge) -> Answer:
        """What was challenged."""
        leaves = self.serve(asked.positions)
        return Answer(self.account, window.start, window.draw, asked.challenger, leaves)

    @cached_property
    def _paths(self) -> tuple[tuple[bytes, ...], ...]:
        return merkle.paths([leaf.encode() for leaf in self.trace.leaves])


@dataclass(frozen=True)
class Task:
    """An auditor's part of a subject.

    Args:
        window: drawn.
        subject: 32-byte account.
        claim: of the subject, revealed.
        parts: each auditor's positions, in the order of the draw.
        auditor: whose part this is, one of them.
    """

    window: Window
    subject: bytes
    claim: Claim
    parts: Mapping[bytes, tuple[int, ...]]
    auditor: bytes

    @property
    def positions(self) -> tuple[int, ...]:
        """The segments to look at, ascending."""
        return self.parts[self.auditor]

    @property
    def evaluations(self) -> tuple[int, ...]:
        """Which of the subject's evaluations this auditor looks at: they take turns."""
        place = tuple(self.parts).index(self.auditor)
        return tuple(range(place, len(self.claim.evaluations), len(self.parts)))

    @property
    def challenge(self) -> bytes:
        """That the subject's training follows from."""
        return challenge(self.window.mix, self.window.start, self.subject)

    def shown(self, leaves: Iterable[ProvenLeaf]) -> dict[int, ProvenLeaf]:
        """Of what the subject sent, what lies under its root. What does not shows nothing to anybody."""
        found = {}
        for leaf in leaves:
            try:
                check_leaf(leaf, self.claim.segments, self.claim.trace_root)
            except InvalidRating:
                continue
            found[leaf.index] = leaf
        return found

    def mark(self, position: int, state: bytes) -> bytes:
        """The auditor's mark of a segment."""
        return auditing.mark(self.auditor, self.subject, position, state)

    def spots(self) -> tuple[int, ...]:
        """The positions at which the next auditor looks again; empty before they are drawn."""
        if not self.window.spot:
            return ()
        places = auditing.spots(self.window.spot, self.auditor, self.subject, len(self.positions))
        return tuple(self.positions[place] for place in places)

    def dispute(self, unserved: Sequence[int], rng: random.Random) -> Challenge:
        """The auditor's word that it was not shown what lies there, unsigned.

        Of more than an answer holds it asks for some that nobody can foresee.
        """
        asked = sorted(rng.sample(unserved, min(len(unserved), auditing.most_asked(self.claim.segments))))
        return Challenge(self.auditor, self.window.start, self.window.draw, self.subject, tuple(asked))

    def accuse(
        self, by: bytes, charge: Charge, leaves: tuple[ProvenLeaf, ...] = (), place: int = 0
    ) -> Accusation:
        """An unsigned accusation: of the auditor for `Charge.MARK`, else of the subject."""
        marked = charge is Charge.MARK
        return Accusation(
            by, self.window.start, self.window.draw, charge, self.auditor if marked else self.subject,
            leaves, place, self.subject if marked else b"",
        )  # fmt: skip


def owed(state: State, auditor: bytes) -> tuple[bytes, ...]:
    """On whom an auditor has to report, whether or not they have revealed yet, ascending."""
    window = state.window()
    if window.over or not window.draw:
        return ()
    drawn = auditing.subjects(state, window).get(auditor, ())
    return auditing.due(window.draw, auditor, drawn, state.table_at(window.start))


def tasks_of(state: State, auditor: bytes) -> tuple[Task, ...]:
    """All that an auditor has to report on, by subject: whoever has revealed."""
    return tuple(task for subject in owed(state, auditor) if (task := task_of(state, auditor, subject)))


def task_of(state: State, auditor: bytes, subject: bytes) -> Task | None:
    """An auditor's part of a subject; None where the chain gives it none."""
    window = state.window()
    claim = state.claim(subject, window.start)
    if window.over or not window.draw or claim is None:
        return None
    parts = auditing.parts(state, window, subject)
    return Task(window, subject, claim, parts, auditor) if auditor in parts else None


def seconds_of(state: State, auditor: bytes) -> tuple[Task, ...]:
    """The tasks of others whose marks an auditor looks at again: of the one before it, by subject."""
    found = []
    for subject in state.roll.accounts:
        own = task_of(state, auditor, subject)
        if own is None:
            continue
        order = tuple(own.parts)
        before = order[order.index(auditor) - 1]
        if auditing.looks_again(order, before) == auditor:
            found.append(Task(own.window, own.subject, own.claim, own.parts, before))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Finding:
    """What an auditor found of a subject.

    Args:
        report: for its audit.
        unserved: the positions that the subject did not show, for a challenge.
        accusation: of the first thing that is false, unsigned; None if nothing is.
    """

    report: Report
    unserved: tuple[int, ...] = ()
    accusation: Accusation | None = None


def never() -> bool:
    """There is time for everything."""
    return False


def audit(
    task: Task, served: Served, reveal: Reveal | None, bench: Bench, enough: Callable[[], bool] = never
) -> Finding:
    """Look at an auditor's part of a subject.

    Args:
        served: leaves under the subject's root (`Task.shown`).
        reveal: the subject's, as it stands in a block: it proves the last leaves of evaluated episodes; None
            where it is not at hand, and then the evaluations are not looked at.
        bench: of the window's baseline; works for up to an episode for each position.
        enough: asked after each replay but the last: what is left then has no mark.
    """
    complete = [position for position in task.positions if served.keys() >= with_neighbours([position])]
    unserved = tuple(position for position in task.positions if position not in complete)
    accusation = _out_of_order(task, served, complete)
    marks: dict[int, bytes] = {}
    for position, digest, state in _replayed(task, served, complete, bench, enough):
        if digest == served[position].digest:
            marks[position] = task.mark(position, state)
        elif accusation is None:
            accusation = task.accuse(task.auditor, Charge.SEGMENT, (served[position],))
    if accusation is None and reveal is not None:
        accusation = _false_evaluation(task, reveal, bench)
    joined = b"".join(marks.get(position, auditing.NO_MARK) for position in task.positions)
    return Finding(Report(task.subject, joined), unserved, accusation)


def check_answer(task: Task, answer: Answer, bench: Bench) -> Accusation | None:
    """Replay what a subject showed in a block because this auditor challenged it: the accusation of the first
    thing that is false, unsigned.
    """
    served = task.shown(answer.leaves)
    complete = [position for position in task.positions if served.keys() >= with_neighbours([position])]
    if accusation := _out_of_order(task, served, complete):
        return accusation
    for position, digest, _ in _replayed(task, served, complete, bench):
        if digest != served[position].digest:
            return task.accuse(task.auditor, Charge.SEGMENT, (served[position],))
    return None


def look_again(task: Task, report: Report, served: Served, bench: Bench, by: bytes) -> tuple[Accusation, ...]:
    """Look again at some marks of an auditor.

    Args:
        task: of the auditor that is looked at.
        report: that it opened.
        served: leaves of the subject, as for `audit`.
        by: who looks: the subject's next auditor.

    Returns:
        Unsigned accusations: of the auditor whose mark is not what the replay gives, and of the subject whose
        leaf is not, marked or not: an auditor may have kept quiet about it.
    """
    seen = [position for position in task.spots() if position in served]
    for position, digest, state in _replayed(task, served, seen, bench):
        place = task.positions.index(position)
        mark = report.marks[place * MARK_BYTES : (place + 1) * MARK_BYTES]
        true = digest == served[position].digest
        wrong = mark != auditing.NO_MARK and not (true and mark == task.mark(position, state))
        of_auditor = (task.accuse(by, Charge.MARK, (served[position],), place),) if wrong else ()
        of_subject = () if true else (task.accuse(by, Charge.SEGMENT, (served[position],)),)
        if of_auditor or of_subject:
            return of_auditor + of_subject
    return ()


def _out_of_order(task: Task, served: Served, positions: Sequence[int]) -> Accusation | None:
    for position in positions:
        after, before = served[position], served.get(position - 1)
        try:
            check_neighbours(NET, None if before is None else _leaf(before), _leaf(after))
        except InvalidRating:
            leaves = (before, after) if before and after.segment < NET.segments else (after,)
            return task.accuse(task.auditor, Charge.ORDER, leaves)
    return None


def _replayed(
    task: Task,
    served: Served,
    positions: Sequence[int],
    bench: Bench,
    enough: Callable[[], bool] = never,
) -> Iterator[tuple[int, bytes, bytes]]:
    """For each position: the true digest, and the weights after the step that its mark is taken at.

    Positions of one episode share one replay, unless a trace names a segment of it twice, which is out of
    order somewhere. The shortest replays come first. A leaf that names no segment of an episode has none.
    """
    replays: dict[tuple[int, int], dict[int, int]] = {}
    for position in positions:
        leaf = served[position]
        again = sum(
            leaf.segment in places for (episode, _), places in replays.items() if episode == leaf.episode
        )
        if leaf.segment < NET.segments:
            replays.setdefault((leaf.episode, again), {})[leaf.segment] = position
    draw, subject = task.window.draw, task.subject
    for number, ((episode, _), places) in enumerate(
        sorted(replays.items(), key=lambda replay: max(replay[1]))
    ):
        if number and enough():
            return
        steps = {
            segment: auditing.mark_step(draw, subject, position, NET.steps)
            for segment, position in places.items()
        }
        found = bench.looks(task.challenge, episode, steps)
        yield from ((position, *found[segment]) for segment, position in places.items())


def _false_evaluation(task: Task, reveal: Reveal, bench: Bench) -> Accusation | None:
    rows = split(task.window.draw, bench.tests)
    for place in task.evaluations:
        shown = reveal.evaluations[place]
        digest, confusion = bench.evaluate(task.challenge, shown.leaf.episode, rows)
        if digest != shown.leaf.digest:
            return task.accuse(task.auditor, Charge.EPISODE, (shown.leaf,))
        if confusion != shown.confusion:
            return task.accuse(task.auditor, Charge.MATRIX, place=place)
    return None


def _leaf(proven: ProvenLeaf) -> Leaf:
    return Leaf(proven.episode, proven.segment, proven.digest)


def _proven(leaf: Leaf, index: int, path: tuple[bytes, ...]) -> ProvenLeaf:
    return ProvenLeaf(index, leaf.episode, leaf.segment, leaf.digest, path)
