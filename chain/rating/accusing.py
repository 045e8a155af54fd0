"""Accusations: who may accuse whom of what, and what has to be replayed to see whether it is so.

Everything that can be checked without a data set is checked here, and part of the transition: who the two
are, that the leaves are the accused's, that there is such a matrix or mark. What is left is a `Case`: it
holds all that a replay needs, so it can be judged by any thread, ahead of the block, and remembered.
"""

from __future__ import annotations

from dataclasses import dataclass

from chain.baseline.draws import challenge
from chain.baseline.trace import Leaf, check_neighbours
from chain.draft import Draft
from chain.entries import Validator
from chain.errors import InvalidRating
from chain.rating.auditing import NO_MARK, mark_step, opened, parts
from chain.rating.entries import Claim, Evaluated, Window
from chain.rating.items import MARK_BYTES, Accusation, Charge, ProvenLeaf
from chain.rating.phases import NET, check_leaf, claim_of, registered_for
from chain.state import State

TRACE, EPISODES = 0, 1
"""`Accusation.place` of a breach of order: in which tree."""


@dataclass(frozen=True, slots=True)
class Marked:
    """An auditor's mark.

    Args:
        auditor, subject: 32-byte accounts.
        position: of the segment in the subject's trace.
        step: after which the mark is taken.
        mark: `MARK_BYTES`, as reported.
    """

    auditor: bytes
    subject: bytes
    position: int
    step: int
    mark: bytes


@dataclass(frozen=True, slots=True)
class Case:
    """What is to be replayed: an episode up to a segment, and what somebody claims of it.

    Args:
        infohash: 20 bytes, of the data set.
        challenge: 32 bytes that the episode follows from.
        episode, segment: as claimed.
        digest: of the weights after the segment, as claimed.
        marked: an auditor's mark that is in question, else None.
        draw: 32 bytes that draw the test samples of a confusion matrix that is in question; else empty.
        confusion: that matrix, as revealed; else empty.
    """

    infohash: bytes
    challenge: bytes
    episode: int
    segment: int
    digest: bytes
    marked: Marked | None = None
    draw: bytes = b""
    confusion: tuple[tuple[int, ...], ...] = ()


def check(ledger: Draft | State, window: Window, accusation: Accusation) -> tuple[Validator, Validator]:
    """Check an accusation in a window that is under way. Returns accuser and accused.

    Nobody is punished twice for a window, even after registering anew in it; who has lost a case cannot bring
    another before it registers again.

    Raises:
        InvalidRating: it breaks a rule.
    """
    accuser, accused = ledger.validator(accusation.signer), ledger.validator(accusation.accused)
    if accuser is None or accuser.convicted:
        raise InvalidRating("the accuser is no validator, or was convicted")
    if not accuser.bonded(ledger.genesis.params.bond):
        raise InvalidRating("the accuser has no bond to lose")
    if accused is None or not registered_for(ledger, accused.public, window):
        raise InvalidRating("the accused is no validator, or has been punished since the window began")
    if accuser.public == accused.public:
        raise InvalidRating("nobody accuses itself")
    case_of(ledger, window, accusation)
    return accuser, accused


def case_of(ledger: Draft | State, window: Window, accusation: Accusation) -> Case | None:
    """What has to be replayed to judge an accusation; None where the leaves alone prove it.

    Raises:
        InvalidRating: it does not fit what the accused committed to.
    """
    charge, marked = accusation.charge, accusation.charge is Charge.MARK
    _check_unused(accusation)
    subject = accusation.about if marked else accusation.accused
    claim = claim_of(ledger, subject, window)
    if charge is Charge.ORDER:
        _check_breach(claim, accusation)
        return None
    infohash = ledger.baseline(window.epoch).infohash
    given = challenge(window.mix, window.start, subject)
    if charge is Charge.MATRIX:
        shown = _evaluation(claim, accusation.place)
        last = NET.segments - 1
        return Case(
            infohash, given, shown.episode, last, shown.digest, draw=window.draw, confusion=shown.confusion
        )
    [leaf] = accusation.leaves
    if charge is Charge.EPISODE:
        check_leaf(leaf, claim.episodes, claim.episodes_root)
    else:
        check_leaf(leaf, claim.segments, claim.trace_root)
    if leaf.segment >= NET.segments:
        raise InvalidRating(f"an episode has no segment {leaf.segment}: the charge is that of order")
    found = _mark(ledger, window, accusation, leaf) if marked else None
    return Case(infohash, given, leaf.episode, leaf.segment, leaf.digest, found)


