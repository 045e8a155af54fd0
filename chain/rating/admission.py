"""Whether a rating item may still come to stand on the chain: what a pool asks before it lets one wait.

It is less than a block asks (`chain.rating.steps`): what an item follows from may not have come here yet.
"""

from __future__ import annotations

from chain.errors import InvalidRating
from chain.rating.auditing import wanted
from chain.rating.items import (
    Accusation,
    Answer,
    AuditCommit,
    AuditReveal,
    Challenge,
    Commit,
    Point,
    Reveal,
)
from chain.rating.schedule import Schedule, schedule_of
from chain.state import State


def check(point: Point, state: State, slot: int) -> None:
    """Check all but the signature.

    Args:
        state: after the head.
        slot: that runs.

    Raises:
        InvalidRating: the item cannot stand in any block after this state.
    """
    check_sender(point, state)
    check_time(point, state, slot)
    if stands(point, state):
        raise InvalidRating("the chain has it, or another one in its place")
    if isinstance(point, Answer):
        _check_answer(point, state)


def _check_answer(answer: Answer, state: State) -> None:
    """Raises InvalidRating if its challenger asks for something else here.

    A branch that was left may have had another challenge: the answer to that must not keep this one's out.
    """
    claim = state.claim(answer.signer, answer.window)
    for asked in claim.challenges if claim else ():
        shown = [leaf.index for leaf in answer.leaves]
        if asked.challenger == answer.challenger and shown != wanted(asked):
            raise InvalidRating("it answers another challenge than this branch's")


def stands(point: Point, state: State) -> bool:
    """Whether the chain has the item, or another one in its place."""
    claim, duty = state.claim(point.signer, point.window), state.duty(point.signer, point.window)
    match point:
        case Commit():
            return claim is not None
        case Reveal():
            return claim is not None and bool(claim.evaluations)
        case AuditCommit():
            return duty is not None
        case AuditReveal():
            return duty is not None and bool(duty.reports)
        case Challenge():
            theirs = state.claim(point.subject, point.window)
            return theirs is not None and point.signer in theirs.challengers
        case Answer():
            waiting = [each.challenger for each in claim.challenges] if claim else []
            known = claim is not None and point.challenger in claim.challengers
            return known and point.challenger not in waiting
    return False  # an accusation convicts one of the two whom `check_sender` looks at


def _end(point: Point, plan: Schedule, state: State) -> int:
    """The slot after the last whose block may hold an item."""
    match point:
        case Commit():
            return plan.commit_end
        case Reveal():
            return plan.reveal_end
        case AuditCommit() | Challenge():
            return plan.audit_commit_end
        case AuditReveal():
            return plan.audit_reveal_end
        case Answer():
            return plan.audit_commit_end + state.genesis.params.challenge_slots
    return plan.end


def check_time(point: Point, state: State, slot: int) -> None:
    """Raises InvalidRating for a window that the chain is not in, another branch's draw, or an item whose
    time is over, or far: before the draw nobody can have made what follows from it, so that as long as
    commitments wait nothing else does.
    """
    window = state.window()
    if window.over or not window.mix or window.start != point.window:
        raise InvalidRating(f"no window of slot {point.window} is under way here")
    if window.drawn_for(point) not in (b"", point.drawn):
        raise InvalidRating("the item was made for another draw than this branch's")
    plan, next_slot = schedule_of(state.genesis.params, window), max(slot, state.slot + 1)
    if not isinstance(point, Commit) and next_slot < plan.commit_end:
        raise InvalidRating("it comes before the draw that it follows from")
    if next_slot >= _end(point, plan, state):
        raise InvalidRating("it comes too late for any block")


def check_sender(point: Point, state: State) -> None:
    """Raises InvalidRating if the signer, or whom it accuses, is no validator or was convicted."""
    accounts = {point.signer: "signer"}
    if isinstance(point, Accusation):
        accounts[point.accused] = "accused"
    for account, role in accounts.items():
        validator = state.validator(account)
        if validator is None or validator.convicted:
            raise InvalidRating(f"the {role} is no validator, or was convicted")
        if (
            role == "signer"
            and isinstance(point, Accusation)
            and not validator.bonded(state.genesis.params.bond)
        ):
            raise InvalidRating("who accuses needs the bond")


def is_late(point: Point, state: State, slot: int) -> bool:
    """Whether an item is a commitment, and the first slot after the training is over: its sender may have
    trained on since.

    The chain takes a commitment during the whole grace, so that a few proposers cannot keep it out; that it
    was made in time is for those to see who watched it come.
    """
    window = state.window()
    if not isinstance(point, Commit) or window.over or window.start != point.window:
        return False
    return slot > schedule_of(state.genesis.params, window).train_end
