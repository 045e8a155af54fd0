"""One lane: a process that trains the episodes it is told to, and rests as it must.

It reads orders, a line each, from standard input (`train EPISODE`, `pause`, `resume`, `stop`) and looks for
them after every step; it writes `ready CPU_MS` and `leaf EPISODE SEGMENT DIGEST CPU_MS`. When its parent
ends, the input ends, and so does the lane.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from chain.baseline.episode import Trainer, train
from chain.baseline.kernel import NumpyTrainer
from p2pml.worker.lanes import store
from p2pml.worker.lanes.duty import Duty


class Ended(Exception):
    """The lane was told to stop, or its parent has gone."""


class Orders:
    """Lines from a file descriptor."""

    def __init__(self, source: int) -> None:
        self._source = source
        self._buffer = b""

    def poll(self, seconds: float | None) -> list[str] | None:
        """The words of the next order, or None after so many seconds (None: wait for ever).

        Raises:
            Ended: an order to stop, or the end of the input.
        """
        while b"\n" not in self._buffer:
            if not select.select([self._source], [], [], seconds)[0]:
                return None
            data = os.read(self._source, 4096)
            if not data:
                raise Ended
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        words = line.decode("ascii").split()
        if words == ["stop"]:
            raise Ended
        return words


class Lane:
    """The loop of one lane.

    Args:
        tell: takes a line for the parent.
    """

    def __init__(
        self, trainer: Trainer, challenge: bytes, duty: Duty, orders: Orders, tell: Callable[[str], None]
    ) -> None:
        self._trainer, self._challenge, self._duty = trainer, challenge, duty
        self._orders, self._tell = orders, tell
        self._next: int | None = None

    def serve(self) -> None:
        """Carry orders out until told to stop. Raises Ended."""
        self._tell(f"ready {_cpu_ms()}")
        while True:
            if self._next is None:
                self._heed(self._orders.poll(None))
            else:
                episode, self._next = self._next, None
                self._train(episode)

    def _train(self, episode: int) -> None:
        for leaf in train(self._trainer, self._challenge, episode):
            if leaf is not None:
                self._tell(f"leaf {leaf.episode} {leaf.segment} {leaf.digest.hex()} {_cpu_ms()}")
            # A rest is a wait for orders, so that they are heard at once.
            self._heed(self._orders.poll(self._duty.rest(time.process_time(), time.monotonic())))

    def _heed(self, words: list[str] | None) -> None:
        """Carry an order out. The next episode may be ordered while the lane rests or pauses: it is kept."""
        paused = False
        while words is not None:
            if words[0] == "train":
                self._next = int(words[1])
            else:
                paused = words[0] == "pause"
            words = self._orders.poll(None) if paused else None


def build(folder: Path, kernel: str) -> Trainer:
    """The trainer of that kernel on the samples in a folder, warmed up: `numpy`, `int64` or `tensorflow`.

    Raises:
        OSError: the folder cannot be read.
        ImportError: TensorFlow is not installed.
        ValueError: there is no such kernel.
    """
    net, samples = store.read(folder)
    trainer: Trainer
    if kernel == "tensorflow":
        from p2pml.worker.lanes.tf_trainer import TensorFlowTrainer

        trainer = TensorFlowTrainer(net, samples)
    elif kernel in ("numpy", "int64"):
        trainer = NumpyTrainer(net, samples, np.float32 if kernel == "numpy" else np.int64)
    else:
        raise ValueError(f"there is no kernel {kernel!r}")
    trainer.begin(bytes(32))
    trainer.step(np.arange(net.batch, dtype=np.intp) % len(samples))  # loads the library's code and buffers
    return trainer


def _cpu_ms() -> int:
    return int(time.process_time() * 1000)
