"""Attacks in gossip: floods and nonsense in the messages of GossipSub."""

# ruff: noqa: ASYNC110  (a test polls what has no event)
from __future__ import annotations

from contextlib import suppress

import trio
from libp2p.pubsub.pb.rpc_pb2 import (
    RPC,
    ControlGraft,
    ControlIDontWant,
    ControlIHave,
    ControlIWant,
    ControlMessage,
    ControlPrune,
    Message,
    PeerInfo,
)

from p2pml.net.gossip import PROTOCOL
from tests.net.hostile.arena import TOPIC, Arena
from tests.net.hostile.attacker import WITHIN_S, Attacker, Muxed, data, prefixed, varint
from tests.net.hostile.cases import hostile


async def _gossiping(attacker: Attacker, content: bytes = b"") -> Muxed:
    muxed = await attacker.muxed()
    await muxed.open(1, PROTOCOL, content)
    return muxed


async def _say(arena: Arena, attacker: Attacker, *said: RPC) -> None:
    """Send these as a subscriber of the victim's topic; returns when the victim took them, or cut us."""
    hello = RPC(subscriptions=[RPC.SubOpts(subscribe=True, topicid=arena.gossip.topic(TOPIC))])
    muxed = await _gossiping(attacker, prefixed(hello.SerializeToString()))
    done = f"/done/{attacker.peer_id}"
    last = RPC(subscriptions=[RPC.SubOpts(subscribe=True, topicid=done)])
    with trio.fail_after(WITHIN_S):
        while not arena.victim.is_connected(attacker.peer_id):
            await trio.sleep(0.01)
    with suppress(trio.BrokenResourceError, EOFError):
        for rpc in (*said, last):
            await muxed.send_all(1, prefixed(rpc.SerializeToString()))
    with trio.fail_after(WITHIN_S):
        while arena.victim.is_connected(attacker.peer_id) and done not in arena.gossip._pubsub.peer_topics:
            await trio.sleep(0.01)


@hostile()
async def gossip_longer_than_allowed(arena: Arena, attacker: Attacker) -> None:
    muxed = await _gossiping(attacker, varint(1 << 40))
    await muxed.was_reset(1)
    await muxed.answers()


@hostile()
async def gossip_that_is_not_protobuf(arena: Arena, attacker: Attacker) -> None:
    muxed = await _gossiping(attacker, prefixed(b"\xff" * 1000))
    await muxed.was_reset(1)
    await muxed.answers()


@hostile()
async def gossip_that_never_comes(arena: Arena, attacker: Attacker) -> None:
    muxed = await _gossiping(attacker, varint(1 << 19) + bytes(100))
    await muxed.answers()


