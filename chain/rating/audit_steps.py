"""Audits in blocks: sealed and opened reports, challenges and answers, and rulings on accusations.

Signature and size are checked before (`chain.rating.steps.apply`). Everything here works on a Draft and
raises InvalidRating; whoever called throws the draft away then.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from chain import validators
from chain.draft import Draft
from chain.errors import InvalidRating
from chain.rating import accusing
from chain.rating.auditing import most_asked, parts, wanted
from chain.rating.entries import Duty, OpenChallenge, Window, claim_key, duty_key
from chain.rating.items import (
    MARK_BYTES,
    Answer,
    AuditCommit,
    AuditReveal,
    Challenge,
    Charge,
    Report,
    Ruling,
    reports_digest,
)
from chain.rating.phases import check_leaf, check_phase, claim_of, running


def audit_commit(draft: Draft, item: AuditCommit, slot: int) -> None:
    """AUDIT_COMMIT: an auditor's reports, sealed, once a window.

    Whether it was drawn for anybody shows when they are opened: to say so now would take a draw for each
    claim of the window.

    Raises:
        InvalidRating: it breaks a rule.
    """
    window, borders = running(draft, item)
    check_phase(slot, borders.reveal_end, borders.audit_commit_end, "a sealed report")
    _check_auditor(draft, window, item.signer)
    if draft.duty(item.signer, window.start) is not None:
        raise InvalidRating("the auditor has sealed its reports in this window already")
    if len(item.digest) != 32:
        raise InvalidRating("the digest of sealed reports has 32 bytes")
    draft.put(duty_key(item.signer), Duty(window.start, item.digest))


def audit_reveal(draft: Draft, item: AuditReveal, slot: int) -> None:
    """AUDIT_REVEAL: the sealed reports, opened. An audit whose report is left out is one that was missed.

    Raises:
        InvalidRating: it breaks a rule.
    """
    window, borders = running(draft, item)
    check_phase(slot, borders.audit_commit_end, borders.audit_reveal_end, "an opened report")
    duty = draft.duty(item.signer, window.start)
    if duty is None:
        raise InvalidRating("the auditor has sealed no reports in this window")
    if duty.reports:
        raise InvalidRating("the auditor's reports are open already")
    if len(item.salt) != 32 or reports_digest(item.signer, item.salt, item.reports) != duty.digest:
        raise InvalidRating("these are not the reports that were sealed")
    if not item.reports:
        raise InvalidRating("there is no report")
    if any(one.subject >= other.subject for one, other in pairwise(item.reports)):
        raise InvalidRating("reports are in ascending order of their subjects, each once")
    for report in item.reports:
        _check_report(draft, window, item.signer, report)
    draft.put(duty_key(item.signer), replace(duty, reports=item.reports))


def challenge(draft: Draft, item: Challenge, slot: int) -> None:
    """CHALLENGE: a subject has to show leaves of the challenger's part in a block; each auditor may once.

    It names all that was not served: were it one of them, who withholds would have as many segments replayed
    as it has auditors, instead of forty.

    Raises:
        InvalidRating: it breaks a rule.
    """
    window, borders = running(draft, item)
    check_phase(slot, borders.reveal_end, borders.audit_commit_end, "a challenge")
    _check_auditor(draft, window, item.signer)
    part = parts(draft, window, item.subject).get(item.signer, ())
    if not item.positions or not set(item.positions) <= set(part):
        raise InvalidRating("the positions are not of this auditor's part of that subject")
    if list(item.positions) != sorted(set(item.positions)):
        raise InvalidRating("the positions of a challenge ascend, each once")
    claim = claim_of(draft, item.subject, window)
    if len(item.positions) > most_asked(claim.segments):
        raise InvalidRating(f"a challenge names {most_asked(claim.segments)} positions at most")
    if item.signer in claim.challengers:
        raise InvalidRating("the auditor has challenged this subject already")
    last_slot = slot + draft.genesis.params.challenge_slots
    asked = replace(
        claim,
        challenges=(*claim.challenges, OpenChallenge(item.signer, item.positions, last_slot)),
        challengers=(*claim.challengers, item.signer),
    )
    draft.put(claim_key(item.subject), asked)


def answer(draft: Draft, item: Answer, slot: int) -> None:
    """ANSWER: the leaves at the positions that an auditor challenged, and the one before each.

    That they are served is all that is asked here. Leaves out of order, or of work that was not done, are for
    an accusation: the challenger replays them.

    Raises:
        InvalidRating: it breaks a rule.
    """
    window, _ = running(draft, item)
    claim = claim_of(draft, item.signer, window)
    asked = next((entry for entry in claim.challenges if entry.challenger == item.challenger), None)
    if asked is None:
        raise InvalidRating("that account waits for no leaves")
    if slot > asked.last_slot:
        raise InvalidRating(f"the answer was due until slot {asked.last_slot}")
    places = wanted(asked)
    if [leaf.index for leaf in item.leaves] != places:
        raise InvalidRating(f"the answer has the leaves {', '.join(map(str, places))}, in this order")
    for leaf in item.leaves:
        check_leaf(leaf, claim.segments, claim.trace_root)
    left = tuple(entry for entry in claim.challenges if entry != asked)
    draft.put(claim_key(item.signer), replace(claim, challenges=left))


def rule(draft: Draft, item: Ruling, slot: int) -> None:
    """An accusation, and what its replay gave: the accused loses what an equivocator loses, or the accuser.

    The other one of the two gets the reporter's share. The finding is believed here, see
    `chain.rating.court`.

    Raises:
        InvalidRating: it breaks a rule.
    """
    accusation = item.accusation
    window, borders = running(draft, accusation)
    check_phase(slot, borders.commit_end, borders.end, "an accusation")
    accuser, accused = accusing.check(draft, window, accusation)
    if accusation.charge is Charge.ORDER and not item.guilty:
        raise InvalidRating("leaves that are out of order need no replay: the accused is guilty")
    if not item.guilty:
        validators.punish(draft, accuser, accused.public)
        return
    validators.punish(draft, accused, accuser.public)
    if accusation.charge is not Charge.MARK:
        claim = claim_of(draft, accused.public, window)
        draft.put(claim_key(accused.public), replace(claim, disproved=True))


def _check_auditor(draft: Draft, window: Window, public: bytes) -> None:
    """Raises InvalidRating unless the account can be drawn as an auditor and may still act."""
    validator = draft.validator(public)
    if validator is None or validator.convicted or draft.table_at(window.start).get(public) is None:
        raise InvalidRating("the account is no auditor of this window")


def _check_report(draft: Draft, window: Window, auditor: bytes, report: Report) -> None:
    """Raises InvalidRating unless it has a mark for each position of the auditor's part."""
    part = parts(draft, window, report.subject).get(auditor)
    if part is None:
        raise InvalidRating("a report is about somebody whom this auditor was not drawn for")
    if len(report.marks) != MARK_BYTES * len(part):
        raise InvalidRating(f"a report has {MARK_BYTES} bytes for each of {len(part)} segments")
