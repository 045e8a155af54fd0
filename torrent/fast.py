"""Pieces that a peer may have while it is choked (BEP 6, "allowed fast"): a newcomer's first goods to barter
with. Which ones follows from its IPv4 network and the torrent, so that coming again with another address
of the network gives no others; and each network is given a bounded number of bytes.
"""

from __future__ import annotations

import hashlib
from ipaddress import AddressValueError, IPv4Address
from struct import iter_unpack

from torrent.config import SwarmConfig
from torrent.errors import LocalError

MAX_NETWORKS = 4096
"""Networks whose bytes are counted; beyond, the oldest is forgotten."""


def _network(ipv4: str) -> bytes:
    """The address with its last byte zero."""
    try:
        return IPv4Address(ipv4).packed[:3] + b"\0"
    except AddressValueError as error:
        raise LocalError(f"{ipv4!r} is no IPv4 address") from error


def allowed_fast(info_hash: bytes, ipv4: str, piece_count: int, count: int) -> list[int]:
    """BEP 6's set of ``count`` pieces (all, when the torrent has fewer) for the peer at ``ipv4``
    ("80.4.4.200"), in the order in which the algorithm finds them. Raises ``LocalError`` for an address
    that is none.
    """
    found: dict[int, None] = {}
    state = _network(ipv4) + info_hash
    while len(found) < min(count, piece_count):
        state = hashlib.sha1(state, usedforsecurity=False).digest()
        for (word,) in iter_unpack(">I", state):
            if len(found) < count:
                found[word % piece_count] = None
    return list(found)


class Grants:
    """What each network has been promised and given while it was choked."""

    def __init__(self, info_hash: bytes, piece_count: int, config: SwarmConfig) -> None:
        self._info_hash = info_hash
        self._piece_count = piece_count
        self._config = config
        self._given: dict[bytes, int] = {}

    def pieces(self, ipv4: str) -> list[int]:
        """The allowed-fast set of a peer."""
        return allowed_fast(self._info_hash, ipv4, self._piece_count, self._config.allowed_fast)

    def spend(self, ipv4: str, count: int) -> bool:
        """Whether the peer's network may have ``count`` bytes more; counts them then."""
        network = _network(ipv4)
        given = self._given.get(network, 0) + count
        if given > self._config.allowed_fast_bytes:
            return False
        if network not in self._given and len(self._given) >= MAX_NETWORKS:
            del self._given[next(iter(self._given))]
        self._given[network] = given
        return True
