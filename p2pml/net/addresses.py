"""Multiaddresses as text: which ones can be dialled, which ones a node tells its peers, and a bounded book.

Source: multiformats "multiaddr"; here TCP over IPv4, IPv6 or DNS, and WebSocket on it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

from multiaddr import Multiaddr

from p2pml.errors import ExitCode, UserError

MAX_ADDR_CHARS = 256
CIRCUIT = "/p2p-circuit"
_HOST_PROTOCOLS = ("ip4", "ip6", "dns", "dns4", "dns6")


def split(addr: str) -> tuple[str, str]:
    """Split `/ip4/…/tcp/…/p2p/<peer>` (or `…/tcp/…/ws/p2p/<peer>`) into the part to dial and the peer id.

    Raises:
        ValueError: not such an address.
    """
    location, separator, peer = addr.strip().rpartition("/p2p/")
    if not separator or not peer or "/" in peer:
        raise ValueError(f"{addr!r} does not end in /p2p/<peer id>")
    if not dialable(location):
        raise ValueError(f"{addr!r} is not a TCP address such as /ip4/192.0.2.7/tcp/9470/p2p/<peer id>")
    return location, peer


def dialable(location: str) -> bool:
    """Whether `location` is a TCP or WebSocket address of a host (not the wildcard, not port 0), or a circuit
    through a peer at one.
    """
    if len(location) > MAX_ADDR_CHARS:
        return False
    if location.endswith(CIRCUIT):
        relay = location.removesuffix(CIRCUIT).rpartition("/p2p/")
        return bool(relay[2]) and not is_circuit(relay[0]) and dialable(relay[0])
    try:
        protocols = [str(protocol.name) for protocol in Multiaddr(location).protocols()]
        parts = location.strip("/").split("/")
        host, port = parts[1], int(parts[3])
    except Exception:  # the parser has many errors; each one says: not an address
        return False
    if protocols[0] not in _HOST_PROTOCOLS or protocols[1:] not in (["tcp"], ["tcp", "ws"]):
        return False
    return host not in ("0.0.0.0", "::") and 0 < port < 65536


def is_websocket(location: str) -> bool:
    """Whether `location`, with or without `/p2p/`, is a WebSocket address."""
    return not is_circuit(location) and location.partition("/p2p/")[0].endswith("/ws") and "/tcp/" in location


def is_circuit(location: str) -> bool:
    """Whether the address leads through a relay."""
    return CIRCUIT in location


def location_of(addr: str) -> str:
    """An address without the peer at its end, if it names one."""
    before, circuit, _ = addr.partition(CIRCUIT)
    return before + circuit if circuit else addr.partition("/p2p/")[0]


def multiaddr(location: str) -> Any:
    """The libp2p form of a dialable address."""
    return Multiaddr(location)


def listen_location(host: str, port: int, websocket: bool = False) -> str:
    """`/ip4/<host>/tcp/<port>`, or `/ip6/…` for an IPv6 host; with `/ws` behind it for WebSocket."""
    return f"/{'ip6' if ':' in host else 'ip4'}/{host}/tcp/{port}{'/ws' if websocket else ''}"


def check_port_free(host: str, port: int) -> None:
    """Refuse a port that another program listens on; the listener itself would quietly share it.

    Raises:
        UserError: the port is in use, or the address is not one of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            raise UserError(
                f"cannot listen on {host} port {port}: {error.strerror or error}",
                "stop the other program, or choose another port with --port",
                ExitCode.FAILURE,
            ) from error


def expand(locations: Iterable[str]) -> list[str]:
    """The addresses at which this machine can be reached, wildcards replaced by its own addresses."""
    found: list[str] = []
    for location in locations:
        parts = location.strip("/").split("/")
        if parts[1] == "0.0.0.0":
            found += [listen_location(ip, int(parts[3]), is_websocket(location)) for ip in own_ipv4()]
        else:
            found.append(location)
    return list(dict.fromkeys(found))


def own_ipv4() -> list[str]:
    """This machine's IPv4 addresses: the one that leads outside, then loopback."""
    addresses = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # a documentation address: nothing is sent
            addresses.append(str(probe.getsockname()[0]))
        except OSError:
            pass  # no way outside: loopback is all there is
    return [*addresses, "127.0.0.1"]
