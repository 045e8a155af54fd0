"""Names and addresses of peers that come by plain TCP: they prove no key, so they are their connection.

A name is `tcp:<ip>:<port>`, with brackets around an IPv6 address.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from p2pml.net.gate import is_local

PREFIX = "tcp:"
_WITH_PORT = re.compile(r"(tcp:(?:\[[0-9a-f:.]+\]|[0-9.]+)):[0-9]+")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = tuple[str, int]


def is_plain(peer: str) -> bool:
    """Whether this names a peer by plain TCP, and not a libp2p peer."""
    return peer.startswith(PREFIX)


def plain_name(ip: str, port: int) -> str:
    """The name of the peer at an address; one IPv4 address has one name, written as IPv6 or not."""
    ip = plain_ip(ip)
    return f"{PREFIX}[{ip}]:{port}" if ":" in ip else f"{PREFIX}{ip}:{port}"


def address_of(name: str) -> Address:
    """The address in a name that `plain_name` made."""
    ip, _, port = name.removeprefix(PREFIX).rpartition(":")
    return ip.strip("[]"), int(port)


def ipv4_of(peer: str) -> str | None:
    """The IPv4 address in a name; None for IPv6 and for libp2p peers."""
    ip = address_of(peer)[0] if is_plain(peer) else ""
    return ip if "." in ip else None


def host_name(name: str) -> str:
    """A name without its port, which says nothing any more once the connection has ended."""
    match = _WITH_PORT.fullmatch(name)
    return match[1] if match else name


def plain_ip(ip: str) -> str:
    """An address in its shortest form, IPv4 out of IPv6 (`::ffff:…`), without a scope."""
    address = ipaddress.ip_address(ip.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def block_of(ip: str) -> str:
    """What a ban by address is for: one IPv4 address, one IPv6 /64."""
    address = ipaddress.ip_address(plain_ip(ip))
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))


def may_be_dialled(ip: str, local: bool) -> bool:
    """Whether an address that a stranger names may be dialled.

    Args:
        local: whether who named it is at a private or loopback address itself; only such a one may name
            others, or anybody on the internet could have this node knock at doors inside its own network.
    """
    address = ipaddress.ip_address(plain_ip(ip))
    if address.is_multicast or address.is_unspecified or (address.is_reserved and not address.is_loopback):
        return False
    if isinstance(address, ipaddress.IPv6Address) and (
        address.sixtofour or address.teredo or address in _NAT64  # an IPv4 address inside that says more
    ):
        return False
    return address.is_global or (local and is_local(str(address)))


def allowed_peers(peers: Iterable[Address], local: bool) -> list[str]:
    """The names of the peers among those named by a stranger that may be dialled."""
    return [plain_name(ip, port) for ip, port in peers if 0 < port < 65536 and may_be_dialled(ip, local)]
