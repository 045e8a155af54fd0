"""A dataset's dealings with ordinary BitTorrent clients: its trackers, and clients that a person names."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import trio

from p2pml.errors import ExitCode, UserError
from p2pml.net.announcer import Announcer
from p2pml.net.pieces import SwarmPump
from p2pml.net.plain_peer import plain_name
from p2pml.net.plain_port import PlainPort
from p2pml.storage.piece_store import PieceStore
from torrent.tracker import Announcement, trackers_of


def announcer_for(store: PieceStore, pump: SwarmPump, plain: PlainPort | None) -> Announcer | None:
    """What keeps a dataset's trackers told; None for a private one, one without trackers, and without a port
    at which clients could come.
    """
    if plain is None or not pump.public:
        return None
    trackers = trackers_of(store.metainfo.raw)
    key = secrets.token_hex(4)

    def describe(event: str) -> Announcement:
        stats = pump.stats()
        missing = store.metainfo.piece_count - store.have_count
        return Announcement(
            info_hash=pump.info_hash,
            peer_id=pump.peer_id,
            port=plain.port,
            uploaded=sum(stats.served.values()),
            downloaded=sum(stats.sources.values()),
            left=min(missing * store.metainfo.piece_length, store.metainfo.total_length),
            event=event,
            key=key,
        )

    complete = store.have_count == store.metainfo.piece_count
    return Announcer(trackers, describe, pump.offer, complete) if trackers else None


async def resolve_clients(peers: Sequence[str], plain: PlainPort | None) -> tuple[str, ...]:
    """The names of clients given as `host:port` (`[…]:port` for IPv6).

    Raises:
        UserError: not such an address, an unknown host, or there is no port for BitTorrent clients.
    """
    if peers and plain is None:
        raise UserError(
            "this node does not speak with ordinary BitTorrent clients",
            "set bittorrent_port in config.toml, or start the daemon with --bittorrent-port",
            ExitCode.BAD_CONFIG,
        )
    return tuple([await _resolve(peer) for peer in peers])


async def _resolve(peer: str) -> str:
    host, _, digits = peer.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    port = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 6 else 0
    if not host or not 0 < port < 65536:
        raise UserError(f"{peer!r} is not host:port", "write it as 192.0.2.7:6881", ExitCode.USAGE)
    try:
        found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UserError(f"{host!r} has no address: {error}", "check the name", ExitCode.NETWORK) from error
    return plain_name(str(found[0][4][0]), port)
