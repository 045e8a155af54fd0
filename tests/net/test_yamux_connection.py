"""The yamux state machine without IO: windows, limits, memory, time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pml.net.errors import Closed, Malformed, RemoteError, TimedOut
from p2pml.net.yamux import frames
from p2pml.net.yamux.frames import ACK, DATA, FIN, GO_AWAY, INITIAL_WINDOW, PING, RST, SYN, WINDOW_UPDATE
from p2pml.net.yamux.frames import encode as frame
from p2pml.net.yamux.limits import Budget
from tests.net.yamux_pair import SMALL, a_side, carry, exchange, headers, opened_pair, output


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
    b.close(theirs)
    exchange(a, b)
    assert (ours.take(100), ours.at_end) == (b"answer", True)
    assert not a.streams
    assert not b.streams
    with pytest.raises(Closed, match="was closed"):
        ours.send(memoryview(b"more"))


@pytest.mark.parametrize(
    "wire",
    [
        frame(9, 0, 1, 0),
        b"\x01" + frame(DATA, 0, 1, 0)[1:],
        frame(DATA, SYN, 0, 0),
        frame(WINDOW_UPDATE, 0, 0, 5),
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
    a.close(ours)
    exchange(a, b)
    assert ours.id in a.streams
    for now in (10.0, 69.0):
        a.tick(now)
        assert ours.id in a.streams
        b.receive(output(a), now)
        a.receive(output(b), now)
    a.tick(70.0)
    assert ours.id not in a.streams
    assert RST in [header.flags for header in headers(output(a))]


def test_a_closed_stream_is_not_given_up_before_a_slow_socket_took_what_it_wrote() -> None:
    a, ours, b, theirs = opened_pair()
    ours.send(memoryview(b"slow"))
    a.close(ours)
    for now in (10.0, 100.0, 200.0):
        a.receive(frame(PING, ACK, 0, 0), now)
        a.tick(now)
    exchange(a, b)
    assert theirs.take(10) == b"slow"
    assert theirs.at_end


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
