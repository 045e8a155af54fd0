"""Tells when this machine's clock is so far from the others' that it would act in the wrong slot."""

from __future__ import annotations

import logging

from p2pml.net.clock import Estimate
from p2pml.node.events import Events

log = logging.getLogger(__name__)


class ClockWatch:
    """One event and one line when the clock goes wrong, and when it is right again.

    While it is wrong a validator neither proposes nor votes: others would hold its blocks back or come too
    late with theirs, and its votes would be about the wrong slot.

    Args:
        events: where it is told, as `node.clock`.
        limit_ms: how far it may be from the median of the peers: what the chain forgives.
    """

    def __init__(self, events: Events, limit_ms: int) -> None:
        self._events, self._limit_ms = events, limit_ms
        self.wrong = False

    def heard(self, estimate: Estimate | None) -> None:
        """There is a new estimate; None once nobody is left who could tell, which excuses the clock."""
        offset_ms = 0 if estimate is None else round(estimate.offset * 1000)
        wrong = abs(offset_ms) > self._limit_ms
        if wrong == self.wrong:
            return
        self.wrong = wrong
        peers = 0 if estimate is None else estimate.peers
        self._events.emit("node.clock", offset_ms=offset_ms, peers=peers, wrong=wrong)
        if wrong:
            log.warning(
                "this machine's clock is %s that of %d peers by %.1f s, over the %.2f s that the chain "
                "forgives: correct it (NTP); until then this node neither proposes nor votes",
                "behind" if offset_ms > 0 else "ahead of",
                peers,
                abs(offset_ms) / 1000,
                self._limit_ms / 1000,
            )
        else:
            log.info("this machine's clock is right again, as far as the peers tell")
