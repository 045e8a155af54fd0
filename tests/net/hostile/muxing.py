"""Attacks in the frames of yamux, on a connection that is otherwise in order.

Our own stack ends a connection whose peer breaks the protocol; the library's only has to survive.
"""

# ruff: noqa: ASYNC110  (a test polls what has no event)
from __future__ import annotations

import trio

from p2pml.net.yamux import frames
from p2pml.net.yamux.frames import ACK, DATA, FIN, GO_AWAY, INITIAL_WINDOW, PING, RST, SYN, WINDOW_UPDATE
from tests.net.hostile.arena import ECHO, SINK, Arena
from tests.net.hostile.attacker import (
    MULTISTREAM,
    WITHIN_S,
    Attacker,
    Muxed,
    data,
    line,
    opening,
    varint,
    window,
)
from tests.net.hostile.cases import hostile
from tests.net.hostile.honest import BULK

PING_PROTOCOL = "/ipfs/ping/1.0.0"


STUCK = (
    "its reader waits in a full queue and does not see the peer go; the ping of our keepalive cuts it later"
)


async def _broke_the_protocol(arena: Arena, muxed: Muxed) -> None:
    if arena.strict:
        await muxed.ended()


@hostile()
async def a_frame_of_another_version(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.send(b"\x07" + window(1, 0, SYN)[1:])
    await _broke_the_protocol(arena, muxed)


@hostile()
async def a_frame_of_unknown_type(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.send(frames.encode(9, 0, 1, 0))
    await _broke_the_protocol(arena, muxed)


@hostile()
async def flags_that_nobody_knows(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.open(1, PING_PROTOCOL)
    await muxed.send(window(1, 0, 0xFFF0), frames.encode(PING, 0xFFF0, 0, 5))
    await muxed.answers()


@hostile()
async def bytes_for_a_stream_that_never_was(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.send(data(4001, bytes(1000)))
    await _broke_the_protocol(arena, muxed)


@hostile()
async def bytes_for_stream_zero(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.send(data(0, bytes(1000)))
    await _broke_the_protocol(arena, muxed)


@hostile()
async def every_flag_at_once(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    for stream in range(1, 41, 2):
        await muxed.send(data(stream, b"x", SYN | ACK | FIN | RST))
    await muxed.answers()


@hostile()
async def more_than_the_window(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.open(1, SINK)
    cut = await muxed.flood(lambda number: data(1, bytes(60_000)), 64)
    assert cut or not arena.strict


@hostile()
async def a_window_beyond_all_bounds(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.open(1, SINK)
    await muxed.send(window(1, 0xFFFFFFFF), window(1, 0xFFFFFFFF))
    await _broke_the_protocol(arena, muxed)


@hostile()
async def empty_frames_by_the_thousand(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.open(1, SINK)
    assert not await muxed.flood(
        lambda number: data(1, b"") * 1000, 10
    )  # stock takes a second per two thousand
    await muxed.answers()


@hostile(stock=STUCK)
async def more_streams_than_allowed(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    for start in range(1, 4001, 200):
        await muxed.send(*(window(stream, 0, SYN) for stream in range(start, start + 200, 2)))
    held = arena.victim.raw.get_network().get_connections(attacker.id)
    assert sum(len(conn.get_streams()) for conn in held) <= 300


@hostile(stock=STUCK)
async def streams_opened_and_reset_by_the_thousand(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    for start in range(1, 6001, 200):
        ids = range(start, start + 200, 2)
        await muxed.send(*(window(stream, 0, SYN) + window(stream, 0, RST) for stream in ids))


@hostile()
async def a_stream_of_the_victims_numbers(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.send(window(1002, 0, SYN))
    await _broke_the_protocol(arena, muxed)


@hostile()
async def a_stream_opened_twice(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.send(opening(1, PING_PROTOCOL), opening(1, PING_PROTOCOL))
    await _broke_the_protocol(arena, muxed)


@hostile(stock=STUCK)
async def pings_whose_answers_it_never_takes(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    flood = frames.encode(PING, SYN, 0, 1) * 5000
    cut = await muxed.flood(lambda number: flood, 200)
    assert cut or not arena.strict


@hostile()
async def answers_that_nobody_asked_for(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.send(*(frames.encode(PING, ACK, 0, number) for number in range(2000)))
    await muxed.send(*(window(stream, 0, ACK) for stream in range(2, 2000, 2)))
    await muxed.answers()


@hostile()
async def data_behind_a_go_away(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.send(frames.encode(GO_AWAY, 0, 0, 0), opening(1, PING_PROTOCOL), data(1, bytes(32)))


@hostile()
async def go_away_of_unknown_code_again_and_again(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.flood(lambda number: frames.encode(GO_AWAY, 0xFF, 9, 0xFFFFFFFF) * 100, 20)


@hostile()
async def a_huge_length_and_silence(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.open(1, SINK)
    await muxed.send(frames.encode(DATA, 0, 1, 0xFFFFFFFF))
    await _broke_the_protocol(arena, muxed)


@hostile()
async def a_length_within_the_window_and_silence(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.open(1, SINK)
    await muxed.send(frames.encode(DATA, 0, 1, INITIAL_WINDOW // 2) + bytes(100))


@hostile()
async def half_a_header_and_gone(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.open(1, SINK)
    await muxed.send(data(1, bytes(100))[:5])
    await muxed.link.aclose()


@hostile()
async def half_a_frame_and_gone(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.open(1, SINK)
    await muxed.send(data(1, bytes(10_000))[:5000])
    await muxed.link.aclose()


@hostile()
async def bytes_behind_the_end_of_a_stream(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.open(1, SINK)
    await muxed.send(data(1, b"last", FIN), data(1, b"more"))
    await _broke_the_protocol(arena, muxed)


@hostile(stock=STUCK)
async def a_reader_that_never_reads(arena: Arena, attacker: Attacker) -> None:
    """It asks for 200 kB on each of a hundred streams and takes nothing of it."""
    muxed = await attacker.muxed()
    body = bytes(50_000)
    for stream in range(1, 201, 2):
        await muxed.open(stream, BULK, (4 * len(body)).to_bytes(4, "big"))
        for _ in range(4):
            await muxed.send(data(stream, body))
    connection = arena.muxer(attacker).connection
    with trio.fail_after(WITHIN_S):
        while connection._queued < connection.limits.connection_outbox // 2:
            await trio.sleep(0.02)


@hostile()
async def a_writer_of_one_byte_at_a_time(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.open(1, SINK)
    for _ in range(300):
        await muxed.send(data(1, b"x"))
    await muxed.answers()


@hostile()
async def frames_in_pieces_of_one_byte(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    for byte in opening(1, PING_PROTOCOL, bytes(range(32))):
        await muxed.send(bytes([byte]))
    await muxed.until(lambda header: header.stream == 1 and muxed.received.get(1, b"").endswith(b""))
    await muxed.answers()


@hostile(waits=True)
async def streams_that_never_say_what_they_are(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.send(*(window(stream, 0, SYN) for stream in range(1, 201, 2)))
    await muxed.was_reset(1)


@hostile(waits=True)
async def a_stream_that_says_half_of_what_it_is(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.send(data(1, line(MULTISTREAM) + line(ECHO)[:5], SYN))
    await muxed.was_reset(1)


@hostile()
async def a_line_without_end_on_a_stream(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.send(data(1, varint(1 << 30) + bytes(5000), SYN))
    await muxed.was_reset(1)
    await muxed.answers()


@hostile()
async def streams_of_unknown_protocols(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    for stream in range(1, 101, 2):
        await muxed.send(opening(stream, f"/unknown/{stream}"), data(stream, b"", FIN))
    await muxed.answers()


@hostile()
async def a_flood_of_window_updates(arena: Arena, attacker: Attacker) -> None:
    muxed = await attacker.muxed()
    await muxed.open(1, SINK)
    more = frames.encode(WINDOW_UPDATE, 0, 1, 1) * 4000
    assert not await muxed.flood(lambda number: more, 8 if arena.strict else 2)  # the library's are slow
    await muxed.answers()
