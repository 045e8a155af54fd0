"""Connections through a relay, by libp2p's circuit relay v2; noise secures them from end to end."""

from __future__ import annotations

from typing import Any

from libp2p.abc import IListener, ITransport
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.relay.circuit_v2.config import RelayConfig, RelayRole
from libp2p.relay.circuit_v2.protocol import CircuitV2Protocol
from libp2p.relay.circuit_v2.resources import RelayLimits
from libp2p.relay.circuit_v2.transport import CircuitV2Transport
from libp2p.transport.exceptions import OpenConnectionError

from p2pml.net import addresses

CIRCUIT_BYTES = 1 << 30
"""That one circuit may carry; then it is cut, and the peers may open another."""
CIRCUIT_S = 3600
CIRCUITS = 16
"""Of one peer at once."""
RESERVATIONS = 64
RESERVATION_S = 3600


class CircuitTransport(ITransport):  # type: ignore[misc]
    """Dials `…/p2p/<relay>/p2p-circuit/p2p/<peer>`; see libp2p's `ITransport`."""

    def __init__(self) -> None:
        self._inner: Any = None

    def attach(self, raw: Any) -> None:
        """Dial over this libp2p host's connections."""
        limits = RelayLimits(CIRCUIT_S, CIRCUIT_BYTES, CIRCUITS, RESERVATIONS, RESERVATION_S)
        self.protocol = CircuitV2Protocol(raw, limits)
        self._inner = CircuitV2Transport(raw, self.protocol, RelayConfig(roles=RelayRole.STOP, limits=limits))

    async def dial(self, maddr: Any) -> Any:
        """A connection through the relay, to be secured with the peer at its end.

        Raises:
            OpenConnectionError: the relay, or the peer behind it, cannot be had.
        """
        try:
            relay, peer = self._inner.parse_circuit_ma(maddr)
            info = PeerInfo(ID.from_base58(relay.get_peer_id()), [relay])
            return await self._inner.dial_peer_info(PeerInfo(peer, [maddr]), relay_info=info)
        except Exception as error:
            raise OpenConnectionError(f"no way through {maddr}: {error}") from error

    async def reserve(self, stream: Any, relay: Any) -> bool:
        """Ask a relay, on a stream to it, for a place."""
        return bool(await self._inner._make_reservation(stream, relay))

    def create_listener(self, handler_function: Any) -> IListener:
        """Never asked for: `can_listen` says no."""
        raise OpenConnectionError("circuits are not listened on")

    def can_dial(self, maddr: Any) -> bool:
        """Whether the address leads through a relay."""
        return addresses.is_circuit(str(maddr))

    def can_listen(self, maddr: Any) -> bool:
        """No."""
        return False

    def protocols(self) -> list[str]:
        """What libp2p filters addresses by before it asks `can_dial`."""
        return ["p2p-circuit"]

    def listen_order(self) -> int:
        """Before TCP, which would take any address with a TCP port in it."""
        return -1
