"""The gate at a libp2p swarm: who is let in when a socket is accepted, who stays once its key is proved.

libp2p 0.8.1 has a gate by lists of addresses and one count of all connections; neither sees rates, blocks of
addresses, handshakes under way or peers. Here each accepted connection passes `net.gate` before a byte is
read; who is banned is turned away as soon as noise has proved its key; a peer keeps one connection.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import trio
from libp2p.connection_types import ConnectionType
from libp2p.transport.exceptions import MuxerUpgradeFailure

from p2pml.net.cancelsafe import cut
from p2pml.net.gate import Gate, Refused, Ticket

log = logging.getLogger(__name__)

CROSSING_S = 10.0
"""Two connections of which each side opened one, and that began so close together, were dialled at once."""
LINGER_S = 5.0
"""What is under way on the connection that is not kept may end; nothing new begins on it."""

_ticket: ContextVar[Ticket | None] = ContextVar("ticket", default=None)


@contextmanager
def let_in(gate: Gate, ip: str | None) -> Iterator[None]:
    """Around the life of one accepted connection, in its own task; inside of itself it does nothing.

    Raises:
        Refused: it is not to be taken.
    """
    if _ticket.get() is not None:
        yield
        return
    ticket = gate.enter(ip, trio.current_time())
    token = _ticket.set(ticket)
    try:
        yield
    finally:
        _ticket.reset(token)
        gate.leave(ticket)


def guard(network: Any, gate: Gate, is_banned: Callable[[str], bool]) -> None:
    """Put the gate at a swarm that does not listen yet.

    Args:
        network: libp2p's swarm.
        gate: counts the connections.
        is_banned: asked with the id of a peer that proved its key, in either direction.
    """
    accept, upgrade, add = (
        network._handle_inbound_connection,
        network.upgrader.upgrade_connection,
        network.add_conn,
    )

    async def accept_if_let_in(stream: Any, location: Any) -> None:
        try:
            with let_in(gate, _ip_of(stream)):
                await accept(stream, location)
        except Refused as error:
            log.debug("a connection from %s is not taken: %s", _ip_of(stream), error)
            await trio.aclose_forcefully(stream.stream)

    async def upgrade_unless_banned(conn: Any, peer: Any) -> Any:
        if is_banned(peer.to_base58()):
            raise MuxerUpgradeFailure(f"{peer.to_base58()} is banned")
        return await upgrade(conn, peer)

    async def add_and_keep_one(muxed: Any, direction: str = "unknown") -> Any:
        conn = await add(muxed, direction=direction)
        ticket = _ticket.get()
        if ticket is not None and direction == "inbound":
            gate.established(ticket)
        await _keep_one(network, muxed.peer_id)
        return conn

    network._handle_inbound_connection = accept_if_let_in
    network.upgrader.upgrade_connection = upgrade_unless_banned
    network.add_conn = add_and_keep_one


def outbound(network: Any) -> int:
    """Connections that this side opened."""
    return sum(_is_outbound(conn) for conn in network.get_connections())


async def _keep_one(network: Any, peer: Any) -> None:
    """Of several connections to a peer keep one; on the others libp2p opens nothing more."""
    conns = [conn for conn in network.get_connections(peer) if not conn.is_closed]
    if len(conns) < 2:
        return
    kept = best_of(conns, network.get_peer_id().to_base58() < peer.to_base58())
    for conn in conns:
        if conn is kept:
            continue
        network.remove_conn(conn)
        if _is_outbound(conn) == _is_outbound(kept):  # its other end had lost it when it opened the new one
            await cut(conn.muxed_conn)
        else:
            network.manager.run_task(_end_later, conn)


def best_of(conns: list[Any], ours_first: bool) -> Any:
    """The connection that both sides keep: a direct one before one through a relay; the newest; of two that
    crossed, the one that the smaller peer id opened.

    Args:
        ours_first: whether this side has the smaller id.
    """
    direct = [conn for conn in conns if _is_direct(conn)] or conns
    newest = max(direct, key=lambda conn: float(conn._created_at))
    crossed = [
        conn
        for conn in direct
        if _is_outbound(conn) != _is_outbound(newest)
        and newest._created_at - conn._created_at <= CROSSING_S
        and not conn.muxed_conn.event_shutting_down.is_set()
    ]
    if crossed and _is_outbound(newest) != ours_first:
        return max(crossed, key=lambda conn: float(conn._created_at))
    return newest


async def _end_later(conn: Any) -> None:
    try:
        with trio.move_on_after(LINGER_S):
            await conn.muxed_conn.event_shutting_down.wait()
    finally:
        await cut(conn.muxed_conn)  # also when the host stops meanwhile: nobody else knows of it any more


def _is_outbound(conn: Any) -> bool:
    return str(conn.direction.name).lower() == "outbound"


def _is_direct(conn: Any) -> bool:
    return bool(conn.muxed_conn.secured_conn.get_connection_type() is ConnectionType.DIRECT)


def _ip_of(stream: Any) -> str | None:
    where = stream.get_remote_address()
    return None if where is None else str(where[0])
