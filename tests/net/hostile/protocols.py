"""Attacks in the protocols on streams: messages of hosts, identify, ping."""

# ruff: noqa: ASYNC110  (a test polls what has no event)
from __future__ import annotations

import msgpack  # type: ignore[import-untyped]
import trio
from libp2p.identity.identify.pb.identify_pb2 import Identify
from multiaddr import Multiaddr

from p2pml.net.yamux.frames import FIN
from tests.net.hostile.arena import BROKEN, ECHO, Arena
from tests.net.hostile.attacker import (
    WITHIN_S,
    Attacker,
    data,
    opening,
    prefixed,
    varint,
)
from tests.net.hostile.cases import hostile

IDENTIFY, IDENTIFY_PUSH, PING = "/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0"


async def _message(attacker: Attacker, content: bytes, size: int | None = None) -> None:
    """Something that is no message: the stream is reset, the connection goes on."""
    muxed = await attacker.muxed()
    length = len(content) if size is None else size
    await muxed.open(1, ECHO, length.to_bytes(4, "big") + content)
    await muxed.was_reset(1)
    await muxed.answers()


@hostile()
async def a_message_longer_than_allowed(arena: Arena, attacker: Attacker) -> None:
    await _message(attacker, bytes(100), size=0xFFFFFFFF)


@hostile()
async def a_message_that_is_not_msgpack(arena: Arena, attacker: Attacker) -> None:
    await _message(attacker, b"\xc1" * 500)


@hostile()
async def a_message_nested_without_end(arena: Arena, attacker: Attacker) -> None:
    await _message(attacker, b"\x91" * 50_000 + b"\xc0")


@hostile()
async def a_message_nested_as_deep_as_msgpack_goes(arena: Arena, attacker: Attacker) -> None:
    await _message(attacker, b"\x81\x01" * 2000)


@hostile()
async def a_message_of_four_billion_items(arena: Arena, attacker: Attacker) -> None:
    await _message(attacker, b"\xdd\xff\xff\xff\xff" + b"\xc0" * 100)


@hostile()
async def a_message_of_four_gigabytes_of_text(arena: Arena, attacker: Attacker) -> None:
    await _message(attacker, b"\xdb\xff\xff\xff\xff" + b"x" * 100)


@hostile()
async def two_messages_for_one(arena: Arena, attacker: Attacker) -> None:
    await _message(attacker, msgpack.packb(1) + msgpack.packb(2))


@hostile()
async def a_message_of_types_that_are_not_plain(arena: Arena, attacker: Attacker) -> None:
    await _message(attacker, msgpack.packb(msgpack.ExtType(5, b"x" * 40)))


@hostile()
async def half_a_message_and_gone(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.open(1, ECHO, (5000).to_bytes(4, "big") + bytes(2000))
    await muxed.answers()


@hostile()
async def half_a_message_and_the_end_of_the_stream(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.open(1, ECHO, (5000).to_bytes(4, "big") + bytes(2000))
    await muxed.send(data(1, b"", FIN))
    await muxed.was_reset(1)


@hostile()
async def requests_without_number_on_one_stream(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    request = msgpack.packb("again")
    await muxed.open(1, ECHO, (len(request).to_bytes(4, "big") + request) * 5000)
    await muxed.was_reset(1)


@hostile()
async def requests_that_break_a_handler(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    for stream in range(1, 61, 2):
        await muxed.open(stream, BROKEN)
    await muxed.was_reset(1)
    await muxed.answers()


@hostile()
async def half_a_ping(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    for stream in range(1, 101, 2):
        await muxed.open(stream, PING, bytes(31))
    await muxed.answers()


@hostile()
async def questions_who_it_is_without_number(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    for start in range(1, 1001, 100):
        await muxed.send(*(opening(stream, IDENTIFY) for stream in range(start, start + 100, 2)))
    await muxed.answers()


@hostile()
async def an_identify_push_longer_than_allowed(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.open(1, IDENTIFY_PUSH, varint(1 << 40) + bytes(1000))
    await muxed.was_reset(1)


@hostile()
async def an_identify_push_that_is_not_protobuf(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.open(1, IDENTIFY_PUSH, prefixed(b"\xff" * 100))
    await muxed.was_reset(1)
    await muxed.answers()


def a_large_identify(attacker: Attacker) -> bytes:
    """All that an identify may hold: 250,000 bytes of protocols' names, and hundreds of addresses."""
    address = Multiaddr("/ip4/198.18.0.1/tcp/9").to_bytes()
    said = Identify(
        protocols=[f"/{number:0>48}" for number in range(5000)],
        listen_addrs=[address[:-2] + port.to_bytes(2, "big") for port in range(900)],
        agent_version="x" * 1000,
        public_key=attacker.keys.public_key.serialize(),
    )
    return bytes(said.SerializeToString())


@hostile()
async def an_identify_of_everything_that_fits(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.open(1, IDENTIFY_PUSH)
    await muxed.send_all(1, prefixed(a_large_identify(attacker)))
    await muxed.was_reset(1)


@hostile()
async def an_identify_with_the_key_of_another(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    store = arena.victim.raw.get_peerstore()
    honest = arena.honest.raw.get_id()
    before = list(store.addrs(honest)) if honest in store.peers_with_addrs() else []
    said = Identify(
        public_key=arena.honest.raw.get_public_key().serialize(),
        listen_addrs=[Multiaddr("/ip4/198.18.0.1/tcp/9").to_bytes()],
        observed_addr=b"\xff" * 50,
        signedPeerRecord=b"\x00" * 80,
    )
    await muxed.open(1, IDENTIFY_PUSH, prefixed(said.SerializeToString()))
    await muxed.was_reset(1)
    after = list(store.addrs(honest)) if honest in store.peers_with_addrs() else []
    assert after == before


@hostile()
async def an_answer_to_identify_that_never_ends(arena: Arena, attacker: Attacker) -> None:
    """The victim asks who we are on its stream 2; the answer breaks every limit it can."""
    muxed = await attacker.muxed()
    opened = await muxed.until(lambda header: header.stream % 2 == 0 and header.stream > 0)
    await muxed.send(data(opened.stream, b"\x13/multistream/1.0.0\n" + b"\x0f" + IDENTIFY.encode() + b"\n"))
    await muxed.send(data(opened.stream, varint(1 << 35)))
    await muxed.send_all(opened.stream, bytes(200_000))
    await muxed.answers()


@hostile()
async def many_connections_of_one_peer(arena: Arena, attacker: Attacker) -> None:
    for _ in range(12):
        muxed = await attacker.muxed()
        await muxed.open(1, PING, bytes(32))
    assert arena.victim.is_connected(attacker.peer_id)


@hostile()
async def peers_that_come_tell_much_and_go(arena: Arena, attacker: Attacker) -> None:
    """Each with an identity of its own; nothing of what they said of themselves stays."""
    gone: list[Attacker] = []
    for number in range(20):
        one = Attacker(bytes([number]) * 16 + attacker.id.to_bytes()[-16:], attacker.port)
        gone.append(one)
        muxed = await one.muxed()
        await muxed.open(1, IDENTIFY_PUSH)
        await muxed.send_all(1, prefixed(a_large_identify(one)))
        await muxed.was_reset(1)
        await one.aclose()
    with trio.fail_after(WITHIN_S):
        while any(arena.remembers(one) for one in gone):
            await trio.sleep(0.02)
