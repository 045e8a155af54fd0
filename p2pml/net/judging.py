"""What of a peer's gossip reaches the library: its pubsub service trusts its peers in more than it should.

In libp2p 0.8.1 each message of an RPC becomes a task of the service at once, at a cost that grows with the
square of their number; all their signatures are checked in a single turn of the loop; a key that does not
parse ends the service; and control messages fill tables under whatever topics their sender invents.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

import trio
from libp2p.pubsub.pubsub import Pubsub

from p2pml.net.raw_host import alive

log = logging.getLogger(__name__)

PENDING = 64
"""Messages that one turn of the loop may bring, and that may wait of one peer; more are dropped, as gossip
may lose any."""

SUBSCRIPTIONS = 64
"""Changes of subscriptions in one RPC, and topics of one peer; each costs the service three tasks."""


class JudgingPubsub(Pubsub):  # type: ignore[misc]
    """The library's service, which judges a peer's messages one by one.

    Args:
        host: libp2p's.
        router: of the service.
        blame: called with a peer's id and what it did that no honest node does.
    """

    def __init__(self, host: Any, router: Any, blame: Callable[[str, str], None]) -> None:
        most = SUBSCRIPTIONS
        super().__init__(host, router, max_subscriptions_per_rpc=most, max_subscriptions_per_peer=most)
        self._blame = blame
        self._not_begun = 0
        self._pending: Counter[Any] = Counter()
        self._turns: dict[Any, trio.Lock] = {}
        self._signed: set[Any] = set()  # peers whose present message has a good signature

    async def push_msg(self, msg_forwarder: Any, msg: Any) -> None:
        """Judge a message and pass it on; our own at once, a peer's in its turn."""
        if msg_forwarder == self.my_id:
            await super().push_msg(msg_forwarder, msg)
            return
        self._not_begun -= 1
        if self._pending[msg_forwarder] >= PENDING:
            return
        self._pending[msg_forwarder] += 1
        try:
            async with self._turns.setdefault(msg_forwarder, trio.Lock()):
                # Or it was cut meanwhile, for what it sent before.
                if alive(self.host.get_network().get_connections(msg_forwarder)):
                    await self._judge(msg_forwarder, msg)
        finally:
            self._pending[msg_forwarder] -= 1
            if not self._pending[msg_forwarder]:
                del self._pending[msg_forwarder], self._turns[msg_forwarder]

    def _is_subscribed_to_msg(self, msg: Any) -> bool:
        """Whether to make a task of `push_msg` for it: the service asks this first."""
        if self._not_begun >= PENDING or not super()._is_subscribed_to_msg(msg):
            return False
        self._not_begun += 1
        return True

    async def validate_msg(self, msg_forwarder: Any, msg: Any) -> None:
        """Ask the topic's validator; the signature was good."""
        self._signed.add(msg_forwarder)
        await super().validate_msg(msg_forwarder, msg)

    async def _judge(self, peer: Any, msg: Any) -> None:
        if len(msg.topicIDs) != 1:
            self._blame(peer.to_base58(), f"sent a message of {len(msg.topicIDs)} topics")
            return
        known = self._is_msg_seen(msg)
        try:
            await super().push_msg(peer, msg)
        except Exception as error:
            if peer in self._signed:
                raise  # a mistake of this side
            log.debug("the key of a message from %s: %s %s", peer, type(error).__name__, error)
        if not known and peer not in self._signed:
            self._blame(peer.to_base58(), "sent a message with a wrong signature")
        self._signed.discard(peer)


def keep_topics(control: Any, topics: Collection[str]) -> None:
    """Drop from a control message all that is about topics which we do not subscribe to."""
    for entries in (control.ihave, control.graft, control.prune):
        kept = [entry for entry in entries if entry.topicID in topics]
        if len(kept) < len(entries):
            del entries[:]
            entries.extend(kept)
