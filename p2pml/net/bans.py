"""Peers that are not spoken to for a while; each time for longer. No clock in here: times are Unix seconds,
since bans outlive the process.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

FIRST_S = 600.0
GROWTH = 4
MOST_S = 86_400.0
REMEMBERED_S = 7 * 86_400.0
"""How long after its end a ban makes the next one longer."""
MAX_BANS = 1024


@dataclass(frozen=True, slots=True)
class Ban:
    """One peer's present or latest ban.

    Args:
        peer: its id.
        until: Unix time in seconds.
        reason: for people.
        times: bans so far, this one included.
    """

    peer: str
    until: float
    reason: str
    times: int


class Bans:
    """Bounded; the one that ends first is dropped when there are too many."""

    def __init__(self, known: Iterable[Ban] = ()) -> None:
        self._bans = {ban.peer: ban for ban in known}

    def ban(self, peer: str, reason: str, now: float, seconds: float | None = None) -> Ban:
        """Ban a peer from `now` on: for `seconds`, else for ten minutes and four times as long at each
        repetition, up to a day. A longer ban that runs is not shortened.
        """
        self._prune(now)
        old = self._bans.get(peer)
        times = 1 if old is None else old.times + 1
        length = min(FIRST_S * GROWTH ** (min(times, 16) - 1), MOST_S) if seconds is None else seconds
        until = now + length if old is None or seconds is not None else max(now + length, old.until)
        found = self._bans[peer] = Ban(peer, until, reason[:200], times)
        if len(self._bans) > MAX_BANS:
            del self._bans[min(self._bans.values(), key=lambda ban: ban.until).peer]
        return found

    def unban(self, peer: str) -> bool:
        """Forget a peer's bans. False when there were none."""
        return self._bans.pop(peer, None) is not None

    def get(self, peer: str, now: float) -> Ban | None:
        """The ban that holds now."""
        ban = self._bans.get(peer)
        return ban if ban is not None and ban.until > now else None

    def active(self, now: float) -> list[Ban]:
        """Those that hold now, the next to end first."""
        return sorted((ban for ban in self._bans.values() if ban.until > now), key=lambda ban: ban.until)

    def known(self, now: float) -> list[Ban]:
        """Those that hold or make the next one longer."""
        self._prune(now)
        return list(self._bans.values())

    def _prune(self, now: float) -> None:
        self._bans = {peer: ban for peer, ban in self._bans.items() if ban.until + REMEMBERED_S > now}
