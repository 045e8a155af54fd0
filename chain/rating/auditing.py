"""Who looks at whose work in a window, at what of it, and what shows that it was done.

Everything follows from the window's draws, so each node computes it alone: up to three auditors for each
subject by their weight, each with its part of forty drawn segments. A segment is looked at by training its
episode anew. What shows it is a mark: a hash of the weights after a step inside the segment, which the leaf
at the segment's end does not tell. It is of one auditor only, so that nobody's can be copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chain import lottery
from chain.crypto import H
from chain.draft import Draft
from chain.rating.draws import sample
from chain.rating.entries import OpenChallenge, Window
from chain.rating.items import MARK_BYTES, Report
from chain.state import State
from chain.weights import WeightTable

AUDITORS = 3
"""Of a subject, at most."""
POSITIONS = 40
"""Segments of a subject that are looked at: they find 10 % that are false with 98.5 %, 5 % with 87 %."""
MOST_MARKS = 1_400
"""About what one item of opened reports may hold: who was drawn for more subjects than that need not report
on all of them."""
ANSWER_BYTES = 16_000
"""Of an answer, what its leaves may have: the rest of an item's room is for its other fields."""
LEAF_BYTES, NODE_BYTES = 60, 34
"""Of a proven leaf at most, without its path, and of each node of that."""
SPOTS = 2
"""Marks of an auditor that the next one looks at again."""
NO_MARK = bytes(MARK_BYTES)
"""Stands for a segment that was not served, or whose replay gave something else than the leaf."""


def auditors(draw: bytes, window: int, subject: bytes, table: WeightTable) -> tuple[bytes, ...]:
    """Who audits a subject, in the order of the draw: different accounts, and not the subject.

    Each is drawn in proportion to weight among those who are left; fewer where nobody is.

    Args:
        draw: 32 bytes, of the window.
        window: its first slot.
        subject: 32-byte account.
        table: that holds in the window's epoch.
    """
    prefix = draw + window.to_bytes(8, "big") + subject
    chosen: list[bytes] = []
    for seat in range(AUDITORS):
        out = {subject, *chosen}
        total = table.without(out)
        if not total:
            break
        unit = lottery.unit("rating-auditor", prefix + bytes([seat]), total)
        chosen.append(table.owner_without(unit, out).public)
    return tuple(chosen)


def positions(draw: bytes, subject: bytes, segments: int) -> tuple[int, ...]:
    """Which leaves of a subject's trace are looked at, ascending: all, if there are not more."""
    return sample("rating-position", draw + subject, segments, POSITIONS)


def part(positions: Sequence[int], auditor: int, auditors: int) -> tuple[int, ...]:
    """The positions of auditor `auditor` of `auditors`: no two have one in common, together they have all."""
    return tuple(positions[auditor::auditors])


def with_neighbours(positions: Iterable[int]) -> set[int]:
    """These positions and the one before each, if there is one: together they show the order."""
    return {place for position in positions for place in (position, position - 1) if place >= 0}


def wanted(asked: OpenChallenge) -> list[int]:
    """The places of the leaves that answer a challenge, ascending."""
    return sorted(with_neighbours(asked.positions))


def most_asked(segments: int) -> int:
    """How many positions of a claim of so many segments one challenge may name: their leaves and neighbours,
    with their paths, are one answer.
    """
    return ANSWER_BYTES // (2 * (LEAF_BYTES + NODE_BYTES * (segments - 1).bit_length()))


def mark_step(draw: bytes, subject: bytes, position: int, steps: int) -> int:
    """After which step of the segment at a position its mark is taken, from 0 and before the last.

    The weights after the last step are what the leaf commits to.
    """
    prefix = draw + subject + position.to_bytes(8, "big")
    return lottery.unit("rating-mark-step", prefix, max(steps - 1, 1))


def mark(auditor: bytes, subject: bytes, position: int, state: bytes) -> bytes:
    """An auditor's mark: `MARK_BYTES` of the weights after that step, as `state_digest` has them."""
    return H("rating-mark", auditor, subject, position.to_bytes(8, "big"), state)[:MARK_BYTES]


def spots(spot: bytes, auditor: bytes, subject: bytes, count: int) -> tuple[int, ...]:
    """Which marks of an auditor's report the subject's next auditor looks at again, ascending.

    Args:
        spot: 32 bytes, of the window: known only when the reports are.
        count: marks in the report.
    """
    return sample("rating-spot", spot + auditor + subject, count, SPOTS)


def looks_again(auditors: Sequence[bytes], auditor: bytes) -> bytes | None:
    """Who looks again at an auditor's marks: the next in the order of the draw; None where it is alone."""
    following = auditors[(auditors.index(auditor) + 1) % len(auditors)]
    return None if following == auditor else following


def parts(ledger: Draft | State, window: Window, subject: bytes) -> dict[bytes, tuple[int, ...]]:
    """Each auditor's positions of a subject's trace, in the order of the draw of auditors.

    Empty for who has no claim in the window or has not revealed it: that is not rated, whatever is found.
    """
    claim = ledger.claim(subject, window.start)
    if claim is None or not claim.evaluations:
        return {}
    chosen = auditors(window.draw, window.start, subject, ledger.table_at(window.start))
    drawn = positions(window.draw, subject, claim.segments)
    return {auditor: part(drawn, place, len(chosen)) for place, auditor in enumerate(chosen)}


def subjects(ledger: Draft | State, window: Window) -> dict[bytes, tuple[bytes, ...]]:
    """By auditor, whom it was drawn for, ascending: of all who have a claim, revealed or not, so that it does
    not change once the draw is known.
    """
    table = ledger.table_at(window.start)
    found: dict[bytes, list[bytes]] = {}
    for subject in ledger.roll.accounts:
        if ledger.claim(subject, window.start) is not None:
            for auditor in auditors(window.draw, window.start, subject, table):
                found.setdefault(auditor, []).append(subject)
    return {auditor: tuple(drawn) for auditor, drawn in found.items()}


def due(draw: bytes, auditor: bytes, drawn: Sequence[bytes], table: WeightTable) -> tuple[bytes, ...]:
    """On which of the subjects whom an auditor was drawn for it has to report: on all, or on as many of them,
    drawn again, as one item holds.

    Args:
        drawn: as `subjects` has them.
        table: that drew them.
    """
    # Who is in the table has one auditor less where it has no more than three: two larger parts at most.
    usual = part(range(POSITIONS), 0, min(AUDITORS, len(table.entries)))
    most = MOST_MARKS // len(usual)
    return tuple(drawn[place] for place in sample("rating-due", draw + auditor, len(drawn), most))


def opened(ledger: Draft | State, window: Window, auditor: bytes, subject: bytes) -> Report | None:
    """An auditor's report on a subject, once it has opened it."""
    duty = ledger.duty(auditor, window.start)
    reports = () if duty is None else duty.reports
    return next((report for report in reports if report.subject == subject), None)
