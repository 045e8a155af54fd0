"""The end of a window: what each account gets for it, and what the last three come to.

Everybody who was registered when it began has an outcome: a rating, or 0 for a miss. The rating that counts
is the lower median of the last three outcomes, less a part for audits that were not done. A window that fewer
than `MIN_KEYS` accounts pass is void, as a weight table of so few would be, and changes nobody's standing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from enum import IntEnum

from chain import ratings, rewards
from chain.baseline.score import ScoreRules, add, rules_of, score
from chain.draft import Draft
from chain.errors import InvalidRating
from chain.genesis import MAX_RATING
from chain.rating.auditing import NO_MARK, due, opened, subjects
from chain.rating.entries import Claim, Outcome, Standing, Window, standing_key
from chain.rating.items import MARK_BYTES, Report
from chain.rating.phases import NET, registered_for
from chain.rating.schedule import training_ms
from chain.tables import MIN_KEYS

COUNTED = 3
"""Outcomes that a standing has at most."""
DELIVERED_SHARE = 5
"""Who missed all its audits loses one part in so many of its rating."""


class Reason(IntEnum):
    """Why an outcome is what it is."""

    RATED = 0
    NO_CLAIM = 1
    """It committed to nothing."""
    NOT_REVEALED = 2
    """It did not show how the drawn episodes do."""
    DISPROVED = 3
    """An accusation of its claim held."""
    NOT_SERVED = 4
    """It did not answer a challenge."""
    POOR = 5
    """What it trained has not the least quality."""
    IMPOSSIBLE = 6
    """It told less energy than its work needs."""
    LITTLE = 7
    """It comes to less than one: about one segment a minute."""


def close(draft: Draft, window: Window, height: int) -> None:
    """End a window in the block of `height`: pay the auditors, and give everybody its rating."""
    duties, missed, work = _audits(draft, window)
    rewards.pay_auditors(draft, work, height - window.funded)
    params = draft.genesis.params
    rules = rules_of(draft.baseline(window.epoch), params.energy_span_ppm)
    found: dict[bytes, Outcome] = {}
    for public in draft.roll.accounts:
        if registered_for(draft, public, window):
            outcome = judged(
                rules, window, training_ms(params, window.slots), draft.claim(public, window.start)
            )
            found[public] = replace(outcome, duties=duties[public], missed=missed[public])
    if sum(outcome.rating > 0 for outcome in found.values()) >= MIN_KEYS:
        for public, outcome in found.items():
            _stand(draft, public, outcome)


def judged(rules: ScoreRules, window: Window, window_ms: int, claim: Claim | None) -> Outcome:
    """What a claim, or None, is worth at the window's end; without the account's own audits."""
    segments = 0 if claim is None else claim.segments
    miss = Outcome(window.start, 0, segments, 0, 0, 0, Reason.NO_CLAIM, 0, 0)
    if claim is None:
        return miss
    if claim.disproved:
        return replace(miss, reason=Reason.DISPROVED)
    if not claim.evaluations:
        return replace(miss, reason=Reason.NOT_REVEALED)
    if claim.challenges:
        return replace(miss, reason=Reason.NOT_SERVED)
    confusion = add([evaluation.confusion for evaluation in claim.evaluations])
    try:
        found = score(rules, NET, segments, window_ms, claim.joules, confusion)
    except InvalidRating:
        return replace(miss, reason=Reason.IMPOSSIBLE)
    low = Reason.LITTLE if found.quality_factor else Reason.POOR
    return replace(
        miss,
        rating=min(found.rating, MAX_RATING),
        quality=found.quality.combined,
        quality_factor=found.quality_factor,
        energy_factor=found.energy_factor,
        reason=Reason.RATED if found.rating else low,
    )


def active(outcomes: Sequence[Outcome]) -> int:
    """The rating that some outcomes, at least one, come to: their lower median, of which up to a fifth goes
    for audits that were not done.
    """
    ordered = sorted(outcome.rating for outcome in outcomes)
    median = ordered[(len(ordered) - 1) // 2]
    duties = sum(outcome.duties for outcome in outcomes)
    if not duties:
        return median
    missed = sum(outcome.missed for outcome in outcomes)
    return median * (DELIVERED_SHARE * duties - missed) // (DELIVERED_SHARE * duties)


def marked(report: Report) -> int:
    """How many segments a report says that its auditor replayed."""
    starts = range(0, len(report.marks), MARK_BYTES)
    return sum(report.marks[start : start + MARK_BYTES] != NO_MARK for start in starts)


def _audits(draft: Draft, window: Window) -> tuple[Counter[bytes], Counter[bytes], Counter[bytes]]:
    """By auditor: on how many subjects it had to report, how many of these audits it missed, and how many
    segments it marked.
    """
    duties, missed, work = Counter[bytes](), Counter[bytes](), Counter[bytes]()
    for auditor, drawn in subjects(draft, window).items():
        chosen = due(window.draw, auditor, drawn, draft.table_at(window.start))
        for subject in drawn:
            claim, report = draft.claim(subject, window.start), opened(draft, window, auditor, subject)
            work[auditor] += 0 if report is None else marked(report)
            if subject in chosen and claim is not None and claim.evaluations:
                duties[auditor] += 1
                missed[auditor] += _missed(draft, auditor, claim, subject, report)
    return duties, missed, +work


def _missed(draft: Draft, auditor: bytes, claim: Claim, subject: bytes, report: Report | None) -> bool:
    """Whether an auditor did not do an audit. A report without a mark says that nothing was served, or that
    nothing is true: it counts if the auditor challenged the subject, or the subject was convicted.
    """
    validator = draft.validator(subject)
    if validator is None or validator.convicted:
        return False
    return report is None or not (marked(report) or auditor in claim.challengers)


def _stand(draft: Draft, public: bytes, outcome: Outcome) -> None:
    """Add an outcome to an account's standing, and give it the rating that this comes to.

    Who missed the window keeps the end of its rating; a genesis rating is replaced either way.
    """
    validator = draft.validator(public)
    if validator is None:
        return
    standing = draft.standing(public)
    outcomes = (*standing.outcomes, outcome)[-COUNTED:]
    draft.put(standing_key(public), Standing(standing.since, outcomes))
    latest = draft.epochs + draft.genesis.params.rating_epochs
    until = latest if outcome.rating else min(validator.rated_until, latest)
    if until > draft.epochs:
        ratings.rate(draft, public, active(outcomes), until)
    elif validator.rating:
        draft.put_validator(replace(validator, rating=0))
