"""What a node answers about ratings: whom it finds, how far a window is for itself."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from chain import address
from chain.params import DEMO, ChainParams
from chain.rating.entries import WINDOW_KEY, Window
from chain.state import State
from p2pml.node.rating_api import RatingApi
from p2pml.node.views import NotFound, RatingProgressView
from tests.node.rating_states import KEYS, START, WINDOW, claim, state_with


def api_of(state: State, slot: int = START, segments: int | None = None) -> RatingApi:
    chain: Any = SimpleNamespace(
        state=lambda: state, slot_now=lambda: slot, next_slot=lambda: slot + 1, genesis=state.genesis
    )
    return RatingApi(chain, KEYS[0].public, lambda: segments)


def with_window(window: Window = WINDOW, params: ChainParams = DEMO, **more: Any) -> State:
    return state_with({WINDOW_KEY: window, **more.get("entries", {})}, params=params)


def test_one_is_found_by_name_by_address_or_as_oneself() -> None:
    api = api_of(state_with({}))
    assert (api.rating(None).name, api.rating(None).own) == ("v0", True)
    assert (api.rating("v1").name, api.rating("v1").own) == ("v1", False)
    assert api.rating(address.encode(KEYS[2].public)).name == "v2"
    for who, says in (
        ("nobody", "no validator is called"),
        (address.encode(b"\x09" * 32), "is no validator"),
    ):
        with pytest.raises(NotFound, match=says):
            api.rating(who)
    assert [rank.own for rank in api.leaderboard()] == [False, False, False, True]


def test_progress_is_told_while_a_window_is_near() -> None:
    ends = (START + DEMO.window_slots) * DEMO.slot_ms
    assert api_of(with_window(), segments=12).progress() == RatingProgressView(
        START, "training", ends, 12, False
    )
    later = api_of(with_window(entries=claim(0)), START + DEMO.window_slots).progress()
    assert later is not None
    assert (later.phase, later.segments, later.committed) == ("commits", None, True)
    early = api_of(with_window(entries=claim(0, window=0))).progress()
    assert early is not None
    assert not early.committed
    for away in (
        api_of(state_with({})),
        api_of(with_window(replace(WINDOW, over=True))),
        api_of(with_window(), START - 30),
    ):
        assert away.progress() is None


def test_a_network_without_windows_tells_of_none() -> None:
    state = state_with({}, params=replace(DEMO, window_every_epochs=0))
    assert api_of(state).windows() is None
    assert api_of(state_with({})).windows() is not None
    assert api_of(state).rating("v1").rating == 20
