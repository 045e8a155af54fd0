"""What a host's connections look like to people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from libp2p.connection_types import ConnectionType

from p2pml.net.raw_host import alive


@dataclass(frozen=True, slots=True)
class Connection:
    """The connection to one peer.

    Args:
        peer: its id.
        inbound: the peer opened it.
        relayed: it leads through a relay.
        address: `host:port` at the other end of the wire; empty where the wire has none.
    """

    peer: str
    inbound: bool
    relayed: bool
    address: str


def connections(raw: Any) -> list[Connection]:
    """One for each connected peer of a libp2p host."""
    found = []
    for peer, conns in raw.get_network().connections.items():
        live = [conn for conn in conns if alive([conn])]
        if live:
            found.append(_describe(peer.to_base58(), live[-1]))
    return found


def _describe(peer: str, conn: Any) -> Connection:
    secured = conn.muxed_conn.secured_conn
    relayed = secured.get_connection_type() is not ConnectionType.DIRECT
    where = None if relayed else secured.get_remote_address()
    address = ""
    if where is not None:
        host, port = where[0], where[1]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Connection(peer, str(conn.direction.name).lower() == "inbound", relayed, address)
