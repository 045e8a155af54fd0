"""Several changes of the head as one: what a step of the chain comes to when it takes many blocks."""

from __future__ import annotations

from collections.abc import Iterable

from chain.forkchoice import HeadChanged
from chain.types import Block


def merged(changes: Iterable[HeadChanged]) -> HeadChanged | None:
    """One change from the first old head to the last new one; None if nothing changed in the end.

    Args:
        changes: each begins with the head at which the one before ended.
    """
    found: HeadChanged | None = None
    reverted: list[Block] = []
    applied: list[Block] = []
    for change in changes:
        for block in change.reverted:
            if applied:
                applied.pop()  # the newest of those that came in this step
            else:
                reverted.append(block)
        applied += change.applied
        found = HeadChanged(found.old if found else change.old, change.new, tuple(reverted), tuple(applied))
    return _without_detour(found) if found else None


def _without_detour(change: HeadChanged) -> HeadChanged | None:
    """Without blocks that were left and taken again."""
    reverted, applied = list(change.reverted), list(change.applied)
    while reverted and applied and reverted[-1].block_id == applied[0].block_id:
        del reverted[-1], applied[0]
    if not reverted and not applied:
        return None
    return HeadChanged(change.old, change.new, tuple(reverted), tuple(applied))
