"""The numbers of a swarm at one moment."""

from __future__ import annotations

from collections.abc import Iterable

from torrent.choker import Choker
from torrent.download import Downloader
from torrent.events import PeerStats, SwarmStats
from torrent.peer import Session
from torrent.upload import Uploader


def swarm_stats(
    sessions: Iterable[Session], down: Downloader, up: Uploader, choker: Choker, total: int, now: float
) -> SwarmStats:
    """``total``: pieces of the torrent."""
    picker = down.picker
    peers = tuple(_peer_stats(session, down, choker, now) for session in sessions)
    return SwarmStats(
        have=picker.have.bit_count(),
        wanted=picker.wanted,
        missing=picker.missing.bit_count(),
        total=total,
        copies=picker.copies,
        sources=dict(down.sources),
        served=dict(up.served),
        wasted=down.wasted,
        down_rate=sum(peer.down_rate for peer in peers),
        up_rate=sum(peer.up_rate for peer in peers),
        peers=peers,
    )


def _peer_stats(session: Session, down: Downloader, choker: Choker, now: float) -> PeerStats:
    down_rate, up_rate = choker.rates(session.peer, now)
    return PeerStats(
        peer=session.peer,
        pieces=down.picker.pieces_of(session.peer),
        down_rate=down_rate,
        up_rate=up_rate,
        am_choking=session.am_choking,
        am_interested=session.am_interested,
        peer_choking=session.peer_choking,
        peer_interested=session.peer_interested,
        snubbed=session.pipeline.snubbed,
        outstanding=len(session.pipeline.outstanding),
        client=session.theirs.client,
        upload_only=session.theirs.upload_only,
    )
