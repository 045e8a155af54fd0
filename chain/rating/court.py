"""Judging accusations by replay, where the data set is; elsewhere rulings are believed.

A court is asked from threads, as a replay takes up to an episode of training, and remembers what it found:
a block with a ruling asks again. A case is data of one branch (`chain.rating.accusing.Case`), so what was
found holds wherever the same case comes up.
"""

from __future__ import annotations

from collections.abc import Callable

from chain.draft import Draft
from chain.errors import InvalidBlock
from chain.rating.accusing import Case, case_of
from chain.rating.auditing import NO_MARK, mark
from chain.rating.bench import Bench
from chain.rating.draws import split
from chain.rating.items import Accusation
from chain.state import State
from chain.transition import open_slot
from chain.types import Body

REMEMBERED = 4096
"""Cases."""


Benches = Callable[[bytes], Bench | None]
"""The data set of an infohash; None if it is not here."""


class Court:
    """Judges by replay and remembers.

    Args:
        benches: asked each time: data sets may come and go.
    """

    def __init__(self, benches: Benches) -> None:
        self._benches = benches
        self._found: dict[Case, bool] = {}

    def open_cases(self, parent: State, slot: int, body: Body) -> tuple[Case, ...]:
        """What has to be judged before a valid block of `slot` after `parent` can be taken; only what was
        judged before is compared here.

        Raises:
            InvalidBlock: a ruling is not what the replay gave.
        """
        if not body.rulings:
            return ()
        draft, unknown = open_slot(parent, slot), []
        for ruling in body.rulings:
            case = case_of(draft, draft.window(), ruling.accusation)
            if case is None or self._benches(case.infohash) is None:
                continue
            found = self._found.get(case)
            if found is None:
                unknown.append(case)
            elif found != ruling.guilty:
                raise InvalidBlock("a ruling is not what the replay gives")
        return tuple(unknown)

    def judge(self, case: Case) -> bool | None:
        """Whether the accused is guilty; None if the data set is not here. Takes up to an episode's time."""
        found = self._found.get(case)
        bench = self._benches(case.infohash)
        if found is None and bench is not None:
            found = replayed(case, bench)
            if len(self._found) >= REMEMBERED:
                self._found.clear()  # one step, unlike forgetting the oldest: threads meet here
            self._found[case] = found
        return found


def replayed(case: Case, bench: Bench) -> bool:
    """Whether a replay gives something else than what is claimed."""
    if case.confusion:
        rows = split(case.draw, bench.tests)
        return bench.evaluate(case.challenge, case.episode, rows)[1] != case.confusion
    marked = case.marked
    steps = {case.segment: marked.step if marked else 0}
    digest, state = bench.looks(case.challenge, case.episode, steps)[case.segment]
    if marked is None:
        return digest != case.digest
    # A mark says that the leaf is right, too: an auditor that found it wrong has none to give.
    true = mark(marked.auditor, marked.subject, marked.position, state) if digest == case.digest else NO_MARK
    return true != marked.mark


def judge(ledger: Draft | State, accusation: Accusation, court: Court) -> bool | None:
    """Whether the accused is guilty; None if the data set is not here. Takes up to an episode's time.

    Raises:
        InvalidRating: the accusation does not fit what the accused committed to.
    """
    case = case_of(ledger, ledger.window(), accusation)
    return True if case is None else court.judge(case)
