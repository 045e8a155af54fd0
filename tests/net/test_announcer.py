"""Trackers over real HTTP on loopback: the order of events, tiers, back-off, what a hostile one may do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from p2pml.net.announcer import Announcer, Pace
from p2pml.net.tracker_client import MAX_ANSWER, announce
from tests.interop.clients import tracker_up
from tests.node.data_nodes import until
from torrent.errors import TrackerError
from torrent.tracker import Announcement

pytestmark = pytest.mark.slow

QUICK = Pace(least=0.05, most=0.1, first_rest=0.05, longest_rest=0.1)


def describe(event: str, port: int = 6881) -> Announcement:
    return Announcement(b"\x00&%?#= \xff" + bytes(12), b"-PM0010-abcdefghijkl", port, 1, 2, 3, event, "k")


@asynccontextmanager
async def announcing(
    trackers: list[list[str]], complete: bool = False, pace: Pace = QUICK
) -> AsyncIterator[tuple[Announcer, list[str]]]:
    found: list[str] = []
    announcer = Announcer(trackers, describe, found.extend, complete, pace)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(announcer.run)
        yield announcer, found
        nursery.cancel_scope.cancel()


async def test_started_periodic_completed_stopped() -> None:
    with tracker_up() as tracker:
        tracker.answer("127.0.0.1", "info_hash=%00%26%25%3F%23%3D%20%FF" + "%00" * 12 + "&port=7000")
        async with announcing([[tracker.url]]) as (announcer, found):
            await until(lambda: len(tracker.told) >= 4, "it announces again and again")
            announcer.completed()
            announcer.completed()
            await until(lambda: "completed" in tracker.events(6881), "it is complete")
            count = len(tracker.told)
            await until(lambda: len(tracker.told) > count + 1, "and goes on")
            assert set(found) == {"tcp:127.0.0.1:7000"}
        events = tracker.events(6881)
        assert events[0] == "started"
        assert events[-1] == "stopped"
        assert events.count("started") == events.count("completed") == events.count("stopped") == 1
        assert len(tracker.peers) == 1  # the info-hash came as it is
        assert {query["compact"] for query in tracker.queries[1:]} == {b"1"}
        assert {query["left"] for query in tracker.queries[1:]} == {b"3"}


async def test_who_was_complete_at_the_start_never_says_completed() -> None:
    with tracker_up() as tracker:
        async with announcing([[tracker.url]], complete=True) as (announcer, _):
            announcer.completed()
            await until(lambda: len(tracker.told) >= 3, "it announces")
        assert "completed" not in tracker.events(6881)


async def test_the_next_tier_is_asked_when_one_fails_and_nobody_hears_a_farewell_who_heard_nothing() -> None:
    with tracker_up(lambda: (200, b"d14:failure reason4:nopee")) as bad, tracker_up() as good:
        good.answer("127.0.0.1", "info_hash=%00%26%25%3F%23%3D%20%FF" + "%00" * 12 + "&port=7000")
        async with announcing(
            [[bad.url, "http://127.0.0.1:9/announce"], [good.url]], pace=Pace(first_rest=1)
        ) as (_, found):
            await until(lambda: bool(found), "the second tier hears of us, and we of that")
        assert good.events(6881) == ["started", "stopped"]
        assert set(bad.events(6881)) == {"started"}


async def test_all_rest_when_none_answers() -> None:
    with tracker_up(lambda: (500, b"")) as tracker:
        async with announcing([[tracker.url]], pace=Pace(first_rest=0.01, longest_rest=0.02)) as (
            announcer,
            _,
        ):
            await until(lambda: len(tracker.told) >= 3, "it is asked again")
            assert "HTTP status 500" in announcer.problem
        assert set(tracker.events(6881)) == {"started"}


@pytest.mark.parametrize(
    ("status", "body", "complaint"),
    [
        (200, b"d" + b"1" * (MAX_ANSWER + 1), "longer than"),
        (302, b"", "status 302"),
        (404, b"d5:peers0:e", "status 404"),
        (200, b"", "not bencoded"),
    ],
    ids=["long", "moved", "missing", "empty"],
)
async def test_a_tracker_that_misbehaves_is_told_of(status: int, body: bytes, complaint: str) -> None:
    with tracker_up(lambda: (status, body)) as tracker:
        with pytest.raises(TrackerError, match=complaint):
            await announce(tracker.url, describe("started"))
        assert len(tracker.told) == 1  # it was not followed anywhere


async def test_services_inside_are_not_called_for_a_torrent() -> None:
    with tracker_up() as tracker:
        place = tracker.url.removesuffix("/announce")
        for path in ("/", "/admin/delete?all=1", "/announce/../admin", "/x?/announce"):
            with pytest.raises(TrackerError, match="private network"):
                await announce(place + path, describe("started"))
        assert not tracker.told
        await announce(place + "/deep/announce?pass=1", describe("started"))
        assert len(tracker.told) == 1


async def test_a_tracker_that_drips_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pml.net.tracker_client.ANSWER_S", 0.3)

    async def drip(stream: trio.SocketStream) -> None:
        try:
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while True:
                await stream.send_all(b"d")
                await trio.sleep(0.05)
        except trio.BrokenResourceError:
            await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, drip, [listener])
        port = listener.socket.getsockname()[1]
        with pytest.raises(TrackerError, match="no answer"):
            await announce(f"http://127.0.0.1:{port}/announce", describe("started"))
        nursery.cancel_scope.cancel()


async def test_an_unknown_host_is_no_more_than_a_tracker_that_fails() -> None:
    with pytest.raises(TrackerError, match=r"reached|no address"):
        await announce("http://nowhere.invalid/announce", describe("started"))
    with pytest.raises(TrackerError):
        await announce("http://0.0.0.0/announce", describe("started"))
