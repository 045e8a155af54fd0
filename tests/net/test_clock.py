"""The clock against the peers' clocks: the estimate, the exchange, and who is told."""

# ruff: noqa: ASYNC110  (a test polls what has no event)
from __future__ import annotations

import random

import pytest
import trio

from p2pml.net.clock import FRESH_S, KEPT, MAX_DELAY_S, Estimate, Offsets, Sample, median
from p2pml.net.host import Host
from p2pml.net.time_exchange import PROTOCOL, PeerTime
from p2pml.node.clock_watch import ClockWatch
from p2pml.node.events import Events


def exchange(offset: float, there: float, back: float, sent: float = 100.0) -> Sample:
    """With a peer whose clock is ahead by `offset`, over a way that takes so long in each direction."""
    received = sent + there + offset
    return Sample.of(sent, received, received + 0.5, sent + there + 0.5 + back)


def test_four_time_stamps_give_offset_and_delay() -> None:
    sample = exchange(3.0, 0.1, 0.1)
    assert sample.offset == pytest.approx(3.0)
    assert sample.delay == pytest.approx(0.2)
    skewed = exchange(3.0, 0.4, 0.0)
    assert abs(skewed.offset - 3.0) <= skewed.delay / 2 + 1e-9


def test_times_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="before its question"):
        Sample.of(10.0, 12.0, 11.0, 20.0)
    with pytest.raises(ValueError, match="before its question"):
        Sample.of(10.0, 12.0, 14.0, 11.0)


def test_the_quickest_exchange_of_a_peer_counts_and_slow_ones_do_not_at_all() -> None:
    offsets = Offsets()
    offsets.add("p", Sample(0.9, 1.8), 0.0)
    offsets.add("p", Sample(0.1, 0.2), 1.0)
    offsets.add("p", Sample(0.7, 1.4), 2.0)
    assert offsets.offset_of("p", 3.0) == 0.1
    offsets.add("slow", Sample(1.0, MAX_DELAY_S + 0.1), 2.0)
    assert offsets.offset_of("slow", 3.0) is None
    for turn in range(KEPT):
        offsets.add("p", Sample(5.0, 0.5), 4.0 + turn)
    assert offsets.offset_of("p", 20.0) == 5.0  # the clock was set: the old exchange has gone


def test_old_answers_and_peers_that_left_count_no_more() -> None:
    offsets = Offsets()
    offsets.add("a", Sample(1.0, 0.1), 0.0)
    offsets.add("b", Sample(2.0, 0.1), 100.0)
    assert offsets.estimate(FRESH_S - 1) == Estimate(1.0, 2)
    assert offsets.estimate(FRESH_S) == Estimate(2.0, 1)
    offsets.keep(["a"])
    assert offsets.estimate(FRESH_S) is None


@pytest.mark.parametrize("honest", [2, 3, 5, 20])
def test_a_minority_of_liars_cannot_shift_the_estimate(honest: int) -> None:
    rng = random.Random(honest)
    for _ in range(200):
        offsets, truth = Offsets(), [rng.uniform(-0.05, 0.05) for _ in range(honest)]
        for number, offset in enumerate(truth):
            offsets.add(f"honest{number}", Sample(offset, 0.1), 0.0)
        for number in range(honest - 1):
            offsets.add(f"liar{number}", Sample(rng.choice([-1e6, -1.0, 1.0, 1e6]), 0.0), 0.0)
        estimate = offsets.estimate(1.0)
        assert estimate is not None
        assert min(truth) <= estimate.offset <= max(truth)


def test_of_two_the_one_nearer_to_our_clock_is_believed() -> None:
    assert median([0.01, 900.0]) == 0.01
    assert median([-900.0, 0.01]) == 0.01
    assert median([1.0, 2.0, 3.0]) == 2.0


@pytest.mark.slow
async def test_nodes_find_out_by_how_much_a_clock_is_off() -> None:
    told: list[Estimate | None] = []
    async with trio.open_nursery() as nursery:
        hosts = [await nursery.start(_run, Host(bytes([0x71 + i]) * 32)) for i in range(4)]
        for host in hosts[:2]:
            await nursery.start(PeerTime(host, lambda: 1_700_000_005_000).run)
        hosts[2].serve(PROTOCOL, _liar)
        asker = hosts[3]
        await nursery.start(PeerTime(asker, lambda: 1_700_000_000_000, told.append).run)
        for host in hosts[:3]:
            await asker.connect(host.addrs()[0])
        with trio.fail_after(10):
            while not told or told[-1] is None or told[-1].peers < 3:
                await trio.sleep(0.01)
        assert told[-1] == Estimate(5.0, 3)
        nursery.cancel_scope.cancel()


async def _liar(peer: str, message: object) -> list[int]:
    return [1, 2**47, 2**47]


async def _run(host: Host, task_status: trio.TaskStatus[Host]) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run)
        task_status.started(host)


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer", [[1], [2, 5, 5], [1, "5", 5], [1, -1, 5], [1, 2**48, 2**48], [1, True, True], {}]
)
async def test_an_answer_that_is_none_counts_against_the_peer(answer: object) -> None:
    async def wrong(peer: str, message: object) -> object:
        return answer

    async with Host(b"\x71" * 32).running() as host, Host(b"\x72" * 32).running() as peer:
        peer.serve(PROTOCOL, wrong)
        time = PeerTime(host, lambda: 5)
        async with trio.open_nursery() as nursery:
            await nursery.start(time.run)
            await host.connect(peer.addrs()[0])
            with trio.fail_after(10):
                while host.standing.score(peer.peer_id) < 5:
                    await trio.sleep(0.01)
            assert time.estimate() is None
            nursery.cancel_scope.cancel()


def test_an_event_tells_when_the_clock_goes_wrong_and_when_it_is_right_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events = Events()
    watch = ClockWatch(events, 250)
    for offset in (0.2, 0.25, 0.3, 0.9, -0.2, -1.2):
        watch.heard(Estimate(offset, 3))
    assert watch.wrong
    watch.heard(None)
    assert not watch.wrong
    assert [(event.kind, event.data) for event in events.since(0)] == [
        ("node.clock", {"offset_ms": 300, "peers": 3, "wrong": True}),
        ("node.clock", {"offset_ms": -200, "peers": 3, "wrong": False}),
        ("node.clock", {"offset_ms": -1200, "peers": 3, "wrong": True}),
        ("node.clock", {"offset_ms": 0, "peers": 0, "wrong": False}),
    ]
    assert "is behind that of 3 peers by 0.3 s" in caplog.text
    assert "is ahead of that of 3 peers by 1.2 s" in caplog.text
    assert "neither proposes nor votes" in caplog.text
