"""One lane in this process: the orders it hears between two steps."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from chain.baseline.dataset import prepare
from chain.baseline.kernel import NumpyTrainer
from chain.baseline.net import Net
from p2pml.worker.lanes.duty import Duty
from p2pml.worker.lanes.lane import Ended, Lane, Orders

NET = Net(pixels=4, top=9, mix_shift=0, inputs=5, hidden=4, classes=2, batch=4, steps=2, segments=2)


@dataclass
class Driven:
    """A lane in a thread, and both ends of its lines."""

    cap: int = 100
    told: queue.Queue[str] = field(default_factory=queue.Queue)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(1)
        samples = prepare(NET, rng.integers(0, 10, (9, 4), np.uint8), rng.integers(0, 2, 9))
        source, self.orders = os.pipe()
        lane = Lane(NumpyTrainer(NET, samples), bytes(32), Duty(self.cap), Orders(source), self.told.put)

        def serve() -> None:
            with pytest.raises(Ended):
                lane.serve()
            os.close(source)

        self.thread = threading.Thread(target=serve)
        self.thread.start()

    def send(self, text: str) -> None:
        os.write(self.orders, text.encode())

    def leaf(self) -> tuple[int, int]:
        word, episode, segment, digest, _ = self.told.get(timeout=10).split()
        assert word == "leaf"
        assert len(digest) == 64
        return int(episode), int(segment)

    def end(self) -> None:
        os.close(self.orders)
        self.thread.join(10)
        assert not self.thread.is_alive()


@pytest.fixture
def lane() -> Iterator[Driven]:
    driven = Driven()
    yield driven
    driven.end()


def test_a_lane_trains_what_it_is_told_to(lane: Driven) -> None:
    assert lane.told.get(timeout=10).startswith("ready ")
    lane.send("train 7\n")
    assert [lane.leaf(), lane.leaf()] == [(7, 0), (7, 1)]
    lane.send("train 9\n")
    assert [lane.leaf(), lane.leaf()] == [(9, 0), (9, 1)]
    assert lane.told.empty()


def test_the_next_episode_is_heard_in_the_middle_of_one_and_in_a_pause(lane: Driven) -> None:
    assert lane.told.get(timeout=10).startswith("ready ")
    lane.send("train 1\ntrain 2\n")
    assert [lane.leaf() for _ in range(4)] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    lane.send("pause\ntrain 3\n")
    with pytest.raises(queue.Empty):
        lane.told.get(timeout=0.1)
    lane.send("resume\n")
    assert [lane.leaf(), lane.leaf()] == [(3, 0), (3, 1)]


def test_a_paused_lane_hears_stop(lane: Driven) -> None:
    lane.send("train 1\npause\nstop\n")
    lane.thread.join(10)
    assert not lane.thread.is_alive()
