"""Attacks before a connection is secured: on TCP, in multistream, in the noise handshake."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.security.noise.messages import NoiseHandshakePayload

from tests.net.hostile.arena import Arena
from tests.net.hostile.attacker import (
    MULTISTREAM,
    NOISE,
    NOT_AVAILABLE,
    Attacker,
    Handshake,
    Link,
    line,
    sized,
    varint,
)
from tests.net.hostile.cases import hostile

ENDLESS = 48
"""MiB that are sent of a line without end."""


async def drip(link: Link, data: bytes) -> None:
    """A byte every tenth of a second, until the victim ends the connection."""
    with suppress(trio.BrokenResourceError):
        for number in range(len(data)):
            await link.send(data[number : number + 1])
            await trio.sleep(0.1)


@hostile(waits=True)
async def says_nothing(arena: Arena, attacker: Attacker) -> None:
    link = await attacker.dial()
    await link.ended()


@hostile(waits=True)
async def half_a_line_and_silence(arena: Arena, attacker: Attacker) -> None:
    link = await attacker.dial()
    await link.send(line(MULTISTREAM)[:7])
    await link.ended()


@hostile()
async def half_a_line_and_gone(arena: Arena, attacker: Attacker) -> None:
    link = await attacker.dial()
    await link.send(line(MULTISTREAM)[:7])
    await link.aclose()


@hostile()
async def random_bytes_for_multistream(arena: Arena, attacker: Attacker) -> None:
    for seed in range(20):
        link = await attacker.dial()
        await link.send(b"\x20" + bytes([seed]) * 31 + b"\n")
        await link.ended()


@hostile()
async def another_version_of_multistream(arena: Arena, attacker: Attacker) -> None:
    link = await attacker.dial()
    await link.send(line("/multistream/9.0.0"))
    await link.ended()


@hostile()
async def a_line_that_is_not_text(arena: Arena, attacker: Attacker) -> None:
    link = await attacker.dial()
    await link.send(line(MULTISTREAM) + b"\x03\xff\xfe\n")
    await link.ended()


@hostile()
async def a_length_that_never_ends(arena: Arena, attacker: Attacker) -> None:
    link = await attacker.dial()
    await link.send(b"\xff" * 64)
    await link.ended()


@hostile()
async def a_line_without_end(arena: Arena, attacker: Attacker) -> None:
    link = await attacker.dial()
    await link.send(varint(1 << 30))
    assert await link.flood(lambda number: bytes(1 << 20), ENDLESS)


@hostile()
async def a_line_longer_than_memory(arena: Arena, attacker: Attacker) -> None:
    link = await attacker.dial()
    await link.send(line(MULTISTREAM) + varint(1 << 62) + bytes(1000))
    await link.ended()


@hostile(waits=True)
async def one_byte_at_a_time_in_multistream(arena: Arena, attacker: Attacker) -> None:
    link = await attacker.dial()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip, link, line(MULTISTREAM) + line("/unknown") * 100)
        await link.ended()
        nursery.cancel_scope.cancel()


@hostile(waits=True)
async def asks_for_protocols_for_ever(arena: Arena, attacker: Attacker) -> None:
    link = await attacker.dial()
    await link.send(line(MULTISTREAM))
    assert await link.flood(lambda number: line(f"/unknown/{number}") * 100, 10**6)


@hostile()
async def asks_for_plaintext(arena: Arena, attacker: Attacker) -> None:
    link = await attacker.dial()
    assert await link.select("/plaintext/2.0.0") == NOT_AVAILABLE


@hostile()
async def asks_for_other_security(arena: Arena, attacker: Attacker) -> None:
    link = await attacker.dial()
    assert await link.select("/tls/1.0.0") == NOT_AVAILABLE


@hostile(waits=True)
async def agrees_on_noise_and_is_silent(arena: Arena, attacker: Attacker) -> None:
    link = await attacker.dial()
    assert await link.select(NOISE) == NOISE
    await link.ended()


@hostile(waits=True)
async def a_long_first_message_that_never_comes(arena: Arena, attacker: Attacker) -> None:
    link = await attacker.dial()
    assert await link.select(NOISE) == NOISE
    await link.send(b"\xff\xff" + bytes(100))
    await link.ended()


@hostile()
async def a_short_first_message(arena: Arena, attacker: Attacker) -> None:
    link = await attacker.dial()
    assert await link.select(NOISE) == NOISE
    await link.send(sized(b"short"))
    await link.ended()


@hostile()
async def a_first_message_of_nothing(arena: Arena, attacker: Attacker) -> None:
    link = await attacker.dial()
    assert await link.select(NOISE) == NOISE
    await link.send(sized(b""))
    await link.ended()


@hostile()
async def a_key_of_low_order(arena: Arena, attacker: Attacker) -> None:
    link = await attacker.dial()
    assert await link.select(NOISE) == NOISE
    await link.send(sized(bytes(32)))
    await link.ended()


@hostile(waits=True)
async def silent_after_the_first_message(arena: Arena, attacker: Attacker) -> None:
    link = await attacker.dial()
    assert await link.select(NOISE) == NOISE
    await link.send(sized(os.urandom(32)))
    await link.ended()


async def _refused(arena: Arena, attacker: Attacker, said: Handshake) -> None:
    secured = await attacker.secured(said)
    await secured.link.ended()
    assert attacker.peer_id not in arena.victim.connected()


@hostile()
async def random_bytes_for_the_third_message(arena: Arena, attacker: Attacker) -> None:
    await _refused(arena, attacker, Handshake(lambda n, data: b"\x55" * 120 if n == 3 else data))


@hostile()
async def a_flipped_bit_in_the_third_message(arena: Arena, attacker: Attacker) -> None:
    def flip(number: int, data: bytes) -> bytes:
        return data if number == 1 else data[:-1] + bytes([data[-1] ^ 1])

    await _refused(arena, attacker, Handshake(flip))


@hostile()
async def no_payload_in_the_handshake(arena: Arena, attacker: Attacker) -> None:
    await _refused(arena, attacker, Handshake(payload=lambda data: b""))


@hostile()
async def a_payload_that_is_not_protobuf(arena: Arena, attacker: Attacker) -> None:
    await _refused(arena, attacker, Handshake(payload=lambda data: b"\xff" * 90))


@hostile()
async def a_signature_of_something_else(arena: Arena, attacker: Attacker) -> None:
    def forged(data: bytes) -> bytes:
        honest = NoiseHandshakePayload.deserialize(data)
        return replace(honest, id_sig=attacker.keys.private_key.sign(b"something else")).serialize()

    await _refused(arena, attacker, Handshake(payload=forged))


@hostile()
async def the_identity_of_an_honest_peer(arena: Arena, attacker: Attacker) -> None:
    """It knows the public key of a peer that is connected, and signs with its own."""
    honest_keys = create_new_key_pair(b"\x72" * 32)

    def forged(data: bytes) -> bytes:
        return replace(NoiseHandshakePayload.deserialize(data), id_pubkey=honest_keys.public_key).serialize()

    secured = await attacker.secured(Handshake(payload=forged))
    await secured.link.ended()
    conns = arena.victim.raw.get_network().get_connections()
    assert len([conn for conn in conns if conn.muxed_conn.peer_id != attacker.id]) == 2


@hostile()
async def a_storm_of_connections(arena: Arena, attacker: Attacker) -> None:
    async def hit(said: bytes) -> None:
        link = await attacker.dial()
        await link.send(said)
        await link.aclose()

    for _ in range(10):
        async with trio.open_nursery() as nursery:
            for said in (b"", b"\x13", line(MULTISTREAM), line(MULTISTREAM) + line(NOISE)):
                for _ in range(5):
                    nursery.start_soon(hit, said)
