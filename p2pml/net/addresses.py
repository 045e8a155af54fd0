"""Multiaddresses as text: which ones can be dialled, which ones a node tells its peers, and a bounded book.

Source: multiformats "multiaddr"; only TCP over IPv4, IPv6 or DNS is used here.
"""

from __future__ import annotations

import socket
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from multiaddr import Multiaddr

from p2pml.errors import ExitCode, UserError

MAX_PEERS = 1000
MAX_ADDRS = 8
MAX_ADDR_CHARS = 256
_HOST_PROTOCOLS = ("ip4", "ip6", "dns", "dns4", "dns6")


def split(addr: str) -> tuple[str, str]:
    """Split `/ip4/…/tcp/…/p2p/<peer>` into the part to dial and the peer id.

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
    """Whether `location` is a TCP address of a host, and not the wildcard or port 0."""
    if len(location) > MAX_ADDR_CHARS:
        return False
    try:
        protocols = [str(protocol.name) for protocol in Multiaddr(location).protocols()]
        parts = location.strip("/").split("/")
        host, port = parts[1], int(parts[3])
    except Exception:  # the parser has many errors; each one says: not an address
        return False
    if len(protocols) != 2 or protocols[0] not in _HOST_PROTOCOLS or protocols[1] != "tcp":
        return False
    return host not in ("0.0.0.0", "::") and 0 < port < 65536


def multiaddr(location: str) -> Any:
    """The libp2p form of a dialable address."""
    return Multiaddr(location)


def listen_location(host: str, port: int) -> str:
    """`/ip4/<host>/tcp/<port>`, or `/ip6/…` for an IPv6 host."""
    return f"/{'ip6' if ':' in host else 'ip4'}/{host}/tcp/{port}"


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
            found += [listen_location(ip, int(parts[3])) for ip in own_ipv4()]
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


class AddressBook:
    """Addresses that peers were said to have; bounded, the peer heard of longest ago is dropped first."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, list[str]] = OrderedDict()

    def learn(self, peer: str, addrs: Iterable[str]) -> None:
        """Put `addrs`, with or without `/p2p/`, before those that are known; drop what cannot be dialled."""
        fresh = [
            location for location in (addr.partition("/p2p/")[0] for addr in addrs) if dialable(location)
        ]
        merged = list(dict.fromkeys([*fresh, *self._known.get(peer, [])]))[:MAX_ADDRS]
        if not merged:
            return
        self._known[peer] = merged
        self._known.move_to_end(peer)
        while len(self._known) > MAX_PEERS:
            self._known.popitem(last=False)

    def get(self, peer: str) -> list[str]:
        """The peer's addresses, best first."""
        return list(self._known.get(peer, []))

    def prefer(self, peer: str, location: str) -> None:
        """Put the address that worked first."""
        self.learn(peer, [location])
