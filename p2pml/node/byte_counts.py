"""Payload bytes exchanged with each peer: those of earlier swarms, kept in the state, and those of the
running one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from p2pml.net.plain_peer import host_name, is_plain
from p2pml.storage.torrent_state import TorrentState
from torrent.events import SwarmStats

MAX_HOSTS = 256
OTHERS = "tcp:others"


class ByteCounts:
    """`state.received` and `state.sent` are what was counted when `note` was last called."""

    def __init__(self, state: TorrentState) -> None:
        self._state = state
        self._before = Counter(state.received), Counter(state.sent)

    def received(self, stats: SwarmStats | None) -> dict[str, int]:
        """Verified bytes by peer; `stats` of the running swarm."""
        return _joined(self._before[0], {} if stats is None else stats.sources, stats)

    def sent(self, stats: SwarmStats | None) -> dict[str, int]:
        """Bytes given, by peer."""
        return _joined(self._before[1], {} if stats is None else stats.served, stats)

    def note(self, stats: SwarmStats | None) -> None:
        """Put the counts into the state, to be saved."""
        self._state.received = _folded(self.received(stats))
        self._state.sent = _folded(self.sent(stats))

    def settle(self, stats: SwarmStats) -> None:
        """The swarm ends: its bytes are past."""
        self.note(stats)
        self._before = Counter(self._state.received), Counter(self._state.sent)


def _joined(before: Counter[str], now: Mapping[str, int], stats: SwarmStats | None) -> dict[str, int]:
    live = frozenset() if stats is None else frozenset(peer.peer for peer in stats.peers)
    return dict(before + Counter(_folded(now, live)))


def _folded(counts: Mapping[str, int], live: frozenset[str] = frozenset()) -> dict[str, int]:
    """Connections of ordinary clients that have ended are counted by their addresses, and those of too many
    addresses together: whoever comes again and again does not fill the disk.
    """
    found: Counter[str] = Counter()
    hosts: set[str] = set()
    for peer, count in counts.items():
        if not is_plain(peer) or peer in live:
            found[peer] += count
            continue
        name = host_name(peer)
        if name not in hosts and len(hosts) >= MAX_HOSTS:
            name = OTHERS
        hosts.add(name)
        found[name] += count
    return dict(found)
