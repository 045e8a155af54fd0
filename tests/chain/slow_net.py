"""A late node among peers that take their time, on a virtual clock: what `chain.sync` says is carried out."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from chain import sync
from chain.errors import FutureBlock, InvalidBlock, StaleBlock, UnknownParent
from chain.forkchoice import Chain, HeadChanged
from chain.sync import (
    Answered,
    Ask,
    Distrust,
    HeadIs,
    Import,
    Imported,
    PeerJoined,
    PeerLeft,
    Response,
    Sync,
    decode_request,
    encode_response,
)

Server = Callable[[sync.Request], Response | bytes | None]
EXECUTION_S = 0.005
"""Seconds for a block."""


@dataclass(order=True)
class Due:
    """An event that comes later."""

    at: float
    number: int
    event: sync.Event = field(compare=False)


class SlowNet:
    """One late node and its peers.

    Args:
        chain: the late node's.
        seed: of its machine.
    """

    def __init__(self, chain: Chain, seed: int = 1) -> None:
        self.chain = chain
        self.machine = Sync(chain.genesis, random.Random(seed), lambda: chain)
        self.now = 0.0
        self.asked: list[tuple[float, str, sync.Request]] = []
        self.distrusted: dict[str, str] = {}
        self._servers: dict[str, tuple[Server, float]] = {}
        self._due: list[Due] = []
        self._numbers = count()
        self._free_at = 0.0
        self.tell(self._head())

    def join(self, name: str, server: Server, delay: float = 0.05) -> None:
        """A peer that answers after `delay` seconds; what the server says None to is never answered."""
        self._servers[name] = (server, delay)
        self.tell(PeerJoined(name))

    def leave(self, name: str) -> None:
        """Its answers do not arrive any more."""
        del self._servers[name]
        self.tell(PeerLeft(name))

    def tell(self, event: sync.Event) -> None:
        self._carry_out(self.machine.receive(event, self.now))

    def run(self, until: float) -> None:
        """Let time pass, in the order in which things happen."""
        while True:
            deadline = self.machine.deadline()
            tick = float("inf") if deadline is None else max(deadline, self.now)
            event = self._due[0].at if self._due else float("inf")
            if min(tick, event) > until:
                self.now = until
                return
            self.now = min(tick, event)
            if event <= tick:
                self._happen(heapq.heappop(self._due).event)
            else:
                self._carry_out(self.machine.tick(self.now))
                assert self.machine.deadline() != tick or self.now < tick, (
                    "a deadline that a tick does not move"
                )

    def requests(self, kind: type, peer: str | None = None) -> list[sync.Request]:
        """What was asked, of one peer or of all."""
        return [
            request for _, name, request in self.asked if isinstance(request, kind) and peer in (None, name)
        ]

    def _happen(self, event: sync.Event) -> None:
        if isinstance(event, Answered) and event.peer not in self._servers:
            return
        self.tell(event)

    def _later(self, at: float, event: sync.Event) -> None:
        heapq.heappush(self._due, Due(at, next(self._numbers), event))

    def _carry_out(self, effects: list[sync.Effect]) -> None:
        for effect in effects:
            match effect:
                case Ask():
                    self._ask(effect)
                case Import():
                    self._import(effect)
                case Distrust():
                    self.distrusted[effect.peer] = effect.reason

    def _ask(self, effect: Ask) -> None:
        request = decode_request(effect.data)
        self.asked.append((self.now, effect.peer, request))
        server, delay = self._servers[effect.peer]
        reply = server(request)
        if reply is not None:
            data = reply if isinstance(reply, bytes) else encode_response(reply)
            assert len(data) <= effect.max_bytes
            self._later(self.now + delay, Answered(effect.peer, effect.request_id, data))

    def _import(self, effect: Import) -> None:
        """The chain takes the blocks at once, and is free for the next batch when that has taken its time."""
        error: str | None = None
        for block in effect.blocks:
            try:
                outcome = self.chain.on_block(block, 2**60)
            except (UnknownParent, FutureBlock, StaleBlock):
                break
            except InvalidBlock as problem:
                error = str(problem)
                break
            if any(isinstance(item, HeadChanged) for item in outcome):
                self._later(self.now, self._head())
        self._free_at = max(self._free_at, self.now) + EXECUTION_S * len(effect.blocks)
        self._later(self._free_at, Imported(effect.batch_id, error))

    def _head(self) -> HeadIs:
        head = self.chain.head
        return HeadIs(head.height, head.weight, self.chain.locator(), self.chain.justified.number)
