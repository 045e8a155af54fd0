"""A node's claim in a rating window: committed, revealed, and answered for, as the chain asks for it.

What is owed follows from the chain and the trace on disk alone: after a restart, or on another branch, the
same is done again. The lanes keep no states: what is drawn is trained anew.
"""

from __future__ import annotations

import logging

from chain.errors import ChainError
from chain.rating.auditor import Subject
from chain.rating.entries import Claim, Window
from chain.rating.items import Reveal
from p2pml.node.baseline_run import Baseline
from p2pml.node.rating_parts import OwnTrace, OwnTraces, RatingParts, View

log = logging.getLogger(__name__)


class Claims:
    """Sends what this node owes as a subject.

    Args:
        own: the trace.
    """

    def __init__(self, parts: RatingParts, own: OwnTraces) -> None:
        self._parts, self._own = parts, own
        self._revealed: tuple[bytes, Reveal | None] | None = None
        self._told: tuple[int, str] = (0, "")

    async def look(self, view: View) -> None:
        """Send what the chain does not have yet."""
        window = view.window
        own = None if window.over else await self._own.of(view)
        if own is None:
            return
        claim = view.state.claim(self._parts.account, window.start)
        if claim is None:
            await self._commit(view, own)
        elif claim.trace_root != own.commit.trace_root:
            self._tell("missed", window.start, reason="the chain has another claim of this account")
        else:
            await self._stand_for(view, own, claim)

    async def _commit(self, view: View, own: OwnTrace) -> None:
        point = own.commit
        if view.slot >= view.borders.commit_end:
            self._tell("missed", point.window, reason="no block took the commitment in time")
        elif await self._parts.send(point):
            self._tell(
                "committed",
                point.window,
                segments=point.segments,
                episodes=point.episodes,
                joules=point.joules,
                root=point.trace_root.hex(),
            )

    async def _stand_for(self, view: View, own: OwnTrace, claim: Claim) -> None:
        baseline = self._parts.baselines.get(view.rules.infohash)
        revealing = view.window.draw and not claim.evaluations and view.slot < view.borders.reveal_end
        if revealing and baseline is not None:
            await self._reveal(view.window, own.subject, baseline)
        for challenge in claim.challenges:
            await self._parts.send(own.subject.answer(view.window, challenge))

    async def _reveal(self, window: Window, subject: Subject, baseline: Baseline) -> None:
        if self._revealed is None or self._revealed[0] != window.draw:
            try:
                found = await self._parts.thread.run(subject.reveal, window, baseline)
            except ChainError as error:
                log.error("what this node trained would be taken for fraud, so it is not shown: %s", error)
                self._tell("missed", window.start, reason=f"this machine computes wrongly: {error}")
                found = None
            self._revealed = window.draw, found
        if self._revealed[1] is not None:
            await self._parts.send(self._revealed[1])

    def _tell(self, what: str, window: int, **data: object) -> None:
        if self._told != (window, what):
            self._told = window, what
            log.info("rating window %d: %s %s", window, what, data)
            self._parts.events.emit(f"rating.{what}", window=window, **data)
