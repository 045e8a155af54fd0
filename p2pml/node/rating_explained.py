"""A rating taken apart: what gave it, what it weighs, what would raise it."""

from __future__ import annotations

from chain import address
from chain.baseline.score import ONE
from chain.entries import Validator
from chain.rating.closing import DELIVERED_SHARE, Reason, active
from chain.rating.entries import Claim, Outcome, Standing, claim_key
from chain.rating.phases import NET
from chain.rating.schedule import training_ms
from chain.state import State
from chain.tables import LOOKAHEAD
from p2pml.node.rating_views import EnergyView, OddsView, OutcomeView, RankView, RatingView
from p2pml.node.rating_windows import length

WORK = (
    "the rest is work: segments grow with a faster processor, more lanes and a higher cap (`rating_lanes` and"
    " `rating_cap` in config.toml); `p2pml bench run` tries it"
)
BASE = "take part in the next window: `p2pml rating windows` says when it starts"


def rating_view(state: State, slot: int, public: bytes, own: bool) -> RatingView | None:
    """A validator's rating as of `state`, weighed by the tables of `slot`; None for who never registered."""
    entry = state.validator(public)
    if entry is None:
        return None
    standing, epoch = state.standing(public), slot // state.genesis.params.slots_per_epoch
    outcomes = standing.outcomes
    left = expires_epochs(state, entry)
    return RatingView(
        address=address.encode(public),
        name=entry.name,
        own=own,
        rating=entry.rating,
        barred_epochs=max(entry.barred_until - state.finality.epochs, 0),
        expires_epochs=left,
        expires_ms=None if left is None else _expected_ms(state, slot, left),
        since=standing.since,
        outcomes=[outcome_view(state, outcome) for outcome in outcomes],
        median=_median(outcomes) if outcomes else None,
        delivered=_delivered(outcomes) if outcomes else None,
        earned=active(outcomes) if outcomes else None,
        odds=[odds(state, public, each) for each in (epoch, epoch + LOOKAHEAD)],
        energy=energy_view(state, public),
        advice=advice(state, entry, standing),
    )


def leaderboard(state: State, slot: int, own: bytes) -> list[RankView]:
    """Every validator, the highest rating first; takes time in proportion to their number."""
    table = state.table_at(slot)
    entries = [entry for public in state.roll.accounts if (entry := state.validator(public)) is not None]
    entries.sort(key=lambda entry: (-entry.rating, entry.public))

    def rank(place: int, entry: Validator) -> RankView:
        weight, outcomes = table.get(entry.public), state.standing(entry.public).outcomes
        last = outcomes[-1] if outcomes else None
        return RankView(
            place=place,
            address=address.encode(entry.public),
            name=entry.name,
            own=entry.public == own,
            rating=entry.rating,
            share=0.0 if weight is None else weight.rating / table.total,
            segments=None if last is None else last.segments,
            quality=None if last is None else last.quality,
            reason=None if last is None else reason_of(last),
            outcomes=len(outcomes),
            rated=sum(outcome.rating > 0 for outcome in outcomes),
            expires_epochs=expires_epochs(state, entry),
            energy=energy_view(state, entry.public),
        )

    return [rank(place, entry) for place, entry in enumerate(entries, start=1)]


def outcome_view(state: State, outcome: Outcome) -> OutcomeView:
    """What a window gave, with when it was."""
    genesis = state.genesis
    return OutcomeView(
        window=outcome.window,
        start_ms=genesis.slot_start_ms(outcome.window),
        window_ms=training_ms(genesis.params, length(genesis.params, outcome.window)),
        rating=outcome.rating,
        segments=outcome.segments,
        quality=outcome.quality,
        quality_factor=outcome.quality_factor,
        energy_factor=outcome.energy_factor,
        reason=reason_of(outcome),
        duties=outcome.duties,
        missed=outcome.missed,
    )


def reason_of(outcome: Outcome) -> str:
    """In words: `rated`, or why not."""
    return Reason(outcome.reason).name.lower().replace("_", " ")


def energy_view(state: State, public: bytes) -> EnergyView | None:
    """What an account told of its latest window; None where it committed to none."""
    claim = state.entry(claim_key(public))
    if not isinstance(claim, Claim):
        return None
    samples = claim.segments * NET.segment_samples
    return EnergyView(
        claim.window, claim.segments, claim.joules, samples // claim.joules if claim.joules else None
    )


def expires_epochs(state: State, entry: Validator) -> int | None:
    """Finalized epochs after which a rating ends by itself; None where it does not."""
    return max(entry.rated_until - state.finality.epochs, 0) if entry.expires else None


def odds(state: State, public: bytes, epoch: int) -> OddsView:
    """What an account weighs in the table of an epoch, as this branch has decided so far."""
    table = state.table(epoch)
    weight = table.get(public)
    rating = 0 if weight is None else weight.rating
    return OddsView(epoch, rating, rating / table.total)


def advice(state: State, entry: Validator, standing: Standing) -> list[str]:
    """What would raise a rating, with the number that it would give where the outcomes say it."""
    if entry.convicted:
        return ["it was convicted and weighs nothing until it registers again, when its bar is over"]
    outcomes = standing.outcomes
    if not outcomes:
        return [BASE, WORK]
    return [*_of_misses(outcomes), *_of_audits(outcomes), *_of_terms(state, outcomes), WORK]


def _of_misses(outcomes: tuple[Outcome, ...]) -> list[str]:
    best = max(outcomes, key=lambda outcome: outcome.rating)
    if not best.rating:
        return [BASE]
    then = active((*outcomes[-2:], best))
    if then <= active(outcomes):
        return []
    return [f"another window like its best one, of slot {best.window}, would give {then}"]


def _of_audits(outcomes: tuple[Outcome, ...]) -> list[str]:
    missed = sum(outcome.missed for outcome in outcomes)
    return [f"it did not report {missed} audits: reporting all gives {_median(outcomes)}"] if missed else []


def _of_terms(state: State, outcomes: tuple[Outcome, ...]) -> list[str]:
    rated = [outcome for outcome in outcomes if outcome.rating]
    if not rated:
        return []
    last, span = rated[-1], state.genesis.params.energy_span_ppm
    found = []
    if span and last.energy_factor < ONE + span:
        words = f"energy counts x {last.energy_factor / ONE:.3f}, thrifty machines x {(ONE + span) / ONE:.3f}"
        untold = ", who tells none the least: declare `rating_watts` in config.toml where nothing counts it"
        found.append(words + (untold if last.energy_factor == ONE - span else ""))
    if last.quality_factor < ONE:
        found.append(
            f"quality counts x {last.quality_factor / ONE:.3f}, nearly the same for everybody who computes"
            " this data set"
        )
    return found


def _median(outcomes: tuple[Outcome, ...]) -> int:
    """The lower one."""
    found = sorted(outcome.rating for outcome in outcomes)
    return found[(len(found) - 1) // 2]


def _delivered(outcomes: tuple[Outcome, ...]) -> int:
    """What audits that were not reported leave of a rating, ppm."""
    duties = DELIVERED_SHARE * sum(outcome.duties for outcome in outcomes)
    missed = sum(outcome.missed for outcome in outcomes)
    return ONE * (duties - missed) // duties if duties else ONE


def _expected_ms(state: State, slot: int, epochs: int) -> int:
    """When so many more epochs have become final, if all do from now on."""
    params = state.genesis.params
    return state.genesis.slot_start_ms(slot + epochs * params.slots_per_epoch)