@hostile()
async def many_streams_of_gossip(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    for stream in range(1, 41, 2):
        await muxed.open(stream, PROTOCOL, prefixed(RPC().SerializeToString()))
    await muxed.answers()


@hostile()
async def subscriptions_to_a_million_topics(arena: Arena, attacker: Attacker) -> None:
    flood = [
        RPC(subscriptions=[RPC.SubOpts(subscribe=True, topicid=f"/t/{n}/{m}") for m in range(100)])
        for n in range(60)
    ]
    too_many = RPC(subscriptions=[RPC.SubOpts(subscribe=True, topicid=f"/u/{m}") for m in range(20_000)])
    await _say(arena, attacker, too_many, *flood)
    topics = arena.gossip._pubsub.peer_topics
    assert sum(attacker.id in peers for peers in topics.values()) <= 110


@hostile()
async def subscriptions_taken_back_again_and_again(arena: Arena, attacker: Attacker) -> None:
    topic = arena.gossip.topic(TOPIC)
    changes = [RPC.SubOpts(subscribe=n % 2 == 0, topicid=topic) for n in range(5000)]
    before = arena.gossip._pubsub.manager.stats.tasks.total_count
    await _say(arena, attacker, *[RPC(subscriptions=changes)] * 2, *[RPC(subscriptions=changes[:60])] * 20)
    assert arena.gossip._pubsub.manager.stats.tasks.total_count - before < 2500


def _control(**parts: object) -> RPC:
    return RPC(control=ControlMessage(**parts))  # type: ignore[arg-type]


@hostile()
async def offers_of_messages_that_do_not_exist(arena: Arena, attacker: Attacker) -> None:
    topic = arena.gossip.topic(TOPIC)
    ids = [number.to_bytes(20, "big") for number in range(5000)]
    flood = _control(ihave=[ControlIHave(topicID=topic, messageIDs=ids)])
    nonsense = _control(
        ihave=[ControlIHave(topicID=f"/t/{n}", messageIDs=[b"zz", b"\xff"]) for n in range(2000)]
    )
    await _say(arena, attacker, *[flood] * 5, nonsense)
    assert len(arena.gossip._router.ihave_message_limits.get(attacker.id, ())) <= 10


@hostile()
async def requests_for_messages_that_do_not_exist(arena: Arena, attacker: Attacker) -> None:
    ids = [number.to_bytes(20, "big") for number in range(5000)]
    await _say(arena, attacker, *[_control(iwant=[ControlIWant(messageIDs=ids)])] * 5)


@hostile()
async def grafts_without_number(arena: Arena, attacker: Attacker) -> None:
    topic = arena.gossip.topic(TOPIC)
    grafts = [ControlGraft(topicID=topic)] * 2000 + [ControlGraft(topicID=f"/t/{n}") for n in range(2000)]
    prunes = [ControlPrune(topicID=topic, backoff=0)] * 2000
    await _say(arena, attacker, _control(graft=grafts), _control(prune=prunes), _control(graft=grafts))
    assert len(arena.gossip._router.graft_flood_tracking.get(attacker.id, ())) <= 10


@hostile()
async def prunes_of_a_million_topics(arena: Arena, attacker: Attacker) -> None:
    far = (1 << 64) - 1
    flood = [
        _control(prune=[ControlPrune(topicID=f"/t/{n}/{m}", backoff=far) for m in range(5000)])
        for n in range(4)
    ]
    await _say(arena, attacker, *flood)
    assert len(arena.gossip._router.back_off) <= 10


@hostile()
async def prunes_that_name_peers(arena: Arena, attacker: Attacker) -> None:
    topic = arena.gossip.topic(TOPIC)
    peers = [
        PeerInfo(peerID=b"\x00\x24" + bytes(36), signedPeerRecord=b"\xff" * 50),
        PeerInfo(peerID=b"", signedPeerRecord=b""),
        PeerInfo(peerID=b"\xff" * 500),
    ]
    await _say(arena, attacker, _control(prune=[ControlPrune(topicID=topic, peers=peers * 50)]))


@hostile()
async def lists_of_what_it_does_not_want(arena: Arena, attacker: Attacker) -> None:
    floods = [
        _control(
            idontwant=[
                ControlIDontWant(messageIDs=[(n * 20_000 + m).to_bytes(20, "big") for m in range(20_000)])
            ]
        )
        for n in range(4)
    ]
    await _say(arena, attacker, *floods)
    assert len(arena.gossip._router.dont_send_message_ids.get(attacker.id, ())) <= 20_000


@hostile()
async def messages_that_are_wrong_in_every_way(arena: Arena, attacker: Attacker) -> None:
    """Each is judged in a task of the pubsub service: an error in one would end the service."""
    topic = arena.gossip.topic(TOPIC)
    whole = {
        "from_id": attacker.id.to_bytes(),
        "seqno": b"12345678",
        "data": b"hello",
        "signature": bytes(64),
        "key": attacker.keys.public_key.serialize(),
        "topicIDs": [topic],
    }
    wrong: list[dict[str, object]] = [{}]
    for field in ("from_id", "seqno", "data", "signature", "key"):
        wrong += [{field: value} for value in (b"", b"\x00", b"\xff" * 40, b"\x08\x01\x12\x20" + bytes(32))]
    wrong += [{"topicIDs": [topic] * 1000}, {"topicIDs": [topic, "", "/t/" * 100]}]
    wrong += [{"from_id": arena.victim.raw.get_id().to_bytes()}]
    messages = [Message(**(whole | one)) for one in wrong]  # type: ignore[arg-type]
    await _say(arena, attacker, RPC(publish=messages), *(RPC(publish=[message]) for message in messages))


@hostile()
async def a_message_whose_key_cannot_be_read(arena: Arena, attacker: Attacker) -> None:
    """The library raises that out of the task that judges the message."""
    message = Message(
        from_id=b"\x12\x20" + bytes(32),
        seqno=bytes(8),
        signature=bytes(64),
        key=b"\xff" * 40,
        topicIDs=[arena.gossip.topic(TOPIC)],
    )
    await _say(arena, attacker, RPC(publish=[message]))


@hostile()
async def thousands_of_messages_at_once(arena: Arena, attacker: Attacker) -> None:
    topic = arena.gossip.topic(TOPIC)
    messages = [
        Message(
            from_id=attacker.id.to_bytes(),
            seqno=number.to_bytes(8, "big"),
            signature=b"x" * 64,
            topicIDs=[topic],
        )
        for number in range(5000)
    ]
    before = arena.gossip._pubsub.manager.stats.tasks.total_count
    await _say(arena, attacker, RPC(publish=messages))
    assert arena.gossip._pubsub.manager.stats.tasks.total_count - before < 500
    with trio.fail_after(WITHIN_S):  # no honest peer sends even one of these: it is disconnected
        while arena.victim.is_connected(attacker.peer_id):
            await trio.sleep(0.01)


@hostile()
async def gossip_with_a_forged_record_of_its_sender(arena: Arena, attacker: Attacker) -> None:
    await _say(arena, attacker, RPC(senderRecord=b"\xff" * 200), RPC(senderRecord=b""))


@hostile()
async def gossip_in_frames_of_one_byte(arena: Arena, attacker: Attacker) -> None:
    muxed = await _gossiping(attacker)
    rpc = RPC(subscriptions=[RPC.SubOpts(subscribe=True, topicid=arena.gossip.topic(TOPIC))])
    for byte in prefixed(rpc.SerializeToString()):
        await muxed.send(data(1, bytes([byte])))
    await muxed.answers()
