"""Finding peers of the same network on the local link, by multicast DNS.

libp2p 0.8.1's own service is not used: it announces itself with a call that blocks the loop for seconds,
believes any address that a record names, and keeps what it hears without bound. Here a record is a hint: only
literal addresses of private or link-local networks are taken from it, so that nobody on the link can point
this node at a third party, and whether the peer is there, the handshake tells.

The service is `_p2pml._udp.local.`; its text has `chain` (the first 16 hexadecimal digits of the chain id)
and `dnsaddr` entries as in libp2p's specification "discovery/mdns". Source also: RFC 6762, RFC 6763.
"""

from __future__ import annotations

import ipaddress
import logging
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import trio
from zeroconf import Error, InterfaceChoice, ServiceBrowser, ServiceInfo, Zeroconf

from p2pml.net import addresses
from p2pml.net.gate import is_local
from p2pml.net.host import Host
from p2pml.net.raw_host import is_peer_id

log = logging.getLogger(__name__)

SERVICE = "_p2pml._udp.local."
MAX_NAMES = 64
MAX_ADDRS = 8
RESOLVE_MS = 1500
HINT_S = 10.0
"""Between two hints about the same peer: it may have been away meanwhile."""

Hint = Callable[[str, Sequence[str]], None]


class Lan:
    """Announces a host on its link and listens for others.

    Args:
        host: listening while this runs.
        chain_id: only nodes of the same chain are of interest.
        hint: called with a peer's id and where it says it is.
    """

    def __init__(self, host: Host, chain_id: bytes, hint: Hint) -> None:
        self._host, self._chain, self._hint = host, chain_id.hex()[:16], hint
        self._own_name = f"{secrets.token_hex(16)}.{SERVICE}"
        self._found: dict[str, tuple[str, list[str]]] = {}
        self._send, self._names = trio.open_memory_channel[str](MAX_NAMES)

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. A link without multicast is told of once, and then this does nothing."""
        task_status.started()
        try:
            zeroconf = await trio.to_thread.run_sync(self._open)
        except OSError as error:
            log.warning("peers on the local network are not looked for: %s", error)
            return
        try:
            await self._serve(zeroconf)
        except Error as error:
            log.warning("peers on the local network are not looked for any more: %s", error)
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(zeroconf.close)  # says goodbye first

    async def _serve(self, zeroconf: Zeroconf) -> None:
        token = trio.lowlevel.current_trio_token()

        def heard(zeroconf: Zeroconf, service_type: str, name: str, state_change: Any) -> None:
            with suppress(trio.RunFinishedError):  # its thread outlives the loop by a moment
                token.run_sync_soon(self._note, name)

        ServiceBrowser(zeroconf, SERVICE, handlers=[heard])  # ends with `zeroconf`
        await trio.to_thread.run_sync(zeroconf.register_service, self._announcement())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._resolve, zeroconf)
            while True:
                for peer, addrs in self._found.values():
                    self._hint(peer, addrs)
                await trio.sleep(HINT_S)

    def _open(self) -> Zeroconf:
        listen = self._host.listens_on
        return Zeroconf(interfaces=InterfaceChoice.All if listen in ("0.0.0.0", "::") else [listen])

    def _announcement(self) -> ServiceInfo:
        """What the others are told: the addresses of this machine on local networks."""
        known = [addr for addr in self._host.addrs() if _host_of(addr) is not None][:MAX_ADDRS]
        text: dict[str, str] = {"chain": self._chain}
        for number, addr in enumerate(known):
            text["dnsaddr" if not number else f"dnsaddr{number + 1}"] = addr
        ips = {host for addr in known if (host := _host_of(addr)) is not None}
        return ServiceInfo(
            SERVICE,
            self._own_name,
            port=next((port for _, port in self._host.ports()), 0),
            properties=text,
            server=f"{self._own_name.partition('.')[0]}.local.",
            addresses=[socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip) for ip in ips],
        )

    def _note(self, name: str) -> None:
        """In the loop: a name was heard, or has gone or changed."""
        if name != self._own_name:
            try:
                self._send.send_nowait(name)
            except trio.WouldBlock:
                log.debug("too many names on the local network at once")

    async def _resolve(self, zeroconf: Zeroconf) -> None:
        """Look up what a name says; one that says nothing any more is forgotten."""
        async for name in self._names:
            try:
                info = await trio.to_thread.run_sync(zeroconf.get_service_info, SERVICE, name, RESOLVE_MS)
            except Error as error:  # a name can be no name
                log.debug("a record of the local network: %s", error)
                continue
            found = None if info is None else parse(info.properties, self._chain)
            if found is None or found[0] == self._host.peer_id:
                self._found.pop(name, None)
            elif name in self._found or len(self._found) < MAX_NAMES:
                self._found[name] = found
                self._hint(*found)


def parse(text: Mapping[bytes, bytes | None], chain: str) -> tuple[str, list[str]] | None:
    """The peer and the local addresses that a record's text names; None when it is of no use to a node of
    `chain`.
    """
    if text.get(b"chain") != chain.encode():
        return None
    named: dict[str, list[str]] = {}
    for key, value in text.items():
        if not key.startswith(b"dnsaddr") or value is None:
            continue
        try:
            location, peer = addresses.split(value.decode())
        except ValueError:  # of the text's encoding, too
            continue
        if _host_of(location) is not None and is_peer_id(peer):
            named.setdefault(peer, []).append(location)
    if len(named) != 1:
        return None
    ((peer, locations),) = named.items()
    return peer, locations[:MAX_ADDRS]


def _host_of(addr: str) -> str | None:
    """The IP address that a TCP address names, if it is one of a local network; not loopback."""
    parts = addr.split("/")
    if addresses.is_circuit(addr) or parts[1] not in ("ip4", "ip6"):
        return None
    return parts[2] if is_local(parts[2]) and not ipaddress.ip_address(parts[2]).is_loopback else None
