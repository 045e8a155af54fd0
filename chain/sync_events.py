"""What the sync machine is told and what it tells: the events and effects of `chain.sync.Sync`."""

from __future__ import annotations

from dataclasses import dataclass

from chain.types import Block

TIMEOUT = 15.0
"""Seconds that a peer has to answer."""


@dataclass(frozen=True, slots=True)
class PeerJoined:
    """A peer that speaks the protocol is connected."""

    peer: str


@dataclass(frozen=True, slots=True)
class PeerLeft:
    """A peer is gone."""

    peer: str


@dataclass(frozen=True, slots=True)
class HeadIs:
    """Our own head, at the start and after every change, and the highest justified checkpoint we know."""

    height: int
    weight: int
    locator: tuple[bytes, ...]
    justified: int = 0


@dataclass(frozen=True, slots=True)
class Missing:
    """A block from `peer` waits for `parent`."""

    peer: str
    parent: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """The bytes with which a peer answered."""

    peer: str
    request_id: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """A request came to nothing: connection lost, refused, or cancelled."""

    peer: str
    request_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class Imported:
    """A batch has been given to the chain; `error`: what was wrong with it, if the peer is to blame."""

    batch_id: int
    error: str | None = None


Event = PeerJoined | PeerLeft | HeadIs | Missing | Answered | Failed | Imported


@dataclass(frozen=True, slots=True)
class Ask:
    """Send these request bytes to the peer; give up after `timeout` seconds, or `max_bytes` of answer."""

    peer: str
    request_id: int
    data: bytes
    max_bytes: int
    timeout: float = TIMEOUT


@dataclass(frozen=True, slots=True)
class Import:
    """Give these blocks to the chain, in order, and after those of the `Import` before.

    Args:
        peer: who is to blame if they are invalid: it gave their headers.
        batch_id: for `Imported`.
        blocks: each one's body is the one under its header's root, except for a block fetched by its id.
    """

    peer: str
    batch_id: int
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Distrust:
    """The peer lied or broke the protocol; the machine asks it nothing more."""

    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class SyncState:
    """How many blocks the best credible claim is ahead of us; 0: in sync as far as anybody says."""

    behind: int


Effect = Ask | Import | Distrust | SyncState
