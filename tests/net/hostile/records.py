"""Attacks on a connection that is secured: in its records, and in the negotiation of the muxer."""

from __future__ import annotations

import trio

from tests.net.hostile.arena import Arena
from tests.net.hostile.attacker import MULTISTREAM, NOT_AVAILABLE, YAMUX, Attacker, line, varint
from tests.net.hostile.cases import hostile
from tests.net.hostile.handshakes import ENDLESS, drip

ASKS = line(MULTISTREAM) + line(YAMUX)


@hostile(waits=True)
async def silent_once_secured(arena: Arena, attacker: Attacker) -> None:
    secured = await attacker.secured()
    await secured.link.ended()


@hostile()
async def half_a_record_and_gone(arena: Arena, attacker: Attacker) -> None:
    secured = await attacker.secured()
    await secured.link.send(secured.seal(ASKS)[:20])
    await secured.link.aclose()


@hostile()
async def half_a_record_and_gone_with_streams_open(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.open(1, "/ipfs/ping/1.0.0")
    await muxed.link.send(muxed.secured.seal(bytes(5000))[:3000])
    await muxed.link.aclose()


@hostile()
async def a_flipped_tag(arena: Arena, attacker: Attacker) -> None:
    secured = await attacker.secured()
    record = secured.seal(ASKS)
    await secured.link.send(record[:-1] + bytes([record[-1] ^ 1]))
    await secured.link.ended()


@hostile()
async def a_flipped_tag_with_streams_open(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.answers()
    record = muxed.secured.seal(bytes(12))
    await muxed.link.send(record[:-1] + bytes([record[-1] ^ 1]))
    await muxed.ended()


@hostile()
async def a_record_sent_twice(arena: Arena, attacker: Attacker) -> None:
    secured = await attacker.secured()
    await secured.link.send(secured.seal(line(MULTISTREAM)) * 2)
    await secured.link.ended()


@hostile()
async def a_record_shorter_than_its_tag(arena: Arena, attacker: Attacker) -> None:
    secured = await attacker.secured()
    await secured.link.send(b"\x00\x05hello")
    await secured.link.ended()


@hostile(waits=True)
async def a_long_record_that_never_comes(arena: Arena, attacker: Attacker) -> None:
    secured = await attacker.secured()
    await secured.link.send(b"\xff\xff" + bytes(1000))
    await secured.link.ended()


@hostile(waits=True)
async def a_record_one_byte_at_a_time(arena: Arena, attacker: Attacker) -> None:
    secured = await attacker.secured()
    record = secured.seal(line(MULTISTREAM) + bytes(2000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip, secured.link, record)
        await secured.link.ended()
        nursery.cancel_scope.cancel()


@hostile(waits=True)
async def empty_records_for_ever(arena: Arena, attacker: Attacker) -> None:
    secured = await attacker.secured()
    assert await secured.link.flood(lambda number: secured.seal(b""), 10**6)


@hostile()
async def an_unknown_muxer(arena: Arena, attacker: Attacker) -> None:
    secured = await attacker.secured()
    await secured.send(line(MULTISTREAM) + line("/mplex/6.7.0"))
    assert await secured.read_line() == MULTISTREAM
    assert await secured.read_line() == NOT_AVAILABLE


@hostile()
async def a_line_without_end_once_secured(arena: Arena, attacker: Attacker) -> None:
    secured = await attacker.secured()
    await secured.send(varint(1 << 30))
    assert await secured.link.flood(lambda number: secured.seal(bytes(60_000)), ENDLESS << 4)


@hostile()
async def random_bytes_for_the_muxer(arena: Arena, attacker: Attacker) -> None:
    secured = await attacker.secured()
    await secured.send(b"\x10" + b"x" * 16)
    await secured.link.ended()
