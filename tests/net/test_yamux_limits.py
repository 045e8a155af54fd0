"""The yamux state machine without IO: windows, limits, memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pml.net.errors import Closed, Malformed
from p2pml.net.yamux import frames
from p2pml.net.yamux.connection import CHUNK_BYTES, TooManyStreams
from p2pml.net.yamux.frames import ACK, DATA, INITIAL_WINDOW, PING, RST, SYN, WINDOW_UPDATE
from p2pml.net.yamux.frames import encode as frame
from p2pml.net.yamux.limits import Budget
from p2pml.net.yamux.stream import StreamState
from tests.net.yamux_pair import SMALL, a_side, carry, exchange, headers, opened_pair, output


def test_the_window_grows_while_the_reader_keeps_up_and_is_given_back() -> None:
    budget = Budget()
    a, b = a_side(True), a_side(budget=budget)
    ours = a.open()
    exchange(a, b)
    theirs = b.arrived.popleft()
    carry(a, ours, b, theirs, bytes(12 << 20))
    assert theirs.granted == SMALL.max_window - INITIAL_WINDOW == budget.granted
    a.reset(ours)
    exchange(a, b)
    assert budget.granted == 0


def test_windows_grow_no_further_than_half_of_what_all_connections_may_hold() -> None:
    budget = Budget(total=3 * INITIAL_WINDOW)
    a, b = a_side(True), a_side(budget=budget)
    for _ in range(2):
        ours = a.open()
        exchange(a, b)
        carry(a, ours, b, b.arrived.popleft(), bytes(4 << 20))
    assert budget.granted == INITIAL_WINDOW


def test_what_waits_for_the_socket_is_bounded_by_stream_and_by_connection() -> None:
    a = a_side(True, replace(SMALL, stream_outbox=100_000, connection_outbox=250_000))
    streams = [a.open() for _ in range(4)]
    accepted = [stream.send(memoryview(bytes(1 << 20))) for stream in streams]
    assert accepted == [100_000, 100_000, 50_000, 0]
    woken: list[StreamState] = []
    for stream in streams:
        stream.changed = lambda stream=stream: woken.append(stream)  # type: ignore[misc]
    assert streams[0].send(memoryview(b"x")) == 0
    output(a)
    assert set(woken) == {streams[0], streams[3]}
    assert streams[0].send(memoryview(bytes(1 << 20))) == 100_000


def test_what_comes_for_a_closed_stream_is_not_kept() -> None:
    budget = Budget()
    a, b = a_side(True), a_side(budget=budget)
    ours = a.open()
    exchange(a, b)
    theirs = b.arrived.popleft()
    b.close(theirs)
    ours.send(memoryview(bytes(1000)))
    exchange(a, b)
    assert theirs.id in b.streams  # until the peer ends it
    assert b.unread == budget.used == 0


def test_readers_that_kept_up_and_then_all_pause_lose_no_stream() -> None:
    a, b = a_side(True), a_side(limits=replace(SMALL, connection_unread=3 << 20))
    pairs = []
    for _ in range(4):
        ours = a.open()
        exchange(a, b)
        pairs.append((ours, b.arrived.popleft()))
    for ours, theirs in pairs:
        carry(a, ours, b, theirs, bytes(12 << 20))
    for ours, _ in pairs:
        while ours.send(memoryview(bytes(1 << 20))):
            exchange(a, b)
    assert b.unread > 2 << 20
    assert [theirs.ended for _, theirs in pairs] == [None] * 4


def test_a_writer_is_held_to_the_window_it_was_granted() -> None:
    a, ours, b, theirs = opened_pair()
    sent = 0
    while count := ours.send(memoryview(bytes(1 << 20))):
        sent += count
        exchange(a, b)
    assert sent == INITIAL_WINDOW == theirs.inbox.size
    woken: list[int] = []
    ours.changed = lambda: woken.append(1)
    assert len(theirs.take(INITIAL_WINDOW // 2)) == INITIAL_WINDOW // 2
    exchange(a, b)
    assert woken
    assert ours.send(memoryview(bytes(1 << 20))) == INITIAL_WINDOW // 2


def test_an_overrun_window_is_refused() -> None:
    side = a_side()
    side.receive(frame(WINDOW_UPDATE, SYN, 1, 0), 0.0)
    body = bytes(INITIAL_WINDOW)
    side.receive(frame(DATA, 0, 1, len(body)) + body, 0.0)
    with pytest.raises(Malformed, match="overran its window by 1 bytes"):
        side.receive(frame(DATA, 0, 1, 1), 0.0)


def test_bytes_for_a_closed_stream_are_dropped_as_far_as_its_window_went() -> None:
    side = a_side()
    side.receive(frame(WINDOW_UPDATE, SYN, 1, 0), 0.0)
    side.reset(side.arrived.popleft())
    side.receive(frame(DATA, 0, 1, INITIAL_WINDOW) + bytes(INITIAL_WINDOW), 0.0)
    assert side.unread == 0
    with pytest.raises(Malformed, match="not open"):
        side.receive(frame(DATA, 0, 1, 1), 0.0)


def test_a_flood_of_streams_is_refused_one_by_one_and_then_ends_the_connection() -> None:
    side = a_side(limits=replace(SMALL, answers=20))
    for number in range(1, 21, 2):
        side.receive(frame(WINDOW_UPDATE, SYN, number, 0), 0.0)
    flags = [header.flags for header in headers(output(side))]
    assert flags == [ACK] * 4 + [RST] * 6
    assert len(side.streams) == 4
    with pytest.raises(Malformed, match="faster than it takes"):
        side.receive(b"".join(frame(WINDOW_UPDATE, SYN, number, 0) for number in range(101, 201, 2)), 0.0)


def test_our_own_limit_of_streams_is_a_clear_error_and_lingering_ones_make_room() -> None:
    a = a_side(True)
    streams = [a.open() for _ in range(4)]
    with pytest.raises(TooManyStreams, match="4 streams are open on this connection, the most allowed"):
        a.open()
    streams[1].send(memoryview(b"last words"))
    a.close(streams[1])
    with pytest.raises(TooManyStreams):
        a.open()  # what it wrote is not sent yet
    output(a)
    a.open()
    assert streams[1].ended is not None


def test_a_ping_flood_ends_the_connection_when_the_answers_are_not_taken() -> None:
    side = a_side(limits=replace(SMALL, answers=64))
    for number in range(500):
        side.receive(frame(PING, SYN, 0, number), 0.0)
        assert headers(output(side)) == [frames.Header(PING, ACK, 0, number)]
    with pytest.raises(Malformed):
        side.receive(frame(PING, SYN, 0, 7) * 65, 0.0)


def test_slow_readers_hold_no_more_than_the_cap_and_the_fullest_stream_goes() -> None:
    limits = replace(SMALL, connection_unread=600_000)
    side = a_side(limits=limits)
    body = bytes(INITIAL_WINDOW)
    for number, size in ((1, 250_000), (3, 200_000), (5, 240_000)):
        side.receive(frame(DATA, SYN, number, size) + body[:size], 0.0)
    assert side.unread == 440_000
    fullest = side.arrived[0]
    with pytest.raises(Closed, match="its reader was too slow: 250000 bytes"):
        fullest.take(1)
    assert [header.stream for header in headers(output(side)) if header.flags == RST] == [1]


def test_the_cap_over_all_connections_takes_from_the_one_that_holds_the_most() -> None:
    budget = Budget(total=500_000)
    greedy, modest = a_side(budget=budget), a_side(budget=budget)
    for number in (1, 3):
        greedy.receive(frame(DATA, SYN, number, 200_000) + bytes(200_000), 0.0)
    modest.receive(frame(DATA, SYN, 1, 150_000) + bytes(150_000), 0.0)
    assert (greedy.unread, modest.unread, budget.used) == (200_000, 150_000, 350_000)
    # A connection may still send, one frame at a time, when others use the budget up.
    budget.used += 1_000_000
    stream = modest.open()
    assert stream.send(memoryview(bytes(200_000))) == CHUNK_BYTES
    assert stream.send(memoryview(bytes(200_000))) == 0


def test_many_small_frames_cost_little_more_than_their_bytes() -> None:
    import tracemalloc

    side = a_side()
    wire = frame(DATA, SYN, 1, 1) + b"x" + (frame(DATA, 0, 1, 1) + b"x") * 9_999
    tracemalloc.start()
    for i in range(0, len(wire), 65_000):
        side.receive(wire[i : i + 65_000], 0.0)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert side.unread == 10_000
    assert held < 80_000


def test_what_comes_after_the_end_is_not_kept() -> None:
    budget = Budget()
    side = a_side(budget=budget)
    side.end("over")
    side.receive(frame(DATA, SYN, 1, 3) + b"abc", 0.0)
    assert (side.streams, side.unread, budget.used) == ({}, 0, 0)
    with pytest.raises(Closed):
        side.open()
