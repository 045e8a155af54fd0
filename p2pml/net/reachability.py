"""Whether others can open connections to this node: connected peers are asked to try.

`/p2pml/reach/1.0.0`: `[1, [[kind, port], …]]`, answered by `[ip, [reached, …]]`. Kind is `tcp` or `ws`. The
address is not the asker's to say: a peer dials the IP address that the question came from and no other, so
nobody can be made to knock on a third party's door; "reached" means that the asker proved its key there.

libp2p 0.8.1's autonat is not used: its server calls `host.connect`, which finds the connection that the
question came over and answers "reachable" without a dial.
"""

from __future__ import annotations

import ipaddress
import logging
import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

import trio

from p2pml.net import addresses
from p2pml.net.errors import Declined, Malformed, RemoteError, Unreachable
from p2pml.net.host import Host
from p2pml.net.raw_host import to_raw_peer

log = logging.getLogger(__name__)

PROTOCOL = "/p2pml/reach/1.0.0"
VERSION = 1
KINDS = ("tcp", "ws")
MAX_PORTS = 4
PEERS_ASKED = 3


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds; tests shorten them."""

    dial: float = 5.0
    """For one dial back."""
    between: float = 30.0
    """Before the same peer may ask again."""
    fresh: float = 60.0
    """How long an answer counts as news."""
    first: float = 5.0
    """After the start, and between looks until somebody has answered."""
    again: float = 600.0
    """Between two rounds of questions."""
    checks: int = 8
    """Of other peers, under way at once; more are refused."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one peer found.

    Args:
        peer: its id.
        ip: the address that it sees this node at.
        reached: by location, such as `/ip4/192.0.2.7/tcp/9470`.
    """

    peer: str
    ip: str
    reached: dict[str, bool]


class Reachability:
    """Answers others' questions and asks our own.

    What most of the asked peers reached is told to others as an address of this node: behind a router that
    forwards the port, a node does not know its outer address otherwise.
    """

    def __init__(self, host: Host, timing: Timing | None = None) -> None:
        self._host, self._timing = host, timing or Timing()
        self._answered: dict[str, float] = {}
        self._checks = trio.CapacityLimiter(self._timing.checks)
        self._reports: dict[str, tuple[float, Report]] = {}
        self._asking = trio.Lock()
        host.serve(PROTOCOL, self._answer, 256)

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Ask now and then, until cancelled."""
        task_status.started()
        while True:
            await trio.sleep(self._timing.first)
            if await self.look():
                await trio.sleep(self._timing.again)

    async def look(self) -> list[Report]:
        """What up to three connected peers say; answers of the last minute are not asked for again."""
        async with self._asking:
            now = trio.current_time()
            connected = self._host.connected()
            self._reports = {
                peer: (heard, report)
                for peer, (heard, report) in self._reports.items()
                if heard > now - self._timing.fresh and peer in connected
            }
            others = [peer for peer in connected if peer not in self._reports]
            missing = max(PEERS_ASKED - len(self._reports), 0)
            async with trio.open_nursery() as nursery:
                for peer in random.sample(others, min(missing, len(others))):
                    nursery.start_soon(self._ask, peer)
            reports = [report for _, report in self._reports.values()]
            if reports:
                self._host.external = _agreed(reports)
            return reports

    async def _ask(self, peer: str) -> None:
        ports = self._host.ports()[:MAX_PORTS]
        deadline = MAX_PORTS * self._timing.dial + 5
        try:
            answer = await self._host.request(peer, PROTOCOL, [VERSION, ports], deadline, 1024)
            self._reports[peer] = (trio.current_time(), _parse_report(peer, ports, answer))
        except RemoteError as error:
            log.debug("%s does not check our ports: %s", peer, error)
            self._host.standing.note(peer, error)

    async def _answer(self, peer: str, message: Any) -> Any:
        ports = _parse_ports(message)
        ip = self._host.remote_ip(peer)
        if ip is None or (ipaddress.ip_address(ip).is_loopback and not self._host.listens_on_loopback):
            # A proxy on this machine may stand between: its loopback services are not the peer's to try.
            raise Unreachable(f"no address of {peer} that may be dialled")
        now = trio.current_time()
        self._answered = {
            name: then for name, then in self._answered.items() if then > now - self._timing.between
        }
        if peer in self._answered:
            raise Declined(f"{peer} asks too often")
        try:
            self._checks.acquire_on_behalf_of_nowait(peer)
        except (trio.WouldBlock, RuntimeError) as error:
            raise Unreachable("too many checks are under way") from error
        try:
            self._answered[peer] = now
            reached = [
                await self._dial_back(peer, addresses.listen_location(ip, port, kind == "ws"))
                for kind, port in ports
            ]
        finally:
            self._checks.release_on_behalf_of(peer)
        return [ip, reached]

    async def _dial_back(self, peer: str, location: str) -> bool:
        """Whether `peer` proves its key at `location`, on a new connection that ends there."""
        network, target = self._host.raw.get_network(), to_raw_peer(peer)
        maddr = addresses.multiaddr(location)
        raw: Any = None
        with trio.move_on_after(self._timing.dial):
            try:
                raw = await network.transport_manager.transport_for_dialing(maddr).dial(maddr)
                await network.upgrader.upgrade_security(raw, True, target)
                return True
            except Exception as error:  # libp2p's errors and the socket's: not reached
                log.debug("%s is not reached at %s: %s", peer, location, error)
            finally:
                if raw is not None:
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                        await raw.close()
        return False


def _agreed(reports: list[Report]) -> tuple[str, ...]:
    """Locations that more than half of those asked reached."""
    votes = Counter(location for report in reports for location, yes in report.reached.items() if yes)
    return tuple(location for location, count in votes.items() if 2 * count > len(reports))


def _parse_ports(message: Any) -> list[tuple[str, int]]:
    if not isinstance(message, list) or len(message) != 2 or message[0] != VERSION:
        raise Malformed("not a question about ports")
    ports = message[1]
    if not isinstance(ports, list) or not 1 <= len(ports) <= MAX_PORTS:
        raise Malformed(f"1 to {MAX_PORTS} ports may be asked for")
    for item in ports:
        if not isinstance(item, list) or len(item) != 2 or item[0] not in KINDS:
            raise Malformed("a port is named by its kind and number")
        if type(item[1]) is not int or not 0 < item[1] < 65536:
            raise Malformed("no such port")
    return [(kind, port) for kind, port in ports]


def _parse_report(peer: str, ports: list[list[Any]], answer: Any) -> Report:
    if not isinstance(answer, list) or len(answer) != 2 or not isinstance(answer[1], list):
        raise Malformed("an answer has an address and a list")
    ip, reached = answer
    try:
        ipaddress.ip_address(ip)
    except ValueError as error:
        raise Malformed("no IP address") from error
    if len(reached) != len(ports) or not all(type(item) is bool for item in reached):
        raise Malformed("an answer says yes or no for each port")
    locations = [addresses.listen_location(ip, port, kind == "ws") for kind, port in ports]
    return Report(peer, ip, dict(zip(locations, reached, strict=True)))
