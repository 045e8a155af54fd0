"""The pump over a pair of in-memory connections: cancellation, closing, dead peers. Virtual time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing
from libp2p.io.exceptions import ConnectionClosedError, IOException
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.exceptions import (
    MuxedConnUnavailable,
    MuxedStreamClosed,
    MuxedStreamEOF,
    MuxedStreamError,
    MuxedStreamReset,
)
from libp2p.stream_muxer.yamux.yamux import Yamux

from p2pml.net.errors import Malformed
from p2pml.net.secure.session import RecordNoise, RecordSession
from p2pml.net.yamux.frames import PROTOCOL_ERROR
from p2pml.net.yamux.limits import Budget
from p2pml.net.yamux.muxed_stream import FLUSH_S
from p2pml.net.yamux.muxer import CLOSE_S, FAREWELL_S, Muxer
from tests.net.muxer_pair import QUICK, Wire, muxers, read_all, sessions, stream_pair


async def test_bulk_goes_both_ways_at_once() -> None:
    data = bytes(range(256)) * 8192
    async with muxers() as (a, b):
        ours, theirs = await stream_pair(a, b)
        got: dict[str, bytes] = {}

        async def send(stream: Any) -> None:
            await stream.write(data)
            await stream.close_write()

        async def receive(name: str, stream: Any) -> None:
            got[name] = await read_all(stream)

        async with trio.open_nursery() as nursery:
            for name, stream in (("a", ours), ("b", theirs)):
                nursery.start_soon(send, stream)
                nursery.start_soon(receive, name, stream)
        assert got == {"a": data, "b": data}
        assert not a.connection.streams
        assert not b.connection.streams


async def test_cancelled_writes_and_reads_leave_the_connection_whole(
    autojump_clock: trio.testing.MockClock,
) -> None:
    wire = Wire()
    async with muxers(wire=wire) as (a, b):
        control, control_peer = await stream_pair(a, b)
        for turn in range(12):
            ours, _ = await stream_pair(a, b)
            if turn % 2:
                wire.freeze()  # cancelled while the socket takes nothing, not only while the window is shut
            with trio.move_on_after(0.5) as scope:
                await ours.write(bytes(3_000_000))
            assert scope.cancelled_caught
            # What is queued keeps no more alive than itself.
            assert sum(len(part.obj) for part in ours.state._outbox) == ours.state.queued  # type: ignore[arg-type]
            with trio.move_on_after(0.5) as scope:
                await ours.read(10)
            assert scope.cancelled_caught
            wire.thaw.set()
            await ours.reset()
            await control.write(b"turn %d" % turn)
            assert await control_peer.read(100) == b"turn %d" % turn
        assert b.is_established


async def test_a_cancelled_read_takes_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with muxers() as (a, b):
        ours, theirs = await stream_pair(a, b)
        await ours.write(b"kept")
        await trio.sleep(1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await theirs.read(10)
        assert await theirs.read(10) == b"kept"


async def test_a_cut_off_write_of_the_session_is_never_followed_by_another() -> None:
    wire = Wire()
    a, _ = await sessions(wire)
    wire.freeze()
    with trio.move_on_after(0.01):
        await a.write(bytes(200_000))
    wire.thaw.set()
    before = wire.written
    with pytest.raises(ConnectionClosedError, match="cut off"):
        await a.write(b"more")
    assert wire.written == before


async def test_two_tasks_never_mix_their_records() -> None:
    wire = Wire()
    a, b = await sessions(wire)
    wire.freeze()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.write, b"first")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ConnectionClosedError, match="still under way"):
            await a.write(b"second")
        wire.thaw.set()
    await a.write(b"third")
    assert await b.read(10) == b"firstthird"


async def test_garbage_in_place_of_records_ends_the_connection_and_nothing_else() -> None:
    wire = Wire()
    async with muxers(wire=wire) as (a, b):
        ours, _ = await stream_pair(a, b)
        await trio.testing.wait_all_tasks_blocked()  # or the other side's muxer would write at the same time
        await wire.ends[1].send_all(bytes(range(100)))
        with pytest.raises(MuxedStreamReset, match=r"does not verify|shorter"):
            await ours.read(1)
        with trio.fail_after(5):
            await a.event_closed.wait()
        assert b.connection.peer_leaves == PROTOCOL_ERROR
        with pytest.raises(MuxedStreamError):
            await a.open_stream()
        with pytest.raises(MuxedConnUnavailable):
            await a.accept_stream()


async def test_garbage_during_negotiation_is_an_error_that_libp2p_expects() -> None:
    wire = Wire()
    a, _ = await sessions(wire)
    await wire.ends[1].send_all(b"\x00\x20" + bytes(32))
    with pytest.raises(IOException, match="does not verify"):
        await a.read(1)
    await wire.ends[1].send_all(b"\x00\x20" + bytes(32))
    with pytest.raises(Malformed):
        await a.receive()


async def test_a_dead_peer_is_given_up_and_blocked_writers_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    wire = Wire()
    async with muxers(wire=wire) as (a, b):
        ours, _ = await stream_pair(a, b)
        closed: list[float] = []

        async def on_close() -> None:
            closed.append(trio.current_time())

        a.on_close = on_close
        await trio.sleep(100)
        assert a.is_established  # an idle connection lives: pings are answered
        assert a.rtt() < 1
        wire.freeze()
        begin = trio.current_time()
        with pytest.raises(MuxedStreamReset, match="nothing was heard"):
            await ours.write(bytes(10_000_000))
        assert trio.current_time() - begin <= QUICK.keepalive + QUICK.keepalive_timeout
        await a.event_closed.wait()
        await trio.sleep(10)
        assert len(closed) == 1


async def test_a_slow_reader_blocks_its_writer_and_nobody_else(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with muxers() as (a, b):
        slow, slow_peer = await stream_pair(a, b)
        quick, quick_peer = await stream_pair(a, b)
        with trio.move_on_after(60) as scope:
            await slow.write(bytes(5_000_000))
        assert scope.cancelled_caught
        assert b.connection.unread <= 256 * 1024
        await quick.write(b"undisturbed")
        assert await quick_peer.read(100) == b"undisturbed"
        assert len(await slow_peer.read(100)) == 100


async def test_closing_a_stream_waits_for_a_slow_socket_for_a_moment_only_and_loses_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    wire = Wire()
    async with muxers(wire=wire) as (a, b):
        ours, theirs = await stream_pair(a, b)
        wire.freeze()
        await ours.write(bytes(200_000))
        begin = trio.current_time()
        await ours.close()
        assert trio.current_time() - begin == FLUSH_S
        wire.thaw.set()
        assert len(await read_all(theirs)) == 200_000
        assert a.is_established


async def test_many_slow_readers_stay_under_the_caps(autojump_clock: trio.testing.MockClock) -> None:
    limits, budget = replace(QUICK, connection_unread=2_000_000), Budget(total=1_500_000)
    async with muxers(limits, budget=budget) as (a, b):

        async def fill() -> None:
            stream = await a.open_stream()
            try:
                await stream.write(bytes(1_000_000))
            except MuxedStreamReset:
                refused.append(stream)

        refused: list[Any] = []
        with trio.move_on_after(30):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(fill)
        assert b.connection.unread <= budget.used <= budget.total
        assert len(refused) >= 20 - 6
        ours = await a.open_stream()
        await ours.write(b"!")
        with trio.fail_after(5):
            while (theirs := await b.accept_stream()).stream_id != ours.stream_id:
                pass
            assert await theirs.read(10) == b"!"
    assert budget.used == budget.granted == 0


async def test_streams_over_the_limit_are_an_error_here_and_a_reset_there() -> None:
    async with muxers(replace(QUICK, inbound_streams=3, outbound_streams=5)) as (a, b):
        streams = [await a.open_stream() for _ in range(5)]
        with pytest.raises(MuxedStreamError, match="5 streams are open"):
            await a.open_stream()
        for stream in streams[3:]:
            with pytest.raises(MuxedStreamReset, match="the peer reset"):
                await stream.read(1)
        for _ in range(3):
            await b.accept_stream()


async def test_a_peer_that_leaves_at_the_same_moment_is_not_waited_for(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stuck(chunks: Any) -> None:
        await trio.sleep_forever()

    async with muxers() as (a, b):
        monkeypatch.setattr(a.secured_conn, "send", stuck)
        begin = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.close)
            nursery.start_soon(b.close)
        assert trio.current_time() - begin < FAREWELL_S


async def test_what_was_written_arrives_when_the_connection_is_closed_right_after() -> None:
    async with muxers() as (a, b):
        ours, theirs = await stream_pair(a, b)
        await ours.write(bytes(200_000))
        await ours.close()
        await a.close()
        assert len(await read_all(theirs)) == 200_000
        with trio.fail_after(5):
            await b.event_closed.wait()
        assert b.connection.peer_leaves == 0


async def test_after_the_peers_go_away_open_streams_finish_first() -> None:
    async with muxers() as (a, b):
        ours, theirs = await stream_pair(a, b)
        b.connection.go_away()
        with trio.fail_after(5):
            await a.event_shutting_down.wait()
        with pytest.raises(MuxedStreamError, match="no new streams"):
            await a.open_stream()
        await ours.write(b"finishing")
        assert await theirs.read(100) == b"finishing"
        assert not a.is_closed
        await ours.close()
        await theirs.close()
        with trio.fail_after(5):
            await a.event_closed.wait()


async def test_a_connection_that_the_peer_left_ends_with_our_last_stream(
    autojump_clock: trio.testing.MockClock,
) -> None:
    wire = Wire()
    async with muxers(wire=wire) as (a, b):
        ours, _ = await stream_pair(a, b)
        b.connection.go_away()
        await a.event_shutting_down.wait()
        wire.freeze()  # nothing comes from the peer any more
        await ours.reset()
        begin = trio.current_time()
        await a.event_closed.wait()
        assert trio.current_time() - begin <= QUICK.keepalive + CLOSE_S


async def test_writers_of_one_stream_take_turns() -> None:
    async with muxers() as (a, b):
        ours, theirs = await stream_pair(a, b)
        async with trio.open_nursery() as nursery:
            for letter in (b"a", b"b", b"c"):
                nursery.start_soon(ours.write, letter * 700_000)
            data = bytearray()
            while len(data) < 2_100_000:
                data += await theirs.read(100_000)
        assert {bytes(set(data[i : i + 700_000])) for i in range(0, len(data), 700_000)} == {b"a", b"b", b"c"}


async def test_using_a_stream_that_is_over() -> None:
    async with muxers() as (a, b):
        ours, theirs = await stream_pair(a, b)
        await ours.close()
        assert await read_all(theirs) == b""
        with pytest.raises(MuxedStreamClosed):
            await ours.write(b"x")
        with pytest.raises(MuxedStreamEOF):
            await ours.read(1)
        await theirs.reset()
        with pytest.raises(MuxedStreamReset):
            await theirs.write(b"x")


@pytest.mark.parametrize("ours_dials", [True, False])
async def test_bulk_against_the_librarys_own_stack(ours_dials: bool) -> None:
    """Records and frames of both stacks on one wire, both directions; the library as either side."""
    classes = (RecordNoise, NoiseTransport) if ours_dials else (NoiseTransport, RecordNoise)
    a, b = await sessions(Wire(), classes)
    ours, stock = (a, b) if ours_dials else (b, a)
    assert isinstance(ours, RecordSession)
    mine = Muxer(ours, ours.remote_peer)
    theirs = Yamux(stock, stock.remote_peer, is_initiator=not ours_dials)
    data = bytes(range(256)) * 6000
    async with trio.open_nursery() as nursery:
        for side in (mine, theirs):
            nursery.start_soon(side.start)
            await side.event_started.wait()
        for opener, accepter in ((mine, theirs), (theirs, mine)):
            stream = await opener.open_stream()

            async def send(stream: Any = stream) -> None:
                await stream.write(data)
                await stream.close_write() if opener is mine else await stream.close()  # noqa: B023

            async def receive(accepter: Any = accepter) -> None:
                other = await accepter.accept_stream()
                assert await read_all(other) == data
                await other.close()

            with trio.fail_after(20):
                async with trio.open_nursery() as turn:
                    turn.start_soon(send)
                    turn.start_soon(receive)
                if opener is mine:
                    assert await read_all(stream) == b""
        await mine.close()
        await theirs.close()
        nursery.cancel_scope.cancel()
