"""Requests in flight: depth by rate, time-outs."""

from __future__ import annotations

from collections import deque

import pytest

from torrent.config import SwarmConfig
from torrent.geometry import BLOCK, Block
from torrent.pipeline import Pipeline
from torrent.rate import Rate

CONFIG = SwarmConfig()


def steady(pipeline: Pipeline, seconds: int, blocks: int, start: float = 0.0) -> float:
    """A peer that answers ``blocks`` per second, in order, as long as it is asked that much."""
    now = start
    number = int(start * 1000)
    for _ in range(seconds):
        for part in range(blocks):
            now += 1 / blocks
            while pipeline.room > 0:
                number += 1
                pipeline.ask(Block(number, part, BLOCK), now)
            pipeline.arrived([next(iter(pipeline.outstanding))], now)
        pipeline.tick(now)
    return now


def test_depth_covers_the_queue_time_of_rate() -> None:
    pipeline = Pipeline(SwarmConfig(queue_time=3.0), 0.0)
    steady(pipeline, 60, 20)
    assert 50 <= pipeline.depth <= 70


def test_depth_covers_the_delay_too() -> None:
    """A line of 20 blocks a second that is two seconds long, filled as far as the depth lets it."""
    pipeline = Pipeline(CONFIG, 0.0)
    coming: deque[tuple[float, Block]] = deque()
    free_at, now = 0.0, 0.0
    for step in range(60 * 20):
        now = step / 20
        while coming and coming[0][0] <= now:
            pipeline.arrived([coming.popleft()[1]], now)
        while pipeline.room > 0:
            block = Block(step, pipeline.room, BLOCK)
            pipeline.ask(block, now)
            free_at = max(free_at, now) + 1 / 20
            coming.append((free_at + 2.0, block))
        if step % 20 == 0:
            pipeline.tick(now)
    assert 0.95 * 20 * BLOCK < pipeline.rate.value(now) < 1.1 * 20 * BLOCK
    assert 20 * 2.9 <= pipeline.depth <= 20 * 3.3, "two seconds for the line, one more, and no queue counted"


def test_on_a_slow_line_the_time_of_the_block_itself_does_not_count() -> None:
    pipeline = Pipeline(SwarmConfig(min_depth=1), 0.0)
    now = 0.0
    for number in range(40):
        while pipeline.room > 0:
            pipeline.ask(Block(number, pipeline.room, BLOCK), now)
        now += 2.0
        pipeline.arrived([next(iter(pipeline.outstanding))], now)
        pipeline.tick(now)
    assert pipeline.depth == 1


def test_a_new_delay_is_learnt_when_nothing_waits() -> None:
    pipeline = Pipeline(CONFIG, 0.0)
    for start, delay in ((0, 0.1), (100, 3.0), (200, 0.1)):
        blocks = [Block(start, part, BLOCK) for part in range(41)]
        for block in blocks:
            pipeline.ask(block, start)
        for part, block in enumerate(blocks[:-1]):
            pipeline.arrived([block], start + delay + part / 40)
        for wait in range(1, 4):  # the last one is late: long enough to end the slow start
            now = start + (delay + 1) * wait
            pipeline.tick(now)
        expected = max(CONFIG.min_depth, pipeline.rate.value(now) * (delay + 1) / BLOCK - 1)
        assert pipeline.depth == pytest.approx(expected, abs=1)
        pipeline.arrived([blocks[-1]], now)


def test_depth_is_bounded_at_both_ends() -> None:
    fast, slow = Pipeline(CONFIG, 0.0), Pipeline(CONFIG, 0.0)
    steady(fast, 20, 400)
    steady(slow, 60, 1)
    assert fast.depth == CONFIG.max_depth
    assert slow.depth == CONFIG.min_depth


@pytest.mark.parametrize(("reqq", "most"), [(0, 1), (1, 1), (3, 3), (30, 30), (10**9, CONFIG.max_depth)])
def test_the_peers_queue_bounds_the_depth(reqq: int, most: int) -> None:
    pipeline = Pipeline(CONFIG, 0.0)
    pipeline.limit(reqq)
    assert pipeline.depth == min(most, CONFIG.min_depth)
    steady(pipeline, 20, 400)
    assert pipeline.depth == most
    pipeline.snub()
    pipeline.drain()
    pipeline.ask(Block(0, 0, BLOCK), 30.0)
    assert not pipeline.arrived([Block(0, 0, BLOCK)], 31.0)
    assert pipeline.depth == min(most, CONFIG.min_depth)
    pipeline.limit(2)
    assert pipeline.depth <= 2


def test_slow_start_doubles_each_round_trip() -> None:
    pipeline = Pipeline(CONFIG, 0.0)
    for trip in range(4):
        for n in range(pipeline.room):
            pipeline.ask(Block(trip, n, BLOCK), trip * 0.1)
        for block in list(pipeline.outstanding):
            pipeline.arrived([block], trip * 0.1 + 0.1)
    assert pipeline.depth == CONFIG.min_depth * 2**4


def test_stalled_after_the_time_out_and_one_request_at_a_time_then() -> None:
    pipeline = Pipeline(CONFIG, 0.0)
    assert not pipeline.stalled(1000.0)
    pipeline.ask(Block(0, 0, BLOCK), 100.0)
    assert not pipeline.stalled(119.9)
    assert pipeline.stalled(120.0)
    pipeline.snub()
    pipeline.drain()
    pipeline.ask(Block(0, 0, BLOCK), 120.0)
    assert pipeline.room == 0
    assert not pipeline.arrived([Block(0, 0, BLOCK)], 121.0)
    assert not pipeline.snubbed
    assert pipeline.depth == CONFIG.min_depth


def test_a_slow_peer_that_keeps_answering_is_not_stalled() -> None:
    pipeline = Pipeline(CONFIG, 0.0)
    for n in range(8):
        pipeline.ask(Block(0, n, BLOCK), 0.0)
    for n in range(8):
        assert not pipeline.stalled(15.0 * n + 14.0)
        pipeline.arrived([Block(0, n, BLOCK)], 15.0 * n + 15.0)


def test_a_request_that_was_passed_over_is_given_up() -> None:
    pipeline = Pipeline(CONFIG, 0.0)
    pipeline.ask(Block(0, 0, BLOCK), 0.0)
    pipeline.ask(Block(1, 0, BLOCK), 1.0)
    assert pipeline.skipped(100.0) == []
    pipeline.arrived([Block(1, 0, BLOCK)], 2.0)
    assert pipeline.skipped(19.0) == []
    assert pipeline.skipped(20.0) == [Block(0, 0, BLOCK)]
    assert not pipeline.outstanding


def test_blocks_that_come_together_count_each() -> None:
    pipeline = Pipeline(CONFIG, 0.0)
    blocks = [Block(0, n * BLOCK, BLOCK) for n in range(3)]
    for block in blocks[:2]:
        pipeline.ask(block, 0.0)
    assert pipeline.arrived(blocks, 1.0) == blocks[2:]
    assert pipeline.depth == CONFIG.min_depth + 2
    assert pipeline.rate.total == 3 * BLOCK
    assert not pipeline.outstanding


def test_the_rate_meter() -> None:
    rate = Rate(0.0)
    for second in range(1, 31):
        rate.add(1000, float(second))
    assert 900 < rate.value(30.0) < 1150
    assert rate.value(60.0) < 5
    assert rate.total == 30_000
