"""A window's life: planned, announced, its draws, its end. All of it by slots, at the beginning of a block.

What is drawn follows from the randomness after the parent block, and so from blocks that came when what the
draw is about could no longer change. The challenges follow from the randomness after the final checkpoint's
block: the branches that may still win agree on it.
"""

from __future__ import annotations

from dataclasses import replace

from chain.crypto import H
from chain.draft import Draft
from chain.params import ANNOUNCE_SLOTS
from chain.rating import closing
from chain.rating.entries import MIXES_KEY, WINDOW_KEY, Mixes, Window
from chain.rating.schedule import PLANNED_SLOTS, next_border, next_regular, regular, schedule_of
from chain.tables import MIN_KEYS

KEPT_EPOCHS = 3
"""For so many epochs before an announcement the randomness after blocks is kept."""


def advance(draft: Draft, slot: int) -> None:
    """Begin a block's slot: pass the borders that are due, and plan a window where none is under way."""
    params, found = draft.genesis.params, draft.window()
    window = found
    while True:
        if window.over:
            planned = _planned(draft, window, slot)
            if planned is None:
                break
            window = planned
        elif next_border(params, window) <= slot:
            window = _passed(draft, window, slot)
        else:
            break
    if window != found:
        draft.put(WINDOW_KEY, window)


def remember(draft: Draft, slot: int, mix: bytes, final_slot: int) -> None:
    """End a block: while an announcement may be near, keep the randomness after it, back to the final
    checkpoint's block.
    """
    params, parent = draft.genesis.params, draft.parent
    coming, kept_slots = next_regular(params, slot), KEPT_EPOCHS * params.slots_per_epoch
    if coming is None or (slot < coming - ANNOUNCE_SLOTS - kept_slots and not params.surprise_slots):
        return
    kept = draft.mixes()
    if not kept.after or kept.after[-1][0] != parent.slot:
        kept = Mixes(((parent.slot, parent.mix),))
    draft.put(MIXES_KEY, kept.with_block(slot, mix, final_slot, slot - kept_slots))


def oldest_epoch(draft: Draft, final_epoch: int) -> int:
    """The first epoch whose weight table may still be asked for: a window's auditors are drawn by its own."""
    window = draft.window()
    return final_epoch if window.over else min(final_epoch, window.epoch)


def _planned(draft: Draft, last: Window, slot: int) -> Window | None:
    """The window after one that is over: a regular one that is due, or one whose start is drawn now."""
    params, parent = draft.genesis.params, draft.parent
    start, slots = regular(params, slot), params.window_slots
    if start <= last.start:
        coming, slots = next_regular(params, slot), params.surprise_slots
        if coming is None or not slots:
            return None
        digest = H("rating-surprise", parent.mix, slot.to_bytes(8, "big"))
        mean = params.surprise_every_epochs * params.slots_per_epoch
        if int.from_bytes(digest, "big") % mean >= slot - parent.slot:
            return None
        start = slot + PLANNED_SLOTS + ANNOUNCE_SLOTS
        if start + params.audited_slots(slots) > coming - ANNOUNCE_SLOTS:
            return None
    return Window(start, slots, start // params.slots_per_epoch, over=False, funded=last.funded)


def _passed(draft: Draft, window: Window, slot: int) -> Window:
    """The window after its next border."""
    borders, parent = schedule_of(draft.genesis.params, window), draft.parent
    if not window.mix:
        mix = _announced(draft, window, slot)
        return replace(window, over=True) if mix is None else replace(window, mix=mix)
    start = window.start.to_bytes(8, "big")
    if not window.draw:
        if window.claims < MIN_KEYS or slot >= borders.reveal_end:
            return replace(window, over=True)  # nobody, or too few, could be rated any more
        return replace(window, draw=H("rating-draw", parent.mix, start))
    if not window.spot:
        return replace(window, spot=H("rating-spot", parent.mix, start))
    height = parent.height + 1
    closing.close(draft, window, height)
    return replace(window, over=True, funded=height)


def _announced(draft: Draft, window: Window, slot: int) -> bytes | None:
    """The randomness that the challenges follow from; None where the window is void: it should have begun,
    or what is final is more than an epoch old.
    """
    params, parent = draft.genesis.params, draft.parent
    final_slot = parent.finality.final_slot
    if slot >= window.start or final_slot < window.start - ANNOUNCE_SLOTS - params.slots_per_epoch:
        return None
    return draft.mixes().at(final_slot)
