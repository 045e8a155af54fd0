"""Who is there: every node tells the others who it is and what it offers, and connects to those it hears of.

Two ways, since each fails where the other works: a gossiped announcement (signed by its origin) every ten
seconds reaches everybody, and a direct exchange with each connected peer works before gossip has formed its
mesh and hands on the addresses of others. Small networks end up fully connected; large ones at `MESH`
connections.

An announcement is `[1, peer_id, addrs, account, vrf, trainer, busy, rating, height, name]`; the answer to one
over `/p2pml/presence/1.0.0` is `[announcement, [[peer_id, addrs], …]]`.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import trio

from p2pml.net import wire
from p2pml.net.errors import Malformed, RemoteError
from p2pml.net.gossip import Gossip, Verdict
from p2pml.net.host import Host
from p2pml.net.raw_host import is_peer_id

log = logging.getLogger(__name__)

PROTOCOL = "/p2pml/presence/1.0.0"
TOPIC = "presence"
VERSION = 1
MESH = 12
"""Connections that a node makes by itself; more may come in."""
MAX_PEERS = 1024
MAX_HINTS = 64
MAX_BYTES = 64 * 1024
_MAX_ADDRS = 8
_MAX_INT = 2**63


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds; tests shorten them."""

    announce: float = 10.0
    """Between two announcements."""
    expiry: float = 35.0
    """After the last announcement a peer counts as gone."""
    look: float = 0.5
    """Between two looks at who is connected."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a node says about itself.

    Args:
        account: 32-byte chain account.
        trainer: whether it takes training work.
        busy: whether it is training now.
        rating: computational-power rating on the chain; 0 for none.
        height: height of its chain head.
        name: what people call it, up to 64 characters.
        vrf: 32-byte VRF key; empty for a node that does not propose.
    """

    account: bytes
    trainer: bool = False
    busy: bool = False
    rating: int = 0
    height: int = 0
    name: str = ""
    vrf: bytes = b""


@dataclass(frozen=True, slots=True)
class Peer:
    """A live peer: its announcement and when it was last heard of (trio time, seconds)."""

    peer_id: str
    addrs: tuple[str, ...]
    facts: Facts
    seen: float

    @property
    def account(self) -> bytes:
        """32-byte chain account."""
        return self.facts.account

    @property
    def trainer(self) -> bool:
        """Whether it takes training work."""
        return self.facts.trainer

    @property
    def busy(self) -> bool:
        """Whether it is training now."""
        return self.facts.busy

    @property
    def name(self) -> str:
        """What people call it."""
        return self.facts.name


