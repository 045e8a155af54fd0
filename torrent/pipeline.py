"""The requests in flight to one peer: how many there may be, and when they have waited too long."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torrent.config import SwarmConfig
from torrent.geometry import BLOCK, Block
from torrent.rate import Rate


class Pipeline:
    """Depth grows by one per block while the rate still grows from one round trip to the next (slow start),
    then covers the delay of an answer and ``queue_time`` more of the rate: the first keeps a long line full,
    the second lets the depth grow with the line.
    """

    def __init__(self, config: SwarmConfig, now: float) -> None:
        self._config = config
        self._most = config.max_depth
        self._slow_start = True
        self._last_rate = 0.0
        self._judge_at = now
        self._alone: Block | None = None
        self._delay = math.inf
        self._last_block = now
        self._answered = -math.inf
        self.outstanding: dict[Block, float] = {}
        """Blocks asked for and when, oldest first."""
        self.rate = Rate(now)
        self.depth = self._bounded(config.min_depth)
        self.snubbed = False

    @property
    def room(self) -> int:
        return self.depth - len(self.outstanding)

    def limit(self, requests: int) -> None:
        """The peer queues so many requests (BEP 10's ``reqq``); one is always tried."""
        self._most = max(1, min(requests, self._config.max_depth))
        self.depth = self._bounded(self.depth)

    def _bounded(self, depth: int) -> int:
        return min(depth, self._most)

    def ask(self, block: Block, now: float) -> None:
        if not self.outstanding:
            self._alone = block
        self.outstanding[block] = now

    def arrived(self, blocks: Sequence[Block], now: float) -> list[Block]:
        """Blocks came together, which counts for the rate. Returns those of them that are not waited for."""
        self.rate.add(sum(block.length for block in blocks), now)
        strange: list[Block] = []
        for block in blocks:
            asked = self.outstanding.pop(block, None)
            if asked is None:
                strange.append(block)
            else:
                self._answered = max(self._answered, asked)
                self._measure(block, now - asked)
        if len(strange) < len(blocks):
            self._progressed(len(blocks) - len(strange), now)
        return strange

    def _progressed(self, blocks: int, now: float) -> None:
        self._last_block = now
        if self.snubbed:
            self.snubbed = False
            self._slow_start = True
            self.depth = self._bounded(self._config.min_depth)
        elif self._slow_start:
            self.depth = self._bounded(self.depth + blocks)

    def _measure(self, block: Block, delay: float) -> None:
        """Learn how long an answer takes without the queue that we keep at the peer: what had no request of
        ours before it tells that; of the others only the shortest do.
        """
        self._delay = delay if block == self._alone else min(self._delay, delay)
        if block == self._alone:
            self._alone = None

    def drain(self) -> list[Block]:
        """All outstanding blocks, which are called off with this."""
        blocks = list(self.outstanding)
        self.outstanding.clear()
        return blocks

    def snub(self) -> None:
        """The peer stopped answering: try it with one request at a time."""
        self.snubbed = True
        self.depth = 1

    def stalled(self, now: float) -> bool:
        """Requests are in flight and none was answered for the whole time-out."""
        if not self.outstanding:
            return False
        since = max(self._last_block, next(iter(self.outstanding.values())))
        return now - since >= self._config.request_timeout

    def skipped(self, now: float) -> list[Block]:
        """Requests past the time-out although later ones were answered: the peer has lost or refused them."""
        blocks = []
        for block, asked in self.outstanding.items():
            if asked >= self._answered or now - asked < self._config.request_timeout:
                break
            blocks.append(block)
        for block in blocks:
            del self.outstanding[block]
        return blocks

    def tick(self, now: float) -> None:
        """Adapt the depth; once a second or so."""
        if self.snubbed or self._delay == math.inf:
            return
        rate = self.rate.value(now)
        if not self._slow_start:
            # less one: on a slow line the delay is little else than the time that the block itself takes
            depth = math.ceil(rate * (self._delay + self._config.queue_time) / BLOCK - 1)
            self.depth = self._bounded(max(self._config.min_depth, depth))
        elif now >= self._judge_at:  # what was asked for since the last time has come
            self._slow_start = rate > self._last_rate * 1.1 or not self.outstanding
            self._last_rate, self._judge_at = rate, now + self._delay
