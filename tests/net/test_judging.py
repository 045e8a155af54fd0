"""How many messages of one peer wait to be judged."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub

from p2pml.net import judging
from p2pml.net.gossip import PROTOCOL
from p2pml.net.judging import PENDING, JudgingPubsub
from p2pml.net.raw_host import new_raw_host


async def test_no_more_than_its_share_of_one_peers_messages_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[int] = []
    gate = trio.Event()

    async def judge(peer: Any, msg: Any) -> None:
        await gate.wait()
        judged.append(msg)

    pubsub = JudgingPubsub(
        new_raw_host(b"\x0a" * 32), GossipSub([PROTOCOL], 6, 4, 8), lambda peer, what: None
    )
    monkeypatch.setattr(judging, "alive", lambda conns: True)
    monkeypatch.setattr(pubsub, "_judge", judge)
    peer = ID.from_pubkey(create_new_key_pair(b"\x0b" * 32).public_key)
    async with trio.open_nursery() as nursery:
        for number in range(3 * PENDING):
            nursery.start_soon(pubsub.push_msg, peer, number)
        await trio.testing.wait_all_tasks_blocked()
        gate.set()
    assert len(judged) == PENDING
    assert not pubsub._pending
    assert not pubsub._turns