def _check_unused(accusation: Accusation) -> None:
    """What a charge does not use is empty, so that it has one form. Raises InvalidRating."""
    charge, leaves = accusation.charge, len(accusation.leaves)
    if leaves not in _LEAVES[charge]:
        raise InvalidRating(f"the charge {charge.name} does not come with {leaves} leaves")
    if accusation.place and charge in (Charge.SEGMENT, Charge.EPISODE):
        raise InvalidRating(f"the charge {charge.name} has no place")
    if accusation.about and charge is not Charge.MARK:
        raise InvalidRating(f"the charge {charge.name} is about nobody else")


_LEAVES = {
    Charge.SEGMENT: (1,), Charge.EPISODE: (1,), Charge.MATRIX: (0,), Charge.ORDER: (1, 2), Charge.MARK: (1,),
}  # fmt: skip


def _evaluation(claim: Claim, place: int) -> Evaluated:
    if place >= len(claim.evaluations):
        raise InvalidRating(f"the accused has revealed no evaluation {place}")
    return claim.evaluations[place]


def _mark(ledger: Draft | State, window: Window, accusation: Accusation, leaf: ProvenLeaf) -> Marked:
    """The mark that is in question. Raises InvalidRating."""
    auditor, subject, place = accusation.accused, accusation.about, accusation.place
    report = opened(ledger, window, auditor, subject)
    if report is None:
        raise InvalidRating("the accused has opened no report about that subject")
    positions = parts(ledger, window, subject)[auditor]
    if place >= len(positions) or leaf.index != positions[place]:
        raise InvalidRating(f"mark {place} of the report is not about leaf {leaf.index}")
    mark = report.marks[MARK_BYTES * place : MARK_BYTES * (place + 1)]
    if mark == NO_MARK:
        raise InvalidRating("where there is no mark nothing was said")
    return Marked(auditor, subject, leaf.index, mark_step(window.draw, subject, leaf.index, NET.steps), mark)


def _check_breach(claim: Claim, accusation: Accusation) -> None:
    """Raises InvalidRating unless the leaves cannot stand where they do."""
    if accusation.place not in (TRACE, EPISODES):
        raise InvalidRating("the place of a breach of order is one of the two trees")
    trace, leaves = accusation.place == TRACE, accusation.leaves
    size, root = (claim.segments, claim.trace_root) if trace else (claim.episodes, claim.episodes_root)
    for leaf in leaves:
        check_leaf(leaf, size, root)
    if len(leaves) == 2 and leaves[1].index != leaves[0].index + 1:
        raise InvalidRating("the leaves are no neighbours")
    if not (_breaks_trace(leaves) if trace else _breaks_episodes(leaves)):
        raise InvalidRating("the leaves are in order")


def _breaks_trace(leaves: tuple[ProvenLeaf, ...]) -> bool:
    first, last = leaves[0], leaves[-1]
    if len(leaves) == 1:  # a segment comes after all that precede it in its episode
        return first.segment >= NET.segments or first.segment > first.index
    try:
        before, after = (Leaf(leaf.episode, leaf.segment, leaf.digest) for leaf in (first, last))
        check_neighbours(NET, before, after)
    except InvalidRating:
        return True
    return False


def _breaks_episodes(leaves: tuple[ProvenLeaf, ...]) -> bool:
    """Each is the last leaf of its episode, and the episodes ascend."""
    if len(leaves) == 1:
        return leaves[0].segment != NET.segments - 1
    return leaves[1].episode <= leaves[0].episode
