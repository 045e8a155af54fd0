"""Which peers of a swarm to dial next: candidates with back-off, no sockets in here."""

from __future__ import annotations

from p2pml.net.backoff import Backoff

MAX_CANDIDATES = 500


class Dialer:
    """Remembers where a swarm's pieces may be, and when each peer may be tried again.

    A peer that can be reached and gives nothing rests too, so this is not the host's own back-off.
    """

    def __init__(self) -> None:
        self._known: dict[str, None] = {}
        self._rest: Backoff[str] = Backoff(keys=MAX_CANDIDATES)
        self._banned: set[str] = set()

    @property
    def known(self) -> tuple[str, ...]:
        """All candidates, the oldest first."""
        return tuple(self._known)

    def add(self, peer: str) -> bool:
        """Note a candidate; True when it is new. The oldest are dropped when there are too many."""
        if peer in self._known or peer in self._banned:
            return False
        self._known[peer] = None
        if len(self._known) > MAX_CANDIDATES:
            self._forget(next(iter(self._known)))
        return True

    def ban(self, peer: str) -> None:
        """Never dial this peer again."""
        self._forget(peer)
        self._banned.add(peer)

    def is_banned(self, peer: str) -> bool:
        return peer in self._banned

    def failed(self, peer: str, now: float) -> None:
        """A dial failed, or the peer gave nothing before it ended the stream: wait longer each time."""
        if peer in self._known:
            self._rest.failed(peer, now)

    def worked(self, peer: str, now: float) -> None:
        """The peer was useful; it may be dialled again shortly after it goes."""
        if peer in self._known:
            self._rest.pause(peer, now)

    def retry_now(self) -> None:
        """Forget every back-off: somebody asks for the data again."""
        self._rest.clear()

    def ready(self, now: float, busy: frozenset[str], limit: int) -> list[str]:
        """Up to `limit` candidates that may be dialled now and are not among `busy`."""
        ready = [peer for peer in self._known if peer not in busy and self._rest.ready(peer, now)]
        return sorted(ready, key=self._rest.failures)[:limit]

    def next_time(self, busy: frozenset[str]) -> float | None:
        """When the next candidate becomes ready; None when there is none."""
        return min((self._rest.ready_at(peer) for peer in self._known if peer not in busy), default=None)

    def _forget(self, peer: str) -> None:
        self._known.pop(peer, None)
        self._rest.worked(peer)
