"""Where peers were said to be, and which were really met there. Bounded; no clock in here: Unix seconds.

Anybody can name addresses; so those of peers that never answered are dropped first, and only peers that were
met go to the disk.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from p2pml.net.addresses import dialable, location_of

MAX_PEERS = 1000
MAX_MET = 256
"""Of them, peers that were met: kept on disk, and never displaced by mere names."""
MAX_ADDRS = 8
KEPT_S = 30 * 86_400.0
"""After the last meeting."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the book has of one peer.

    Args:
        peer: its id.
        addrs: where it may be, without `/p2p/`, best first.
        seen: when it was heard of last.
        met: when a connection to it last stood; 0 for never.
    """

    peer: str
    addrs: tuple[str, ...]
    seen: float
    met: float = 0.0


class AddressBook:
    """Addresses by peer.

    Args:
        known: from an earlier run; what is wrong or too old is left out.
        now: to judge the age of these.
    """

    def __init__(self, known: Iterable[Known] = (), now: float = 0.0) -> None:
        self._heard: OrderedDict[str, Known] = OrderedDict()
        self._met: OrderedDict[str, Known] = OrderedDict()
        for entry in sorted(known, key=lambda entry: entry.met):
            addrs = _usable(entry.addrs)
            if addrs and 0 < entry.met > now - KEPT_S:
                # A clock that went back must not make an entry immortal.
                self._met[entry.peer] = Known(entry.peer, addrs, min(entry.seen, now), min(entry.met, now))
        _shorten(self._met, MAX_MET)

    def learn(self, peer: str, addrs: Iterable[str], now: float) -> None:
        """Put `addrs`, with or without `/p2p/`, before those that are known; drop what cannot be dialled."""
        old = self._entry(peer)
        merged = _usable((*addrs, *(old.addrs if old else ())))
        if not merged:
            return
        table = self._met if peer in self._met else self._heard
        table[peer] = Known(peer, merged, now, old.met if old else 0.0)
        if table is self._heard:
            table.move_to_end(peer)
            _shorten(table, MAX_PEERS - MAX_MET)

    def met(self, peer: str, now: float, location: str = "") -> None:
        """A connection to the peer stands; `location` is where it was dialled."""
        old = self._entry(peer)
        addrs = _usable((location, *(old.addrs if old else ())))
        if not addrs:
            return  # it came to us, and never said where it is
        self._heard.pop(peer, None)
        self._met[peer] = Known(peer, addrs, now, now)
        self._met.move_to_end(peer)
        _shorten(self._met, MAX_MET)

    def get(self, peer: str) -> list[str]:
        """The peer's addresses, best first."""
        entry = self._entry(peer)
        return list(entry.addrs) if entry else []

    def when(self, peer: str) -> tuple[float, float]:
        """When the peer was heard of and met last, Unix seconds; 0 for never."""
        entry = self._entry(peer)
        return (entry.seen, entry.met) if entry else (0.0, 0.0)

    def friends(self, now: float) -> list[Known]:
        """Peers that were met, the latest first; those that were not for a month are forgotten."""
        for peer in [peer for peer, entry in self._met.items() if entry.met <= now - KEPT_S]:
            del self._met[peer]
        return sorted(self._met.values(), key=lambda entry: -entry.met)

    def _entry(self, peer: str) -> Known | None:
        return self._met.get(peer) or self._heard.get(peer)


def _usable(addrs: Iterable[str]) -> tuple[str, ...]:
    found = (location_of(addr) for addr in addrs if addr)
    return tuple(dict.fromkeys(location for location in found if dialable(location)))[:MAX_ADDRS]


def _shorten(table: OrderedDict[str, Known], most: int) -> None:
    while len(table) > most:
        table.popitem(last=False)
