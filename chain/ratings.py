"""Giving a rating, and what becomes of it.

A rating holds until the clock of finalized epochs reaches `rated_until`; the next block then takes it away,
and tables follow as they follow every change (`chain.tables`). While nothing becomes final the clock stands:
the sides of a partition cannot let each other's ratings run out. Ratings of the genesis may be without an
end: they hold until others replace them.
"""

from __future__ import annotations

from dataclasses import replace

from chain.draft import Draft
from chain.errors import InvalidRating
from chain.genesis import MAX_RATING


def rate(draft: Draft, public: bytes, rating: int, rated_until: int) -> None:
    """Give a validator another rating, in place of the one it has.

    Args:
        public: 32-byte account.
        rating: computational-power rating, 0..2^32-1; 0 draws nothing.
        rated_until: finalized epochs at which it ends: after now, by at most `rating_epochs`.

    Raises:
        InvalidRating: it breaks a rule; the draft is as it was.
    """
    if not 0 <= rating <= MAX_RATING:
        raise InvalidRating(f"a rating must be 0..{MAX_RATING}, not {rating}")
    latest = draft.epochs + draft.genesis.params.rating_epochs
    if not draft.epochs < rated_until <= latest:
        raise InvalidRating(f"a rating of now ends after epoch {draft.epochs} and until epoch {latest}")
    validator = draft.validator(public)
    if validator is None:
        raise InvalidRating("the account is no validator")
    if validator.convicted:
        raise InvalidRating("the account was convicted and has not registered again")
    draft.put_validator(replace(validator, rating=rating, rated_until=rated_until))


def expire(draft: Draft) -> None:
    """Begin a block's slot: ratings whose time is over count 0 from this block on."""
    for rated_until, public in draft.roll.expiring:
        if rated_until > draft.epochs:
            break
        validator = draft.validator(public)
        if validator is not None:
            draft.put_validator(replace(validator, rating=0))
