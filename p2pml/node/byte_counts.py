"""Payload bytes exchanged with each peer: those of earlier swarms, kept in the state, and those of the
running one.
"""

from __future__ import annotations

from collections import Counter

from p2pml.storage.torrent_state import TorrentState
from torrent.events import SwarmStats


class ByteCounts:
    """`state.received` and `state.sent` are what was counted when `note` was last called."""

    def __init__(self, state: TorrentState) -> None:
        self._state = state
        self._before = Counter(state.received), Counter(state.sent)

    def received(self, stats: SwarmStats | None) -> dict[str, int]:
        """Verified bytes by peer; `stats` of the running swarm."""
        return dict(self._before[0] + Counter({} if stats is None else stats.sources))

    def sent(self, stats: SwarmStats | None) -> dict[str, int]:
        """Bytes given, by peer."""
        return dict(self._before[1] + Counter({} if stats is None else stats.served))

    def note(self, stats: SwarmStats | None) -> None:
        """Put the counts into the state, to be saved."""
        self._state.received, self._state.sent = self.received(stats), self.sent(stats)

    def settle(self, stats: SwarmStats) -> None:
        """The swarm ends: its bytes are past."""
        self.note(stats)
        self._before = Counter(self._state.received), Counter(self._state.sent)
