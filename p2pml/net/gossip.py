"""Topics that reach every node: GossipSub 1.1 with parameters for networks of two to a few hundred nodes.

Gossip may lose messages (bounded queues, restarts): whoever uses it asks its neighbours now and then what it
has missed. Source: libp2p specification, "gossipsub v1.1".

The library's peer scores stay off (all weights zero). In libp2p 0.8.1 a message that we ignore counts as
invalid (P4), so a node that passes on what is merely late or known would be punished; mesh deliveries (P3)
are never counted; time in the mesh (P1) counts grafts, not time; and the gate for messages looks at
neither the application's score (P6) nor addresses (P7). What its validators reject is reported to the host
instead, which judges a peer by all that it does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import trio
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.tools.anyio_service import background_trio_service

from chain.gossip import Verdict
from p2pml.net.buffered import BufferedReads
from p2pml.net.host import Host
from p2pml.net.judging import JudgingPubsub, keep_topics
from p2pml.net.raw_host import to_raw_peer
from p2pml.net.scores import Deed

__all__ = ["MAX_MESSAGE", "Gossip", "Verdict"]

log = logging.getLogger(__name__)

MAX_MESSAGE = 900 * 1024
"""Bytes: an RPC of libp2p holds 1 MiB, envelope and signature included."""
PROTOCOL = "/meshsub/1.1.0"
_BURST = 16
"""Publications without a pause. The library queues 32 messages per peer and drops the next without a word.
A burst fills the queue of each mesh peer at once, since no sender runs until we wait; the other half is for
what we pass on meanwhile. What all nodes together publish nothing paces: then messages are lost. Who has many
small things to publish puts them into one message."""
_INTERVAL_S = 0.02
_LOOK_S = 2.0

Validate = Callable[[bytes], Verdict]
Deliver = Callable[[str, bytes], None]


class Gossip:
    """Publish and subscribe on a host.

    Args:
        host: running while this runs.
        chain_id: part of every topic, so that nodes of different chains never mix.
        heartbeat: seconds between two rounds of mesh upkeep.
    """

    def __init__(self, host: Host, chain_id: bytes, heartbeat: float = 1.0) -> None:
        self._host = host
        self._suffix = chain_id.hex()[:16]
        self._router = _Router(
            protocols=[PROTOCOL],
            degree=6,
            degree_low=4,
            degree_high=8,
            heartbeat_initial_delay=heartbeat / 2,
            heartbeat_interval=heartbeat,
            gossip_window=5,
            gossip_history=10,
            # A node that restarts must be taken back at once; in a small network nobody else would do.
            prune_back_off=2,
            unsubscribe_back_off=2,
            # It takes a network of few nodes for a sick one, and then slows the heartbeat to a minute.
            adaptive_gossip_enabled=False,
            # Its limit of ten messages per second counts a node's own and drops without a word.
            spam_protection_enabled=False,
            # Friends' machines often share one address.
            eclipse_protection_enabled=False,
        )
        self._pubsub = JudgingPubsub(host.raw, self._router, self.blame)
        host.raw.set_stream_handler(PROTOCOL, self._on_stream)
        # Message ids are (origin, counter): a restart must not count over the ids it used before.
        self._pubsub.counter = time.time_ns()
        self._topics: dict[str, tuple[Validate, Deliver]] = {}
        self._nursery: trio.Nursery | None = None
        self._next_send = 0.0
        self.forwarder = ""
        """While a validator runs: the id of the connected peer that passed the message on."""

    def topic(self, name: str) -> str:
        """The full name of a topic on this chain."""
        return f"/p2pml/{name}/1/{self._suffix}"

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Serve the topics until cancelled."""
        async with background_trio_service(self._pubsub), background_trio_service(self._router):
            await self._pubsub.wait_until_ready()
            async with trio.open_nursery() as nursery:
                for name in self._topics:
                    await nursery.start(self._receive, name)
                self._nursery = nursery
                nursery.start_soon(self._look)
                task_status.started()
                try:
                    await trio.sleep_forever()
                finally:
                    self._nursery = None

    def subscribe(self, name: str, validate: Validate, deliver: Deliver) -> None:
        """Receive what others publish on a topic; before or while it runs, once per topic.

        Args:
            name: short name, e.g. `blocks`.
            validate: called with each message, must be quick; what it accepts is passed on and delivered.
            deliver: called with the id of the peer that published (by its checked signature) and the message.
        """
        if name in self._topics:
            raise ValueError(f"the topic {name} has a subscriber already")
        self._topics[name] = (validate, deliver)
        if self._nursery is not None:
            self._nursery.start_soon(self._receive, name)

    async def publish(self, name: str, data: bytes) -> None:
        """Send to every subscriber in the network; not to our own. Waits when called in quick succession.

        Raises:
            ValueError: more than `MAX_MESSAGE` bytes.
        """
        if len(data) > MAX_MESSAGE:
            raise ValueError(f"{len(data)} bytes are too many for gossip")
        now = trio.current_time()
        self._next_send = max(self._next_send, now - _BURST * _INTERVAL_S) + _INTERVAL_S
        await trio.sleep(max(self._next_send - now, 0.0))
        # Shielded: it only queues for the peers, and half a publication would be lost without a trace.
        with trio.CancelScope(shield=True):
            await self._pubsub.publish(self.topic(name), data)

    def peers(self, name: str) -> list[str]:
        """Ids of the connected peers that subscribe to a topic."""
        return [peer.to_base58() for peer in self._pubsub.peer_topics.get(self.topic(name), ())]

    async def _on_stream(self, stream: Any) -> None:
        await self._pubsub.stream_handler(BufferedReads(stream))

    async def _look(self) -> None:
        """Bring in connected peers that libp2p has given up on, e.g. since their gossip began after ours."""
        while True:
            for peer in self._host.connected():
                target = to_raw_peer(peer)
                stream = self._pubsub.peers.get(target)
                if stream is not None and stream.muxed_conn.event_shutting_down.is_set():
                    self._pubsub._handle_dead_peer(target)  # of a connection that has been replaced
                if target not in self._pubsub.peers and self._nursery is not None:
                    self._nursery.start_soon(self._pubsub.ensure_peer_stream, target, _LOOK_S / 2)
            await trio.sleep(_LOOK_S)

    async def _receive(self, name: str, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        topic = self.topic(name)
        self._pubsub.set_topic_validator(topic, self._validator(name), False)
        subscription = await self._pubsub.subscribe(topic)
        task_status.started()
        while True:
            await subscription.get()  # delivered by the validator: this channel holds 32 and drops the next

    def _validator(self, name: str) -> Callable[[Any, Any], bool]:
        validate, deliver = self._topics[name]

        def check(forwarder: Any, message: Any) -> bool:
            peer, origin = forwarder.to_base58(), _origin(message)
            if peer == self._host.peer_id:
                return True
            if origin == self._host.peer_id:
                return False  # our own comes back; one that we forgot in a restart, perhaps
            self.forwarder = peer
            try:
                verdict = validate(bytes(message.data))
            except Exception:
                log.exception("the validator of %s failed", name)
                return False
            if verdict is Verdict.REJECT:
                self.blame(peer, f"passed on an invalid message on {name}")
            if verdict is Verdict.ACCEPT:
                self._deliver(deliver, origin, message, name)
            return verdict is Verdict.ACCEPT

        return check

    def _deliver(self, deliver: Deliver, origin: str, message: Any, name: str) -> None:
        try:
            deliver(origin, bytes(message.data))
        except Exception:
            log.exception("the subscriber of %s failed", name)

    def blame(self, peer: str, what: str) -> None:
        """Count something against a peer that no honest node does."""
        self._host.report(peer, Deed.INVALID, what)


class _Router(GossipSub):  # type: ignore[misc]
    """The library's router, without the signed list of our addresses that it adds to every message.

    Nobody here reads it, and each receiver would check its signature, once for every message and copy.
    """

    def send_rpc(self, peer_id: Any, rpc: Any, priority: bool = False) -> None:
        rpc.ClearField("senderRecord")
        super().send_rpc(peer_id, rpc, priority)

    async def handle_rpc(self, rpc: Any, sender_peer_id: Any) -> None:
        """Take a peer's control messages, those that are about our topics."""
        keep_topics(rpc.control, self.pubsub.topic_ids)
        await super().handle_rpc(rpc, sender_peer_id)


def _origin(message: Any) -> str:
    from libp2p.peer.id import ID

    return str(ID(message.from_id).to_base58())
