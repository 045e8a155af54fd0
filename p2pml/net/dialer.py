"""Which peers of a swarm to dial next: candidates with back-off, no sockets in here."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

MAX_CANDIDATES = 500
FIRST_BACKOFF_S = 1.0
MAX_BACKOFF_S = 60.0


@dataclass(slots=True)
class _Candidate:
    failures: int = 0
    not_before: float = -1.0


class Dialer:
    """Remembers where a swarm's pieces may be, and when each peer may be tried again.

    Args:
        banned: peers that lied are never dialled again; shared with the owner.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Candidate] = OrderedDict()
        self._banned: set[str] = set()

    @property
    def known(self) -> tuple[str, ...]:
        """All candidates, the oldest first."""
        return tuple(self._known)

    def add(self, peer: str) -> bool:
        """Note a candidate; True when it is new. The oldest are dropped when there are too many."""
        if peer in self._known or peer in self._banned:
            return False
        self._known[peer] = _Candidate()
        if len(self._known) > MAX_CANDIDATES:
            self._known.popitem(last=False)
        return True

    def ban(self, peer: str) -> None:
        """Never dial this peer again."""
        self._known.pop(peer, None)
        self._banned.add(peer)

    def is_banned(self, peer: str) -> bool:
        return peer in self._banned

    def failed(self, peer: str, now: float) -> None:
        """A dial failed, or the peer gave nothing before it ended the stream: wait longer each time."""
        candidate = self._known.get(peer)
        if candidate is not None:
            wait = min(FIRST_BACKOFF_S * 2**candidate.failures, MAX_BACKOFF_S)
            candidate.failures = min(candidate.failures + 1, 16)
            candidate.not_before = now + wait

    def worked(self, peer: str, now: float) -> None:
        """The peer was useful; it may be dialled again shortly after it goes."""
        candidate = self._known.get(peer)
        if candidate is not None:
            candidate.failures = 0
            candidate.not_before = now + FIRST_BACKOFF_S

    def retry_now(self) -> None:
        """Forget every back-off: somebody asks for the data again."""
        for candidate in self._known.values():
            candidate.not_before = -1.0

    def ready(self, now: float, busy: frozenset[str], limit: int) -> list[str]:
        """Up to `limit` candidates that may be dialled now and are not among `busy`."""
        ready = [peer for peer, item in self._known.items() if item.not_before <= now and peer not in busy]
        ready.sort(key=lambda peer: self._known[peer].failures)
        return ready[:limit]

    def next_time(self, busy: frozenset[str]) -> float | None:
        """When the next candidate becomes ready; None when there is none."""
        times = [item.not_before for peer, item in self._known.items() if peer not in busy]
        return min(times, default=None)
