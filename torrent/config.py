"""The tunables of one swarm."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SwarmConfig:
    """Times in seconds, sizes in bytes."""

    min_depth: int = 4
    """Requests kept in flight to a slow peer, and to any peer at first."""
    max_depth: int = 250
    """Most requests in flight to one peer: what ordinary clients queue without being asked."""
    queue_time: float = 1.0
    """Requests in flight cover the delay of the peer's answers and this many seconds more of its rate. More
    only makes peers ask a seed for the same pieces before they hear that another one has them."""
    request_timeout: float = 20.0
    """A peer that sends no requested block for this long loses its requests and gets one at a time."""
    handshake_timeout: float = 20.0
    keepalive: float = 90.0
    """A keep-alive goes out after this much silence of ours."""
    idle_timeout: float = 240.0
    """A peer silent for this long is disconnected: twice BEP 3's two minutes."""
    tick: float = 1.0
    """Resolution of every time-out."""
    max_requests: int = 1024
    """Most requests a peer may queue with us; beyond is a flood."""
    max_block: int = 262_144
    """Largest block that we serve."""
    fast: bool = True
    """Offer the fast extension (BEP 6)."""
    extended: bool = True
    """Offer the extension protocol (BEP 10)."""
    allowed_fast: int = 10
    """Pieces that a newcomer may have while it is choked; only peers with an IPv4 address get any."""
    allowed_fast_bytes: int = 4 << 20
    """Most bytes given in that way to one network of 256 addresses."""
    refusal: float = 20.0
    """A piece that a peer rejected without choking is not asked of it for this long."""
    send_time: float = 0.5
    """No more blocks are read for a peer while this many seconds of its rate are being read or unsent."""
    send_buffer: int = 131_072
    """Lower bound of that, in bytes."""
    max_send_buffer: int = 4 << 20
    """Upper bound of that, in bytes."""
    max_unsent: int = 16 << 20
    """A peer that leaves this much unread is disconnected."""
    piece_buffer: int = 64 << 20
    """No new piece is started while this much memory is held by unfinished or unverified ones: of all swarms
    that share a budget, of each swarm otherwise."""
    unsolicited: int = 64
    """Blocks that were never asked for, tolerated per connection."""
    random_first: int = 4
    """Pieces picked at random before rarest first begins."""
    endgame_depth: int = 8
    """Requests in flight per peer for blocks that another peer has been asked for too."""
    endgame_copies: int = 3
    """Most peers asked for one block at once."""
    upload_slots: int = 4
    """Regular unchoke slots; none gives nobody anything."""
    most_slots: int = 30
    """Most of them: their number grows while one more raises what is uploaded."""
    optimistic_slots: int = 1
    """One or none: slots drawn at random among the rest."""
    choke_round: float = 10.0
    round_bytes: int = 16 << 20
    """A round ends early when this much has been moved, given or received ..."""
    fastest_round: float = 0.1
    """... but not before this part of it. The times below shrink as the rounds do."""
    optimistic_round: float = 30.0
    snub_time: float = 60.0
    """Who has what we want and gives nothing for this long comes last for a regular slot."""
    seed_quota: int = 16 << 20
    """Bytes a seed gives one peer before others that wait go first ..."""
    seed_pieces: int = 20
    """... or this many pieces, if they are less."""
