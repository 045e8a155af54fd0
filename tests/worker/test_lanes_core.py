"""Who trains what, on virtual time; and how long a lane rests."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.baseline.net import MNIST
from chain.baseline.trace import Leaf, Trace
from p2pml.worker.lanes import energy
from p2pml.worker.lanes.core import Closed, Done, LanePool, Lost, Opened, Order, Over, Pause, Ready, Resume
from p2pml.worker.lanes.duty import Duty, slack_of
from p2pml.worker.lanes.pool import parse

NET = replace(MNIST, segments=2)
DIGEST = bytes(32)


def done(lane: int, episode: int, segment: int, cpu_ms: int = 0) -> Done:
    return Done(lane, Leaf(episode, segment, DIGEST), cpu_ms)


def opened(lanes: int) -> LanePool:
    pool = LanePool(NET, lanes, 60.0, 100.0, 0.0)
    for lane in range(lanes):
        pool.receive(Ready(lane, 100), 5.0)
    return pool


def test_a_window_begins_when_the_last_lane_is_ready() -> None:
    pool = LanePool(NET, 2, 60.0, 100.0, 0.0)
    assert pool.receive(Ready(1, 0), 3.0) == []
    assert pool.seconds_left(3.0) is None
    assert pool.receive(Ready(0, 0), 5.0) == [Opened(), Order(0, "train", 0), Order(1, "train", 1)]
    assert pool.deadline() == 65.0


def test_a_free_lane_takes_the_next_episode() -> None:
    pool = opened(2)
    assert pool.receive(done(1, 1, 0), 6.0) == []
    assert pool.receive(done(1, 1, 1), 7.0) == [Order(1, "train", 2)]
    assert pool.receive(done(0, 0, 0), 7.5) == []
    assert pool.receive(done(0, 0, 1), 8.0) == [Order(0, "train", 3)]
    assert [(leaf.episode, leaf.segment) for leaf in pool.leaves] == [(1, 0), (1, 1), (0, 0), (0, 1)]


def test_what_comes_after_the_window_does_not_count() -> None:
    pool = opened(1)
    pool.receive(done(0, 0, 0, 600), 64.9)
    assert pool.receive(done(0, 0, 1, 900), 65.0) == [Closed()]
    assert len(pool.leaves) == 1
    assert pool.cpu_ms == 500
    assert pool.closed
    assert pool.receive(done(0, 0, 1), 66.0) == pool.tick(99.0) == []


def test_a_window_ends_by_itself() -> None:
    pool = opened(1)
    assert pool.tick(64.9) == []
    assert pool.seconds_left(64.0) == 1.0
    assert pool.tick(65.0) == [Closed()]
    assert pool.deadline() is None


def test_a_window_that_is_over_by_another_clock_keeps_what_was_finished() -> None:
    pool = opened(1)
    pool.receive(done(0, 0, 0), 6.0)
    assert pool.receive(Over(), 7.0) == [Closed()]
    assert pool.receive(done(0, 0, 1), 7.5) == []
    assert [leaf.segment for leaf in pool.leaves] == [0]
    assert pool.deadline() is None
    waiting = LanePool(NET, 1, 60.0, 100.0, 0.0, opens_at=9.0)
    assert waiting.receive(Over(), 7.0) == [Closed("the window was over before it began here")]


def test_all_lanes_pause_and_the_window_goes_on() -> None:
    pool = opened(2)
    assert pool.receive(Pause(), 6.0) == [Order(0, "pause"), Order(1, "pause")]
    assert pool.receive(Resume(), 50.0) == [Order(0, "resume"), Order(1, "resume")]
    assert pool.deadline() == 65.0


def test_the_others_go_on_without_a_lane_that_dies() -> None:
    pool = opened(2)
    pool.receive(done(0, 0, 0), 6.0)
    assert pool.receive(Lost(0, "killed"), 7.0) == []
    assert pool.receive(done(0, 0, 1), 7.0) == []  # nobody is there who could say that
    assert pool.receive(Pause(), 7.0) == [Order(1, "pause")]
    assert pool.receive(Lost(1, "killed too"), 8.0) == [Closed("killed too")]
    assert len(pool.leaves) == 1


def test_a_lane_that_dies_early_does_not_hold_the_others_up() -> None:
    pool = LanePool(NET, 2, 60.0, 100.0, 0.0)
    pool.receive(Ready(0, 0), 1.0)
    assert pool.receive(Lost(1, "no memory"), 2.0) == [Opened(), Order(0, "train", 0)]
    pool = LanePool(NET, 2, 60.0, 100.0, 0.0)
    assert pool.receive(Lost(0, "no memory"), 1.0) == []
    assert pool.receive(Lost(1, "no memory either"), 2.0) == [Closed("no memory either")]
    pool = LanePool(NET, 2, 60.0, 100.0, 0.0)
    pool.receive(Ready(0, 0), 1.0)
    assert pool.receive(Lost(0, "gone"), 2.0) == []
    assert pool.receive(Ready(1, 0), 3.0) == [Opened(), Order(1, "train", 0)]


def test_lanes_that_are_not_ready_in_time_are_left_behind() -> None:
    pool = LanePool(NET, 2, 60.0, 100.0, 0.0)
    pool.receive(Ready(1, 0), 1.0)
    assert pool.tick(100.0) == [Opened(), Order(1, "train", 0)]
    assert pool.receive(Ready(0, 0), 101.0) == []
    assert pool.lanes_left == 1
    assert LanePool(NET, 2, 60.0, 100.0, 0.0).tick(100.0) == [Closed("not ready in time: all 2 lanes")]


def test_a_window_that_begins_at_a_time_does_not_wait() -> None:
    pool = LanePool(NET, 3, 60.0, 1.0, 0.0, opens_at=20.0)
    assert pool.receive(Ready(1, 0), 5.0) == pool.receive(Lost(2, "gone"), 6.0) == []
    assert pool.deadline() == 20.0
    assert pool.tick(20.5) == [Opened(), Order(1, "train", 0)]
    assert pool.receive(Ready(0, 0), 30.0) == [Order(0, "train", 1)]
    assert pool.late == 1
    assert pool.deadline() == 80.0
    assert pool.receive(Ready(0, 0), 31.0) == []
    assert pool.lanes_left == 1


@pytest.mark.parametrize("event", [done(0, 0, 1), done(0, 1, 0), done(1, 0, 0), Ready(0, 0)])
def test_a_lane_that_tells_of_other_work_than_its_own_is_lost(event: Done | Ready) -> None:
    pool = opened(2)
    pool.receive(event, 6.0)
    assert pool.leaves == []
    assert pool.lanes_left == 1


@given(st.integers(0, 2**32), st.integers(1, 5))
def test_every_course_of_a_window_gives_a_trace(seed: int, lanes: int) -> None:
    rng = random.Random(seed)
    pool = LanePool(NET, lanes, 60.0, 10.0, 0.0)
    at = dict.fromkeys(range(lanes), (-1, 0))
    now = 0.0
    while not pool.closed:
        now += rng.random()
        lane = rng.randrange(lanes)
        episode, segment = at[lane]
        kind = rng.random()
        if kind < 0.02:
            effects = pool.receive(Lost(lane, "bad luck"), now)
        elif episode < 0:
            effects = pool.receive(Ready(lane, 0), now)
        else:
            at[lane] = (episode, segment + 1)
            effects = pool.receive(done(lane, episode, segment), now)
        at.update({order.lane: (order.episode, 0) for order in effects if isinstance(order, Order)})
    assert len(Trace(NET, pool.leaves)) == len(pool.leaves)


@pytest.mark.parametrize("percent", [10, 50, 90, 100])
@pytest.mark.parametrize("speed", [1.0, 0.7])
def test_a_cap_is_kept_and_no_more(percent: int, speed: float) -> None:
    """A machine that gives the lane a share `speed` of a core when it wants one; steps of 4 ms."""
    duty, busy, wall = Duty(percent), 0.0, 1000.0
    while wall < 1060.0:
        busy += 0.004
        wall += 0.004 / speed
        wall += duty.rest(busy, wall)
    assert busy / 60 == pytest.approx(min(percent / 100, speed), rel=0.01)


def test_rests_are_few_and_long_in_a_long_window() -> None:
    assert [slack_of(10, 20.0), slack_of(50, 60.0)] == pytest.approx([0.05, 0.6])
    duty, busy, wall, rests = Duty(50, slack=slack_of(50, 60.0)), 0.0, 0.0, []
    while wall < 60.0:
        busy, wall = busy + 0.004, wall + 0.004
        if rest := duty.rest(busy, wall):
            rests.append(rest)
            wall += rest
    assert busy == pytest.approx(30.0, rel=0.02)
    assert len(rests) == pytest.approx(25, abs=1)


def test_time_that_was_not_used_is_not_made_up_for() -> None:
    duty = Duty(50)
    duty.rest(0.0, 0.0)
    assert duty.rest(0.0, 100.0) == 0.0  # a pause
    assert duty.rest(1.0, 101.0) == pytest.approx((1 - 0.5 - 0.05) / 0.5)


@pytest.mark.parametrize(
    "line",
    [b"", b"ready", b"ready x", b"ready 1 2", b"leaf 0 0 00 1", b"leaf 0 0 " + b"zz" * 32 + b" 1", b"\xff",
     b"loaf 0 0 " + b"00" * 32 + b" 1", b"leaf 0 0 " + b"00" * 32],
)  # fmt: skip
def test_a_line_that_no_lane_writes_is_the_end_of_it(line: bytes) -> None:
    assert isinstance(parse(3, line), Lost)


def test_lines_of_a_lane() -> None:
    assert parse(3, b"ready 70") == Ready(3, 70)
    assert parse(3, b"leaf 9 1 " + b"00" * 32 + b" 80") == done(3, 9, 1, 80)


def zones(folder: Path, values: dict[str, tuple[str, int]]) -> Path:
    for zone, (name, counter) in values.items():
        (folder / zone).mkdir(exist_ok=True)
        (folder / zone / "name").write_text(f"{name}\n")
        (folder / zone / "energy_uj").write_text(f"{counter}\n")
        (folder / zone / "max_energy_range_uj").write_text("1000000000\n")
    return folder


def test_energy_is_that_of_whole_packages_and_counters_run_over(tmp_path: Path) -> None:
    parts = {"intel-rapl:0": ("package-0", 5_000_000), "intel-rapl:1": ("package-1", 990_000_000),
             "intel-rapl:0:0": ("core", 1), "intel-rapl:2": ("psys", 7)}  # fmt: skip
    before = energy.read(zones(tmp_path, parts))
    parts |= {"intel-rapl:0": ("package-0", 8_500_000), "intel-rapl:1": ("package-1", 10_000_000),
              "intel-rapl:0:0": ("core", 10**8), "intel-rapl:2": ("psys", 10**8)}  # fmt: skip
    assert energy.joules(before, energy.read(zones(tmp_path, parts))) == 3 + 20
    assert energy.joules(before, None) is None
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("?")
    assert energy.read(tmp_path) is None
    assert energy.read(tmp_path / "none") is None


def test_a_duty_over_several_cores() -> None:
    """Half of four cores is two: 8 seconds of processor time are earned in 4."""
    duty = Duty(50, cores=4)
    assert duty.rest(0.0, 0.0) == 0.0
    assert duty.rest(2.0, 1.0) == 0.0
    assert duty.rest(6.0, 2.0) == pytest.approx(1.0)
    assert Duty(100, cores=4).rest(9.0, 0.0) == 0.0
