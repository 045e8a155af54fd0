"""The yamux state machine without IO: windows, limits, memory, time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pml.net.errors import Closed, Malformed, RemoteError, TimedOut
from p2pml.net.yamux import frames
from p2pml.net.yamux.connection import CHUNK_BYTES, Connection, TooManyStreams
from p2pml.net.yamux.frames import ACK, DATA, FIN, GO_AWAY, INITIAL_WINDOW, PING, RST, SYN, WINDOW_UPDATE
from p2pml.net.yamux.frames import encode as frame
from p2pml.net.yamux.limits import Budget, Limits
from p2pml.net.yamux.stream import StreamState

SMALL = Limits(inbound_streams=4, outbound_streams=4, keepalive=10, keepalive_timeout=20, linger=60)


def a_side(dialled: bool = False, limits: Limits = SMALL, budget: Budget | None = None) -> Connection:
    return Connection(dialled, limits, budget or Budget(), 0.0)


def output(side: Connection) -> bytes:
    return b"".join(iter(side.next_chunk, None))


def headers(data: bytes) -> list[frames.Header]:
    return [each for each in frames.FrameReader().feed(data) if isinstance(each, frames.Header)]


def exchange(one: Connection, other: Connection, now: float = 0.0) -> None:
    """Carry bytes until both are quiet."""
    quiet = False
    while not quiet:
        quiet = True
        for source, target in ((one, other), (other, one)):
            for chunk in iter(source.next_chunk, None):
                assert len(chunk) <= CHUNK_BYTES
                target.receive(chunk, now)
                quiet = False


def opened_pair() -> tuple[Connection, StreamState, Connection, StreamState]:
    a, b = a_side(True), a_side()
    ours = a.open()
    exchange(a, b)
    return a, ours, b, b.arrived.popleft()


def carry(a: Connection, ours: StreamState, b: Connection, theirs: StreamState, data: bytes) -> bytes:
    """Send all of `data` from `ours`, read at the other end as it comes."""
    view, got = memoryview(data), bytearray()
    while view or ours.queued:
        view = view[ours.send(view) :] if view else view
        exchange(a, b)
        while part := theirs.take(1 << 20):
            got += part
        exchange(a, b)
    return bytes(got)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 15), st.integers(1, 9), st.binary(max_size=40))))
def test_frames_are_the_same_whole_and_byte_by_byte(parts: list[tuple[int, int, int, bytes]]) -> None:
    wire, expected = b"", []
    for kind, flags, stream, body in parts:
        wire += frame(kind, flags, stream, len(body)) + (body if kind == DATA else b"")
        expected.append((frames.Header(kind, flags, stream, len(body)), body if kind == DATA else b""))
    for step in (1, 7, len(wire) or 1):
        reader = frames.FrameReader()
        pieces = [wire[i : i + step] for i in range(0, len(wire), step)]
        assert list(_joined(event for piece in pieces for event in reader.feed(piece))) == expected


def _joined(events: Iterator[frames.Header | frames.Body]) -> Iterator[tuple[frames.Header, bytes]]:
    for event in events:
        assert isinstance(event, frames.Header)
        body = bytearray()
        while event.kind == DATA:
            part = next(events)
            assert isinstance(part, frames.Body)
            body += part.data
            if part.last:
                break
        yield event, bytes(body)


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=30),
            st.builds(
                frame, st.integers(0, 4), st.integers(0, 31), st.integers(0, 6), st.integers(0, 300_000)
            ),
        )
    ),
    st.integers(1, 64),
)
@settings(max_examples=60)
def test_nothing_but_a_remote_error_escapes_and_the_books_stay_balanced(
    pieces: list[bytes], step: int
) -> None:
    budget = Budget()
    side = a_side(limits=SMALL, budget=budget)
    side.open()
    wire = b"".join(pieces)
    try:
        for i in range(0, len(wire), step):
            side.receive(wire[i : i + step], 0.0)
            output(side)
    except RemoteError:
        pass
    assert side.unread == sum(stream.inbox.size for stream in side.streams.values()) == budget.used
    side.end("over")
    assert (side.unread, budget.used, budget.granted, budget.holders) == (0, 0, 0, set())


@given(st.lists(st.binary(min_size=1, max_size=200_000), max_size=6), st.booleans())
@settings(max_examples=25)
def test_bytes_arrive_in_order_in_both_directions(parts: list[bytes], back: bool) -> None:
    a, ours, b, theirs = opened_pair()
    data = b"".join(parts)
    got = carry(b, theirs, a, ours, data) if back else carry(a, ours, b, theirs, data)
    assert got == data


def test_a_stream_ends_in_good_order_and_is_forgotten() -> None:
    a, ours, b, theirs = opened_pair()
    assert ours.send(memoryview(b"question")) == 8
    a.finish(ours)
    exchange(a, b)
    assert theirs.take(100) == b"question"
    assert theirs.at_end
    assert theirs.send(memoryview(b"answer")) == 6
    b.close(theirs, 0.0)
    exchange(a, b)
    assert (ours.take(100), ours.at_end) == (b"answer", True)
    assert not a.streams
    assert not b.streams
    with pytest.raises(Closed, match="was closed"):
        ours.send(memoryview(b"more"))


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
    a.close(streams[0], 0.0)
    a.open()
    assert streams[0].ended is not None


def test_a_ping_flood_ends_the_connection_when_the_answers_are_not_taken() -> None:
    side = a_side(limits=replace(SMALL, answers=64))
    for number in range(500):
        side.receive(frame(PING, SYN, 0, number), 0.0)
        assert headers(output(side)) == [frames.Header(PING, ACK, 0, number)]
    with pytest.raises(Malformed):
        side.receive(frame(PING, SYN, 0, 7) * 65, 0.0)


@pytest.mark.parametrize(
    "wire",
    [
        frame(9, 0, 1, 0),
        b"\x01" + frame(DATA, 0, 1, 0)[1:],
        frame(DATA, SYN, 0, 0),
        frame(WINDOW_UPDATE, SYN, 2, 0),
        frame(WINDOW_UPDATE, SYN, 1, 0) * 2,
        frame(WINDOW_UPDATE, SYN, 1, 0xFFFFFFFF),
        frame(WINDOW_UPDATE, SYN | FIN, 1, 0) + frame(DATA, 0, 1, 1),
        frame(DATA, SYN, 1, INITIAL_WINDOW + 1),
        frame(DATA, 0, 5, 1),
    ],
)
def test_broken_protocol_is_the_peers_fault(wire: bytes) -> None:
    with pytest.raises(Malformed):
        a_side().receive(wire, 0.0)


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


def test_streams_take_turns() -> None:
    a, b = a_side(True), a_side()
    streams = [a.open() for _ in range(3)]
    for stream in streams:
        stream.send(memoryview(bytes(200_000)))
    order = [header.stream for header in headers(output(a)) if header.kind == DATA]
    assert set(order[:3]) == {1, 3, 5}
    assert b.unread == 0


def test_what_a_writer_gave_up_on_is_copied_out_of_its_buffer() -> None:
    a, ours, b, theirs = opened_pair()
    data = bytearray(b"x" * 1000)
    ours.send(memoryview(data))
    ours.own_queued()
    data[:] = b"y" * 1000
    exchange(a, b)
    assert theirs.take(2000) == b"x" * 1000


def test_a_silent_peer_is_pinged_then_given_up() -> None:
    side = a_side()
    assert side.deadline(0.0) == 10
    side.tick(10.0)
    assert headers(output(side)) == [frames.Header(PING, SYN, 0, 1)]
    side.receive(frame(PING, ACK, 0, 1), 10.5)
    assert side.rtt == 0.5
    side.tick(20.0)
    output(side)
    assert side.deadline(20.0) == 30
    assert side.deadline(30.0) == 40
    side.tick(39.9)
    with pytest.raises(TimedOut, match="nothing was heard from the peer for 30 s"):
        side.tick(40.0)


def test_a_peer_that_answers_no_ping_but_sends_is_alive() -> None:
    side = a_side()
    for now in range(10, 200, 10):
        side.tick(float(now))
        side.receive(frame(WINDOW_UPDATE, 0, 99, 0), now + 1.0)


def test_after_a_go_away_streams_go_on_and_new_ones_are_refused() -> None:
    a, ours, b, theirs = opened_pair()
    b.go_away()
    exchange(a, b)
    assert a.peer_leaves == frames.NORMAL
    with pytest.raises(Closed, match="no new streams"):
        a.open()
    assert carry(a, ours, b, theirs, b"still open") == b"still open"
    b.receive(frame(WINDOW_UPDATE, SYN, 77, 0), 0.0)
    assert [(h.kind, h.flags) for h in headers(output(b))] == [(WINDOW_UPDATE, RST)]
    a.receive(frame(GO_AWAY, 0, 0, frames.PROTOCOL_ERROR), 0.0)
    assert a.peer_leaves == frames.PROTOCOL_ERROR


def test_a_peer_that_never_ends_its_side_is_reset_in_the_end() -> None:
    a, ours, b, _ = opened_pair()
    a.close(ours, 0.0)
    exchange(a, b)
    assert ours.id in a.streams
    a.tick(59.0)
    assert ours.id in a.streams
    b.receive(output(a), 59.0)
    a.receive(output(b), 59.0)
    a.tick(60.0)
    assert ours.id not in a.streams
    assert RST in [header.flags for header in headers(output(a))]


def test_bytes_that_nobody_reads_after_both_ended_are_dropped_in_the_end() -> None:
    a, ours, b, theirs = opened_pair()
    ours.send(memoryview(b"never read"))
    a.finish(ours)
    b.finish(theirs)
    exchange(a, b)
    assert b.unread == 10
    for now in (5.0, 70.0):
        b.receive(frame(PING, ACK, 0, 0), now)
        b.tick(now)
    assert (b.unread, b.streams) == (0, {})


def test_what_comes_after_the_end_is_not_kept() -> None:
    budget = Budget()
    side = a_side(budget=budget)
    side.end("over")
    side.receive(frame(DATA, SYN, 1, 3) + b"abc", 0.0)
    assert (side.streams, side.unread, budget.used) == ({}, 0, 0)
    with pytest.raises(Closed):
        side.open()
