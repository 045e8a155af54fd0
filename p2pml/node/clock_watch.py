"""Tells when this machine's clock is so far from the others' that it acts in the wrong slot."""

from __future__ import annotations

import logging

from p2pml.net.clock import Estimate
from p2pml.node.events import Events

log = logging.getLogger(__name__)


class ClockWatch:
    """One event and one line when the clock goes wrong, and when it is right again.

    Args:
        events: where it is told, as `node.clock`.
        slot_ms: length of a slot; half of it is too much.
    """

    def __init__(self, events: Events, slot_ms: int) -> None:
        self._events, self._limit_ms = events, slot_ms / 2
        self.wrong = False

    def heard(self, estimate: Estimate) -> None:
        """There is a new estimate."""
        offset_ms = round(estimate.offset * 1000)
        wrong = abs(offset_ms) > self._limit_ms
        if wrong == self.wrong:
            return
        self.wrong = wrong
        self._events.emit("node.clock", offset_ms=offset_ms, peers=estimate.peers, wrong=wrong)
        if wrong:
            log.warning(
                "this machine's clock is %s that of %d peers by %.1f s, over half a slot: correct it (NTP)",
                "behind" if offset_ms > 0 else "ahead of",
                estimate.peers,
                abs(offset_ms) / 1000,
            )
        else:
            log.info("this machine's clock is right again")
