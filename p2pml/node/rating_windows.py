"""When windows are and how far the one under way is, read from the state."""

from __future__ import annotations

from collections.abc import Iterator

from chain.params import ANNOUNCE_SLOTS, ChainParams
from chain.rating.entries import Window
from chain.rating.schedule import schedule_of
from chain.state import State
from p2pml.node.rating_views import PhaseView, WindowsView, WindowView

PHASES = (
    "training", "commits", "reveals", "audit commits", "audit reveals", "last challenges",
)  # fmt: skip
"""In their order; each ends at a border of `chain.rating.schedule.Schedule`."""


def latest_window(state: State) -> Window | None:
    """The window planned, under way, or closed last."""
    found = state.window()
    return found if found.slots else None


def length(params: ChainParams, start: int) -> int:
    """Slots for which a window lasts, by where it starts: surprise windows never start at a border."""
    return params.surprise_slots if start % params.window_every_slots else params.window_slots


def windows_view(state: State, slot: int) -> WindowsView:
    """The windows as seen in `slot`; for networks that have any."""
    genesis, params = state.genesis, state.genesis.params
    every, window = params.window_every_slots, latest_window(state)
    upcoming = ((slot + ANNOUNCE_SLOTS) // every + 1) * every
    if window is not None and slot < window.start - ANNOUNCE_SLOTS:
        upcoming = min(upcoming, window.start)
    return WindowsView(
        slot=slot,
        slot_ms=params.slot_ms,
        every_slots=every,
        window_slots=ANNOUNCE_SLOTS + params.window_slots,
        next=upcoming,
        begins=upcoming - ANNOUNCE_SLOTS,
        begins_ms=genesis.slot_start_ms(upcoming - ANNOUNCE_SLOTS),
        latest=None if window is None else window_view(state, slot, window),
    )


def window_view(state: State, slot: int, window: Window) -> WindowView:
    """One window as seen in `slot`."""
    accounts, start = state.roll.accounts, window.start
    claims = [claim for public in accounts if (claim := state.claim(public, start)) is not None]
    duties = [duty for public in accounts if (duty := state.duty(public, start)) is not None]
    rated = any(outcome.window == start for public in accounts for outcome in state.standing(public).outcomes)
    return WindowView(
        start=window.start,
        start_ms=state.genesis.slot_start_ms(window.start),
        slots=ANNOUNCE_SLOTS + window.slots,
        surprise=window.start % state.genesis.params.window_every_slots != 0,
        over=window.over,
        void=(slot >= window.start and not window.mix) or (window.over and not rated),
        phase=phase_at(state, slot, window),
        phases=list(phases_of(state, window)),
        claims=window.claims,
        revealed=sum(bool(claim.evaluations) for claim in claims),
        disproved=sum(claim.disproved for claim in claims),
        open_challenges=sum(len(claim.challenges) for claim in claims),
        reports=sum(bool(duty.reports) for duty in duties),
    )


def phase_at(state: State, slot: int, window: Window) -> PhaseView | None:
    """Which part of a window a slot is in; None outside."""
    return next((phase for phase in phases_of(state, window) if phase.first <= slot < phase.end), None)


def phases_of(state: State, window: Window) -> Iterator[PhaseView]:
    """A window's parts, in order."""
    genesis = state.genesis
    plan = schedule_of(genesis.params, window)
    borders = (
        plan.announce, plan.train_end, plan.commit_end, plan.reveal_end, plan.audit_commit_end,
        plan.audit_reveal_end, plan.end,
    )  # fmt: skip
    for name, first, end in zip(PHASES, borders, borders[1:], strict=False):
        yield PhaseView(name, first, end, genesis.slot_start_ms(first), genesis.slot_start_ms(end))
