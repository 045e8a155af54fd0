"""Delay, jitter and loss on a made-up clock."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from p2pml.lab.delayline import DelayLine
from p2pml.scenario.links import Link


def _line(link: Link, seed: int = 1) -> DelayLine:
    return DelayLine(link, random.Random(seed))


def test_a_packet_waits_its_delay() -> None:
    line = _line(Link(delay_ms=50))
    assert line.deadline() is None
    assert line.arrive(1, 10.0)
    assert line.arrive(2, 10.01)
    assert line.deadline() == 10.05
    assert line.release(10.049) is None
    assert line.release(10.055) == 1
    assert len(line) == 1
    assert line.release(11.0) == 2
    assert line.deadline() is None


def test_one_release_frees_all_that_is_due() -> None:
    line = _line(Link(delay_ms=10))
    for packet in range(5):
        line.arrive(packet, 1.0)
    assert line.release(2.0) == 4
    assert len(line) == 0


def test_a_shorter_delay_does_not_overtake() -> None:
    line = _line(Link(delay_ms=500))
    line.arrive(1, 0.0)
    line.set_link(Link(delay_ms=1))
    line.arrive(2, 0.1)
    assert line.release(0.2) is None
    assert line.release(0.5) == 2


def test_loss_is_the_asked_share() -> None:
    line = _line(Link(loss=0.05))
    for packet in range(20_000):
        line.arrive(packet, 0.0)
    assert line.seen == 20_000
    assert abs(line.dropped / line.seen - 0.05) < 0.003


def _lost(seed: int) -> list[int]:
    line = _line(Link(loss=0.1), seed)
    return [packet for packet in range(300) if not line.arrive(packet, 0.0)]


def test_the_same_seed_loses_the_same_packets() -> None:
    assert _lost(7) == _lost(7)
    assert _lost(7) != _lost(8)


@given(gaps=st.lists(st.floats(0, 0.02), min_size=1, max_size=60), seed=st.integers(0, 99))
def test_jitter_never_reorders_and_stays_within_its_bounds(gaps: list[float], seed: int) -> None:
    line = _line(Link(delay_ms=30, jitter_ms=20), seed)
    now, arrivals = 0.0, []
    for packet, gap in enumerate(gaps):
        now += gap
        arrivals.append(now)
        line.arrive(packet, now)
    released: list[int] = []
    while (due := line.deadline()) is not None:
        newest = line.release(due)
        assert newest is not None
        for packet in range(released[-1] + 1 if released else 0, newest + 1):
            released.append(packet)
            assert arrivals[packet] + 0.01 - 1e-9 <= due <= arrivals[packet] + 0.05 + 1e-9
    assert released == list(range(len(gaps)))
