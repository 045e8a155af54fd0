"""Rating items in blocks: what a node commits to, and what it reveals; audits are in `audit_steps`.

Everything here works on a Draft and raises InvalidRating; whoever called throws the draft away then.
"""

from __future__ import annotations

from dataclasses import replace

from chain.draft import Draft
from chain.errors import InvalidRating, ParamsError
from chain.rating import audit_steps
from chain.rating.draws import EVALUATED, evaluated
from chain.rating.entries import WINDOW_KEY, Claim, Evaluated, claim_key
from chain.rating.items import (
    MAX_RATING_ITEM_BYTES,
    Answer,
    AuditCommit,
    AuditReveal,
    Challenge,
    Commit,
    Evaluation,
    RatingItem,
    Reveal,
    Ruling,
)
from chain.rating.phases import NET, check_leaf, check_phase, claim_of, registered_for, running

MAX_SEGMENTS = 2**26
"""Of a claim: 900 TFLOPS over ten minutes."""
MAX_CLASSES = 64
MAX_SAMPLES = 2**24
"""Counts of one confusion matrix, together."""
_BARE_REVEAL = 2000
"""Bytes of a reveal without its matrices, at most: two paths of 23 hashes, as of the most episodes."""


def apply(draft: Draft, item: RatingItem, slot: int) -> None:
    """Apply an item to the draft of a block of `slot`. Raises InvalidRating."""
    point = item.accusation if isinstance(item, Ruling) else item
    if len(item.encoded) > MAX_RATING_ITEM_BYTES:
        raise InvalidRating(f"the item has more than {MAX_RATING_ITEM_BYTES} bytes")
    if not point.signed_for(draft.genesis.chain_id):
        raise InvalidRating("the signature does not hold")
    match item:
        case Commit():
            commit(draft, item, slot)
        case Reveal():
            reveal(draft, item, slot)
        case AuditCommit():
            audit_steps.audit_commit(draft, item, slot)
        case AuditReveal():
            audit_steps.audit_reveal(draft, item, slot)
        case Challenge():
            audit_steps.challenge(draft, item, slot)
        case Answer():
            audit_steps.answer(draft, item, slot)
        case Ruling():
            audit_steps.rule(draft, item, slot)


def commit(draft: Draft, item: Commit, slot: int) -> None:
    """COMMIT: an account's claim, one a window.

    Raises:
        InvalidRating: it breaks a rule.
    """
    window, borders = running(draft, item)
    check_phase(slot, borders.train_end, borders.commit_end, "a commitment")
    if not registered_for(draft, item.signer, window):
        raise InvalidRating("the account was not registered before the window began, or was convicted")
    if draft.claim(item.signer, window.start) is not None:
        raise InvalidRating("the account has committed in this window already")
    if len(item.trace_root) != 32 or len(item.episodes_root) != 32:
        raise InvalidRating("the roots of a commitment have 32 bytes")
    if not item.segments <= MAX_SEGMENTS:
        raise InvalidRating(f"more than {MAX_SEGMENTS} segments are more than a machine does")
    if not 1 <= item.episodes <= item.segments // NET.segments:
        raise InvalidRating(f"{item.segments} segments cannot hold {item.episodes} complete episodes")
    claim = Claim(
        window.start, item.segments, item.trace_root, item.episodes, item.episodes_root, item.joules
    )
    draft.put(claim_key(item.signer), claim)
    draft.put(WINDOW_KEY, replace(window, claims=window.claims + 1))


def reveal(draft: Draft, item: Reveal, slot: int) -> None:
    """REVEAL: how the drawn episodes of a claim do on the drawn test samples, once.

    That the counts are right only a replay shows: `chain.rating.court`.

    Raises:
        InvalidRating: it breaks a rule.
    """
    window, borders = running(draft, item)
    check_phase(slot, borders.commit_end, borders.reveal_end, "a reveal")
    claim = claim_of(draft, item.signer, window)
    if claim.evaluations:
        raise InvalidRating("the claim's evaluations are revealed already")
    drawn = evaluated(window.draw, item.signer, claim.episodes)
    leaves = [evaluation.leaf for evaluation in item.evaluations]
    if tuple(leaf.index for leaf in leaves) != drawn:
        raise InvalidRating(f"the episodes to evaluate are those at {drawn}, in this order")
    for leaf in leaves:
        check_leaf(leaf, claim.episodes, claim.episodes_root)
        if leaf.segment != NET.segments - 1:
            raise InvalidRating(f"segment {leaf.segment} is not the last of its episode")
    episodes = [leaf.episode for leaf in leaves]
    if sorted(set(episodes)) != episodes:
        raise InvalidRating("episodes are committed to in ascending order, each once")
    if len({_check_matrix(evaluation) for evaluation in item.evaluations}) > 1:
        raise InvalidRating("the confusion matrices are not of one size")
    shown = tuple(
        Evaluated(evaluation.leaf.episode, evaluation.leaf.digest, evaluation.confusion)
        for evaluation in item.evaluations
    )
    draft.put(claim_key(item.signer), replace(claim, evaluations=shown))


def _check_matrix(evaluation: Evaluation) -> int:
    """The number of classes. Raises InvalidRating unless it is a square of counts, some of them not 0."""
    rows = evaluation.confusion
    if not 2 <= len(rows) <= MAX_CLASSES or any(len(row) != len(rows) for row in rows):
        raise InvalidRating(f"a confusion matrix is a square of 2 to {MAX_CLASSES} classes")
    if not 1 <= sum(map(sum, rows)) <= MAX_SAMPLES:
        raise InvalidRating(f"a confusion matrix counts 1 to {MAX_SAMPLES} samples")
    return len(rows)


def check_data(classes: int, tests: int) -> None:
    """Whether everybody who trains on a data set can reveal how well, whatever the replays give.

    Args:
        classes: of the data set.
        tests: its test samples; a matrix counts half of them.

    Raises:
        ParamsError: it has more classes than a matrix, or the matrices may not fit into an item.
    """
    if classes > MAX_CLASSES:
        raise ParamsError(f"{classes} classes are more than the {MAX_CLASSES} of a matrix in a rating item")
    cells, counted = classes * classes, (tests + 1) // 2
    # A count takes a byte, 2 from 128 on, 3 from 256 and 5 from 65,536 on: nowhere more than one for 128.
    matrix = 3 * (classes + 1) + cells + min(4 * cells, counted // 128)
    if counted > MAX_SAMPLES or _BARE_REVEAL + EVALUATED * matrix > MAX_RATING_ITEM_BYTES:
        raise ParamsError(
            f"matrices of {classes} classes and {counted} samples do not fit into a rating item of "
            f"{MAX_RATING_ITEM_BYTES} bytes"
        )