class Presence:
    """The table of live peers, kept up by announcing, listening, asking and dialling.

    Args:
        host: running while this runs.
        gossip: likewise.
        describe: gives the facts about this node at the moment of an announcement.
    """

    def __init__(
        self, host: Host, gossip: Gossip, describe: Callable[[], Facts], timing: Timing | None = None
    ) -> None:
        self._host, self._gossip, self._describe = host, gossip, describe
        self._timing = timing or Timing()
        self._peers: dict[str, Peer] = {}
        self._greeted: dict[str, float] = {}
        self._hinted: dict[str, float] = {}
        self._busy_with: set[str] = set()
        self._nudge = trio.Event()
        self._changed = trio.Event()

    # -- asking ----------------------------------------------------------------------------------------

    def peers(self) -> list[Peer]:
        """Live peers, by id; not this node itself."""
        limit = trio.current_time() - self._timing.expiry
        return [peer for _, peer in sorted(self._peers.items()) if peer.seen > limit]

    def get(self, peer_id: str) -> Peer | None:
        """A live peer."""
        peer = self._peers.get(peer_id)
        alive = peer is not None and peer.seen > trio.current_time() - self._timing.expiry
        return peer if alive else None

    def trainers(self) -> list[Peer]:
        """Live peers that take training work and are connected, idle ones first."""
        found = [peer for peer in self.peers() if peer.trainer and self._host.is_connected(peer.peer_id)]
        return sorted(found, key=lambda peer: peer.busy)

    async def wait_change(self, timeout: float = 60.0) -> None:
        """Wait until a peer came, went or changed, or `timeout` seconds have passed."""
        with trio.move_on_after(timeout):
            await self._changed.wait()

    def announce(self) -> None:
        """Tell the others now: something about this node has changed."""
        self._nudge.set()

    # -- running ---------------------------------------------------------------------------------------

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the table until cancelled."""
        self._host.serve(PROTOCOL, self._answer, MAX_BYTES, 10.0)
        self._gossip.subscribe(TOPIC, _validate, self._deliver)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._announcing)
            task_status.started()
            while True:
                self._look(nursery)
                await trio.sleep(self._timing.look)

    async def _announcing(self) -> None:
        while True:
            self._nudge = trio.Event()
            await self._gossip.publish(TOPIC, wire.encode(self._announcement()))
            with trio.move_on_after(self._timing.announce * random.uniform(0.9, 1.0)):
                await self._nudge.wait()
            await trio.sleep(0.05)  # several changes at once need one announcement

    def _look(self, nursery: trio.Nursery) -> None:
        """Greet peers that are connected but not (or no longer) known, dial those known but not connected."""
        now = trio.current_time()
        self._expire(now)
        connected = set(self._host.connected())
        for gone in set(self._greeted) - connected:
            del self._greeted[gone]
        for peer in connected - self._busy_with:
            known = self._peers.get(peer)
            stale = known is None or known.seen < now - self._timing.expiry / 2
            greeted = self._greeted.get(peer)
            if greeted is None or (stale and greeted < now - self._timing.expiry / 4):
                self._greeted[peer] = now
                self._busy_with.add(peer)
                nursery.start_soon(self._greet, peer)
        room = MESH - len(connected) - len(self._busy_with - connected)
        for peer in self._dialable(connected, now)[: max(room, 0)]:
            self._busy_with.add(peer)
            nursery.start_soon(self._dial, peer)

    def _dialable(self, connected: set[str], now: float) -> list[str]:
        waiting = (set(self._peers) | set(self._hinted)) - connected - self._busy_with
        rest, standing = self._host.dialing.rest, self._host.standing
        ready = [peer for peer in waiting if rest.ready(peer, now) and not standing.banned(peer)]
        random.shuffle(ready)
        return ready

    async def _greet(self, peer: str) -> None:
        """Exchange announcements with a connected peer."""
        try:
            answer = await self._host.request(peer, PROTOCOL, self._announcement(), 10.0, MAX_BYTES)
            if not isinstance(answer, list) or len(answer) != 2 or not isinstance(answer[1], list):
                raise Malformed("an answer has an announcement and a list of peers")
            self._take(peer, _parse(answer[0]))
            for hint in answer[1][:MAX_HINTS]:
                self._take_hint(hint)
        except RemoteError as error:
            log.debug("no presence from %s: %s", peer, error)
            self._host.standing.note(peer, error)
        finally:
            self._busy_with.discard(peer)

    async def _dial(self, peer: str) -> None:
        try:
            await self._host.connect_peer(peer)
        except RemoteError as error:
            log.debug("%s", error)
        finally:
            self._busy_with.discard(peer)

    # -- messages --------------------------------------------------------------------------------------

    def _announcement(self) -> list[Any]:
        facts = self._describe()
        return [
            VERSION, self._host.peer_id, self._host.addrs()[:_MAX_ADDRS], facts.account, facts.vrf,
            facts.trainer, facts.busy, facts.rating, facts.height, facts.name[:64],
        ]  # fmt: skip

    async def _answer(self, peer: str, message: Any) -> Any:
        self._take(peer, _parse(message))
        others = [other for other in self.peers() if other.peer_id != peer]
        hints = random.sample(others, min(len(others), MAX_HINTS))
        return [self._announcement(), [[other.peer_id, list(other.addrs)] for other in hints]]

    def _deliver(self, origin: str, data: bytes) -> None:
        try:
            self._take(origin, _parse(wire.decode(data)))
        except Malformed as error:
            log.debug("a bad announcement from %s: %s", origin, error)

    def _take(self, origin: str, peer: Peer) -> None:
        """Believe a peer about itself only."""
        if peer.peer_id != origin:
            raise Malformed("an announcement in another peer's name")
        if origin == self._host.peer_id:
            return
        old = self._peers.get(origin)
        if old is None and len(self._peers) >= MAX_PEERS:
            return
        self._host.learn(origin, peer.addrs)
        self._peers[origin] = peer
        if old is None:
            self.announce()  # it does not know us yet
        if old is None or replace(old, seen=0.0) != replace(peer, seen=0.0):
            self._tell()

    def _take_hint(self, hint: Any) -> None:
        """An address that somebody knows of; whether the peer is there, the dial will tell."""
        peer, addrs = _fields(hint, 2)
        if not is_peer_id(peer):
            raise Malformed("a hint begins with a peer id")
        self.hint(peer, _texts(addrs))

    def hint(self, peer: str, addrs: Sequence[str]) -> None:
        """Somebody says that a peer is at these addresses: it is dialled when there is room."""
        if peer == self._host.peer_id or peer in self._peers or len(self._hinted) >= MAX_PEERS:
            return
        self._host.learn(peer, addrs)
        self._hinted[peer] = trio.current_time()

    def _expire(self, now: float) -> None:
        limit = now - self._timing.expiry
        for name in [name for name, heard in self._hinted.items() if heard <= limit]:
            del self._hinted[name]
        for name in [name for name, peer in self._peers.items() if peer.seen <= limit]:
            del self._peers[name]
            self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()


def _validate(data: bytes) -> Verdict:
    try:
        if len(data) > 4096:
            return Verdict.REJECT
        _parse(wire.decode(data))
    except Malformed:
        return Verdict.REJECT
    return Verdict.ACCEPT


def _parse(message: Any) -> Peer:
    version, peer, addrs, account, vrf, trainer, busy, rating, height, name = _fields(message, 10)
    if type(version) is not int or not is_peer_id(peer) or not _is_text(name):
        raise Malformed("an announcement has a version, a peer id and a name")
    if not isinstance(account, bytes) or len(account) != 32:
        raise Malformed("an account has 32 bytes")
    if not isinstance(vrf, bytes) or len(vrf) not in (0, 32):
        raise Malformed("a VRF key has 32 bytes")
    if type(trainer) is not bool or type(busy) is not bool:
        raise Malformed("trainer and busy are booleans")
    if type(rating) is not int or type(height) is not int or not (0 <= rating < _MAX_INT > height >= 0):
        raise Malformed("rating and height are numbers")
    facts = Facts(account, trainer, busy, rating, height, name[:64], vrf)
    return Peer(peer, tuple(_texts(addrs)), facts, trio.current_time())


def _fields(message: Any, count: int) -> list[Any]:
    if not isinstance(message, list) or len(message) != count:
        raise Malformed(f"not an array of {count}")
    return message


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(_is_text(item) for item in value):
        raise Malformed("addresses are texts")
    return value[:_MAX_ADDRS]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 256 and value.isprintable()
