"""A bounded memory of which peers announced which datasets."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

MAX_DATASETS = 4096
MAX_PROVIDERS = 64
MAX_PER_PEER = 512
EXPIRY_S = 100.0
"""Three announcements missed."""

MAX_NAME_CHARS = 200
MAX_SIZE = 1 << 48
INFOHASH_BYTES = 20


@dataclass(frozen=True, slots=True)
class Listing:
    """A dataset as it is announced.

    Args:
        name: what people call it, printable, at most 200 characters.
        infohash: SHA-1 of the metainfo's info dictionary, 20 bytes (BEP 3).
        size: bytes of payload.

    Raises:
        ValueError: a value outside these bounds.
    """

    name: str
    infohash: bytes
    size: int

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= MAX_NAME_CHARS or not self.name.isprintable():
            raise ValueError("a dataset's name must be printable, 1 to 200 characters")
        if len(self.infohash) != INFOHASH_BYTES:
            raise ValueError("an info-hash has 20 bytes")
        if isinstance(self.size, bool) or not 0 <= self.size <= MAX_SIZE:
            raise ValueError("a dataset's size is out of range")


def shown_name(name: str) -> str:
    """A torrent's name as it is announced: what cannot be printed is replaced, what is too long is cut."""
    return "".join(char if char.isprintable() else "?" for char in name)[:MAX_NAME_CHARS]


class ProviderTable:
    """Datasets and their providers, each with the time at which it was heard of last.

    Full, it drops the dataset or provider heard of longest ago; a single peer cannot fill it.
    """

    def __init__(self) -> None:
        self._listings: OrderedDict[bytes, Listing] = OrderedDict()
        self._providers: dict[bytes, OrderedDict[str, float]] = {}
        self._per_peer: dict[str, int] = {}

    def add(self, listing: Listing, peer: str, now: float) -> bool:
        """Note a provider; True when it was not known for this dataset. The first name of a dataset stays."""
        infohash = listing.infohash
        known = self._providers.get(infohash)
        if known is not None and peer in known:
            known[peer] = now
            known.move_to_end(peer)
            self._listings.move_to_end(infohash)
            return False
        if self._per_peer.get(peer, 0) >= MAX_PER_PEER:
            return False
        if known is None:
            while len(self._listings) >= MAX_DATASETS:
                self._drop(next(iter(self._listings)))
            self._listings[infohash] = listing
            known = self._providers[infohash] = OrderedDict()
        known[peer] = now
        self._per_peer[peer] = self._per_peer.get(peer, 0) + 1
        if len(known) > MAX_PROVIDERS:
            self._release(known.popitem(last=False)[0])
        return True

    def remove(self, infohash: bytes, peer: str) -> None:
        """Forget one provider of a dataset."""
        known = self._providers.get(infohash)
        if known is not None and known.pop(peer, None) is not None:
            self._release(peer)
            if not known:
                self._drop(infohash)

    def providers(self, infohash: bytes, now: float) -> tuple[str, ...]:
        """The providers that did not expire, the one heard of last first."""
        known = self._providers.get(infohash) or OrderedDict[str, float]()
        return tuple(peer for peer, heard in reversed(known.items()) if now - heard <= EXPIRY_S)

    def lookup(self, name_or_hash: str | bytes, now: float) -> Iterator[tuple[Listing, tuple[str, ...]]]:
        """The datasets of a name, or the one of an info-hash, that have a provider."""
        for listing, providers in self.everything(now):
            if name_or_hash in (listing.name, listing.infohash):
                yield listing, providers

    def everything(self, now: float) -> Iterator[tuple[Listing, tuple[str, ...]]]:
        """Every dataset that has a provider."""
        for listing in list(self._listings.values()):
            providers = self.providers(listing.infohash, now)
            if providers:
                yield listing, providers

    def expire(self, now: float) -> None:
        """Drop what was not heard of for `EXPIRY_S` seconds."""
        for infohash, known in list(self._providers.items()):
            for peer, heard in list(known.items()):
                if now - heard > EXPIRY_S:
                    self.remove(infohash, peer)

    def _drop(self, infohash: bytes) -> None:
        self._listings.pop(infohash, None)
        for peer in self._providers.pop(infohash, {}):
            self._release(peer)

    def _release(self, peer: str) -> None:
        left = self._per_peer.get(peer, 0) - 1
        if left > 0:
            self._per_peer[peer] = left
        else:
            self._per_peer.pop(peer, None)
