"""A rating taken apart, from states made by hand: each term, the odds, and what would raise it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chain.entries import validator_key
from chain.params import DEMO
from chain.rating.closing import Reason
from chain.state import State
from chain.tables import Tables
from p2pml.node.rating_explained import WORK, leaderboard, rating_view
from p2pml.node.rating_views import EnergyView, OddsView, RatingView
from tests.node.rating_states import KEYS, OUTCOME, START, claim, standing, state_with

SLOT = START + 40
THRIFTY = replace(OUTCOME, energy_factor=1_050_000, quality_factor=10**6, duties=0, missed=0)


def view_of(state: State, i: int = 0) -> RatingView:
    found = rating_view(state, SLOT, KEYS[i].public, own=i == 0)
    assert found is not None
    return found


def test_a_rating_of_the_genesis_has_no_terms() -> None:
    view = view_of(state_with({}), 1)
    assert (view.name, view.own, view.rating, view.expires_epochs, view.energy) == (
        "v1",
        False,
        20,
        None,
        None,
    )
    assert (view.outcomes, view.median, view.delivered, view.earned) == ([], None, None, None)
    assert view.advice[-1] == WORK
    assert "take part in the next window" in view.advice[0]
    assert rating_view(state_with({}), SLOT, b"\x77" * 32, own=False) is None


def test_the_terms_are_those_of_the_last_outcomes() -> None:
    outcomes = [
        replace(OUTCOME, window=START * i, rating=rating, duties=2, missed=missed, reason=reason)
        for i, (rating, missed, reason) in enumerate(
            [(30, 1, Reason.RATED), (0, 0, Reason.NOT_SERVED), (50, 0, Reason.RATED)], start=1
        )
    ]
    view = view_of(state_with({**standing(0, *outcomes), **claim(0)}, rated_until=9))
    assert (view.median, view.delivered, view.earned) == (30, 966_666, 29)
    assert [outcome.reason for outcome in view.outcomes] == ["rated", "not served", "rated"]
    first = view.outcomes[0]
    assert (first.start_ms, first.window_ms) == (START * DEMO.slot_ms, (8 + DEMO.window_slots) * DEMO.slot_ms)
    assert view.energy == EnergyView(START, 40, 50, 40 * 8192 // 50)
    assert view.expires_epochs == 9
    assert view.expires_ms == (SLOT + 9 * DEMO.slots_per_epoch) * DEMO.slot_ms


def test_the_odds_are_of_the_table_now_and_of_the_one_three_epochs_on() -> None:
    state = state_with({})
    epoch = SLOT // DEMO.slots_per_epoch
    later = state.tables.latest.changed({KEYS[3].public: replace(state.tables.latest.entries[0], rating=0)})
    state.tables = Tables(((0, later),), (*state.tables.adopted, (epoch + 3, later)))
    assert view_of(state).odds == [OddsView(epoch, 10, 0.1), OddsView(epoch + 3, 10, 10 / later.total)]
    assert later.total < state.tables.adopted[0][1].total


@pytest.mark.parametrize(
    ("outcomes", "says"),
    [
        ((replace(THRIFTY, rating=0, reason=1),), ["take part in the next window"]),
        ((THRIFTY, replace(THRIFTY, rating=50)), ["another window like its best one", "would give 50"]),
        ((replace(THRIFTY, duties=2, missed=1),), ["it did not report 1 audits: reporting all gives 30"]),
        ((replace(THRIFTY, energy_factor=950_000),), ["x 0.950", "tells none the least", "rating_watts"]),
        ((replace(THRIFTY, energy_factor=990_000),), ["energy counts x 0.990, thrifty machines x 1.050"]),
        ((replace(THRIFTY, quality_factor=990_000),), ["quality counts x 0.990"]),
        ((THRIFTY, THRIFTY), []),
    ],
)
def test_advice_names_what_would_raise_it(outcomes: tuple[object, ...], says: list[str]) -> None:
    advice = view_of(state_with(standing(0, *outcomes))).advice  # type: ignore[arg-type]
    assert advice[-1] == WORK
    assert len(advice) == 1 + bool(says)
    assert all(words in advice[0] for words in says)


def test_who_was_convicted_is_told_to_wait() -> None:
    state = state_with({})
    entry = state.validator(KEYS[0].public)
    assert entry is not None
    convicted = state_with({validator_key(entry.public): replace(entry, rating=0, barred_until=7)})
    view = view_of(convicted)
    assert view.barred_epochs == 7
    assert view.advice == [advice for advice in view.advice if "until it registers again" in advice]


def test_the_leaderboard_has_everybody_the_highest_first() -> None:
    poor = replace(OUTCOME, rating=0, reason=Reason.POOR)
    state = state_with({**standing(1, OUTCOME, poor), **claim(1), **claim(2, joules=0)})
    ranks = leaderboard(state, SLOT, KEYS[1].public)
    assert [(rank.place, rank.name, rank.rating) for rank in ranks] == [
        (1, "v3", 40), (2, "v2", 30), (3, "v1", 20), (4, "v0", 10),
    ]  # fmt: skip
    v2, v1, v0 = ranks[1:]
    assert (v1.own, v1.reason, v1.rated, v1.outcomes, v1.share) == (True, "poor", 1, 2, 0.2)
    assert (v1.energy and v1.energy.samples_per_joule) == 6553
    assert v2.energy is not None
    assert v2.energy.samples_per_joule is None
    assert (v0.energy, v0.reason, v0.segments) == (None, None, None)
