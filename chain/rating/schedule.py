"""When what happens in a rating window: slots only, no state but the latest window's entry.

A window is named by its first slot. A border acts in the first block whose slot is not before it.
"""

from __future__ import annotations

from dataclasses import dataclass

from chain.params import ANNOUNCE_SLOTS, ChainParams
from chain.rating.entries import Window
from chain.state import State

PLANNED_SLOTS = 4
"""From the block that draws a surprise window to its announcement."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The borders of a window; each phase ends before the slot that the next begins with.

    Args:
        announce: the challenges are drawn, and everybody trains from here on: what is known can be used.
        start: the window's name; who registers later is not rated in it.
        train_end: until here everybody trains.
        commit_end: until here blocks take commitments; then episodes, test samples and auditors are drawn.
        reveal_end: until here they take evaluations; then auditors replay and may challenge.
        audit_commit_end: until here they take sealed reports and challenges.
        audit_reveal_end: until here they take opened reports; then spots are drawn.
        end: until here they take answers and rulings; then ratings are given.
    """

    announce: int
    start: int
    train_end: int
    commit_end: int
    reveal_end: int
    audit_commit_end: int
    audit_reveal_end: int
    end: int


def schedule(params: ChainParams, start: int, slots: int) -> Schedule:
    """The borders of a window with `slots` slots of training from `start` on."""
    train_end = start + slots
    commit_end = train_end + params.grace_slots
    reveal_end = commit_end + params.reveal_slots
    audit_commit_end = reveal_end + params.audit_commit_slots
    audit_reveal_end = audit_commit_end + params.audit_reveal_slots
    return Schedule(
        start - ANNOUNCE_SLOTS, start, train_end, commit_end, reveal_end, audit_commit_end, audit_reveal_end,
        audit_reveal_end + params.challenge_slots,
    )  # fmt: skip


def training_ms(params: ChainParams, slots: int) -> int:
    """For how long everybody trains in a window of `slots` slots.

    It is from the announcement on: nobody who begins as soon as the challenges are
    known has longer than others.
    """
    return (ANNOUNCE_SLOTS + slots) * params.slot_ms


def schedule_of(params: ChainParams, window: Window) -> Schedule:
    """The borders of a window that is planned, under way or over."""
    return schedule(params, window.start, window.slots)


def regular(params: ChainParams, slot: int) -> int:
    """The start of the latest regular window that is to be announced by a slot; 0 if there is none."""
    every = params.window_every_slots
    return (slot + ANNOUNCE_SLOTS) // every * every if every else 0


def next_regular(params: ChainParams, slot: int) -> int | None:
    """The start of the first regular window that is announced after a slot; None where there are none."""
    every = params.window_every_slots
    return regular(params, slot) + every if every else None


def next_border(params: ChainParams, window: Window) -> int:
    """The slot of the border that a window which is not over meets next."""
    borders = schedule_of(params, window)
    if not window.mix:
        return borders.announce
    if not window.draw:
        return borders.commit_end
    return borders.end if window.spot else borders.audit_reveal_end


def border_is_due(state: State, slot: int) -> bool:
    """Whether a block of `slot` after `state` passes a border of a rating window."""
    params, window = state.genesis.params, state.window()
    if window.over:
        return regular(params, slot) > window.start
    return next_border(params, window) <= slot
