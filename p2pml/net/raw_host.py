"""The libp2p host underneath: one Ed25519 identity, TCP or WebSocket with noise and yamux, nothing else.

Security: the only security protocol offered is noise (plaintext would let anyone claim any identity), the
only muxer is yamux. The one place that all streams pass is guarded: libp2p would otherwise let an exception
in any handler, its own included, end the whole host.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.peer.id import ID
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.transport.tcp.tcp import TCP

from p2pml.config import DEFAULT_TRANSPORT
from p2pml.net.cancelsafe import uninterrupted
from p2pml.net.circuits import CircuitTransport
from p2pml.net.errors import Malformed
from p2pml.net.forgetting import Forgetting
from p2pml.net.gate import Gate
from p2pml.net.inbound import free_ended_inbound
from p2pml.net.negotiation import bound_lines
from p2pml.net.transports import noise_class, use_own_muxer
from p2pml.net.websocket import WebSocketTransport

log = logging.getLogger(__name__)
logging.getLogger("libp2p").setLevel(logging.CRITICAL)  # it logs what peers do as errors of this process

CONNECTIONS = 400
"""Of all kinds; `net.gate` has bounds for each."""
INBOUND_PER_PEER = 192
"""Streams that one peer may hold open to us; more are reset."""
_RESET_S = 10.0

StreamHandler = Callable[[Any], Awaitable[None]]


def new_raw_host(
    seed: bytes, transport: str = DEFAULT_TRANSPORT, wires: Any = None, gate: Gate | None = None
) -> Any:
    """A libp2p `BasicHost` for a 32-byte Ed25519 seed, not yet listening.

    Args:
        transport: the code above the wires, see `net.transports`.
        wires: what to listen on and dial over instead of TCP and WebSocket, see `MemoryNetwork`.
        gate: asked by listeners that do something before libp2p sees a connection.

    Raises:
        ValueError: `transport` names no stack.
    """
    bound_lines()
    keys = create_new_key_pair(seed)
    noise = noise_class(transport)(keys, noise_privkey=create_noise_key_pair().private_key)
    circuits = CircuitTransport()
    config = ConnectionConfig(
        min_connections=0, low_watermark=0, max_connections=CONNECTIONS, high_watermark=CONNECTIONS
    )
    host = new_host(
        key_pair=keys,
        sec_opt={NOISE: noise},
        muxer_opt={YAMUX: Yamux},
        connection_config=config,
        transports=[circuits, TCP(), WebSocketTransport(gate)] if wires is None else [wires],
        disable_identify_address_discovery=True,
    )
    circuits.attach(host)
    host.circuits = circuits
    network = host.get_network()
    network.retry_config = RetryConfig(max_retries=0)
    network.auto_connector.maybe_connect = trio.lowlevel.checkpoint  # whom to dial is decided by `Host`
    network.auto_connector.record_disconnect = lambda peer: None  # or it would list every peer that ever left
    # Its accounting loses slots on abrupt disconnects until nothing can be opened: our limits replace it.
    network.set_resource_manager(None)
    free_ended_inbound(network)
    network.register_notifee(Forgetting(host))
    network.set_stream_handler(guarded(host._swarm_stream_handler))
    if transport == "fast":
        use_own_muxer(network)
    return host


def guarded(inner: StreamHandler) -> StreamHandler:
    """A handler of all streams that never raises and bounds the streams of each peer."""
    open_now: Counter[str] = Counter()

    async def handler(raw: Any) -> None:
        peer = raw.muxed_conn.peer_id.to_base58()
        open_now[peer] += 1
        try:
            if open_now[peer] > INBOUND_PER_PEER:
                raise Malformed(f"{peer} opened more than {INBOUND_PER_PEER} streams")
            await inner(raw)
        except Exception as error:
            log.debug("a stream from %s ended: %s %s", peer, type(error).__name__, error)
            await _reset_quietly(raw)
        finally:
            open_now[peer] -= 1
            if not open_now[peer]:
                del open_now[peer]

    return handler


def to_raw_peer(peer: str) -> Any:
    """libp2p's form of a peer id. Raises ValueError when `peer` is not base58 text of one."""
    if not isinstance(peer, str) or len(peer) > 128:
        raise ValueError("a peer id is a short text")
    try:
        target = ID.from_base58(peer)
        if target.to_base58() != peer or not 34 <= len(target.to_bytes()) <= 64:
            raise ValueError(peer)
    except Exception as error:
        raise ValueError(f"{peer!r} is not a peer id") from error
    return target


def is_peer_id(value: Any) -> bool:
    """Whether `value` is the base58 text of a peer id."""
    try:
        to_raw_peer(value)
    except ValueError:
        return False
    return True


def alive(conns: Iterable[Any]) -> bool:
    """Whether any of a peer's connections still carries streams."""
    return any(not conn.is_closed and not conn.muxed_conn.event_shutting_down.is_set() for conn in conns)


async def _reset_quietly(raw: Any) -> None:
    try:
        await uninterrupted(raw, raw.reset, _RESET_S)
    except Exception as error:
        log.debug("a reset failed: %s", error)
