"""What a node tells of its connections and bans, as JSON; see `p2pml.node.views`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConnectionView:
    """A connected peer.

    `direction` is `in` when the peer opened the connection, else `out`; `address` is its end of the wire,
    empty behind a relay. `rtt_ms` and `clock_ms` (its clock less ours) are null until measured. `score`
    counts against it: 0 for nothing, 100 for a ban.
    """

    peer_id: str
    name: str
    direction: str
    relayed: bool
    address: str
    rtt_ms: float | None
    clock_ms: int | None
    score: float


@dataclass(frozen=True, slots=True)
class BanView:
    """A peer that is not spoken to: `until` is in milliseconds since 1970, `times` counts its bans."""

    peer_id: str
    name: str
    until: int
    left_s: int
    times: int
    reason: str


@dataclass(frozen=True, slots=True)
class PingView:
    """One round trip to a peer."""

    peer_id: str
    name: str
    rtt_ms: float


@dataclass(frozen=True, slots=True)
class UnbannedView:
    """Whose ban has ended."""

    peer_id: str
