"""Who may connect, by address: counts and rates per block of addresses, asked before a handshake costs
anything. No sockets and no clock in here.

A block is what one customer of a provider commonly holds: a single IPv4 address and its /24, an IPv6 /64.
Loopback and private addresses have bounds of their own, far wider: laboratories and friends share one.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Literal

MAX_BLOCKS = 4096
"""Blocks whose rate is remembered; connections that are open are counted in any case."""

State = Literal["half-open", "open", "ended"]


class Refused(Exception):
    """A connection that is not taken."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """For one block of addresses.

    Args:
        connections: open at once, half-open ones included.
        half_open: whose handshakes are not finished.
        burst: new connections at once.
        per_s: new connections per second after a burst.
    """

    connections: int
    half_open: int
    burst: int
    per_s: float


@dataclass(frozen=True, slots=True)
class Limits:
    """For all inbound connections of a host, and for each kind of block.

    Args:
        inbound: connections that others opened, half-open ones included.
        half_open: of them, whose handshakes are not finished.
        outbound: connections that this host opened.
        address: for one IPv4 address.
        network: for one IPv4 /24.
        network6: for one IPv6 /64.
        local: for loopback, or one private or link-local network as a whole.
    """

    inbound: int = 240
    half_open: int = 128
    outbound: int = 120
    address: Bounds = Bounds(16, 8, 20, 1.0)
    network: Bounds = Bounds(48, 16, 60, 4.0)
    network6: Bounds = Bounds(16, 8, 20, 1.0)
    local: Bounds = Bounds(220, 96, 400, 100.0)


@dataclass(slots=True)
class Ticket:
    """One connection that was let in."""

    blocks: tuple[str, ...]
    state: State = "half-open"


@dataclass(slots=True)
class _Bucket:
    """Tokens for new connections."""

    level: float
    at: float


@dataclass(slots=True)
class Gate:
    """Counts connections by the blocks of their addresses.

    Args:
        limits: see `Limits`.
    """

    limits: Limits = field(default_factory=Limits)
    _open: Counter[str] = field(default_factory=Counter)
    _half_open: Counter[str] = field(default_factory=Counter)
    _buckets: OrderedDict[str, _Bucket] = field(default_factory=OrderedDict)

    @property
    def inbound(self) -> int:
        """Connections that were let in and have not ended."""
        return self._open[""]

    @property
    def half_open(self) -> int:
        """Those whose handshakes are not finished."""
        return self._half_open[""]

    def enter(self, ip: str | None, now: float) -> Ticket:
        """Let a connection from `ip` in at `now` (seconds); None for a wire without addresses.

        Raises:
            Refused: there are too many already, or they come too fast; nothing is counted then.
        """
        if self.inbound >= self.limits.inbound:
            raise Refused(f"{self.inbound} inbound connections are open")
        if self.half_open >= self.limits.half_open:
            raise Refused(f"{self.half_open} handshakes are under way")
        blocks = blocks_of(ip, self.limits)
        for name, bounds in blocks:
            if self._open[name] >= bounds.connections:
                raise Refused(f"{bounds.connections} connections of {name} are open")
            if self._half_open[name] >= bounds.half_open:
                raise Refused(f"{bounds.half_open} handshakes of {name} are under way")
            if self._level(name, bounds, now) < 1:
                raise Refused(f"{name} connects more often than {bounds.per_s:g} times per second")
        for name, bounds in blocks:
            self._take(name, bounds, now)
        ticket = Ticket(("", *(name for name, _ in blocks)))
        self._open.update(ticket.blocks)
        self._half_open.update(ticket.blocks)
        return ticket

    def established(self, ticket: Ticket) -> None:
        """Its handshake is finished."""
        if ticket.state == "half-open":
            ticket.state = "open"
            _take_off(self._half_open, ticket.blocks)

    def leave(self, ticket: Ticket) -> None:
        """It has ended; nothing happens the second time."""
        self.established(ticket)
        if ticket.state == "open":
            ticket.state = "ended"
            _take_off(self._open, ticket.blocks)

    def _level(self, name: str, bounds: Bounds, now: float) -> float:
        bucket = self._buckets.get(name)
        if bucket is None:
            return float(bounds.burst)
        return min(bucket.level + (now - bucket.at) * bounds.per_s, float(bounds.burst))

    def _take(self, name: str, bounds: Bounds, now: float) -> None:
        self._buckets[name] = _Bucket(self._level(name, bounds, now) - 1, now)
        self._buckets.move_to_end(name)
        if len(self._buckets) > MAX_BLOCKS:
            self._buckets.popitem(last=False)


def blocks_of(ip: str | None, limits: Limits) -> tuple[tuple[str, Bounds], ...]:
    """The blocks that an address belongs to, with their bounds."""
    if ip is None:
        return (("local", limits.local),)
    address = ipaddress.ip_address(ip.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = mapped or address
    if address.is_loopback:
        return (("loopback", limits.local),)
    prefix = 24 if address.version == 4 else 64
    network = str(ipaddress.ip_network((address, prefix), strict=False))
    if is_local(str(address)):
        return ((network, limits.local),)
    if address.version == 6:
        return ((network, limits.network6),)
    return ((str(address), limits.address), (network, limits.network))


def is_local(ip: str) -> bool:
    """Whether an address is loopback's, a private network's or a laboratory's (198.18.0.0/15)."""
    address = ipaddress.ip_address(ip.partition("%")[0])
    return (address.is_private or address.is_link_local) and not address.is_unspecified


def _take_off(counts: Counter[str], names: tuple[str, ...]) -> None:
    for name in names:
        counts[name] -= 1
        if not counts[name]:
            del counts[name]
