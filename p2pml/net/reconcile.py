"""The pump of `chain.reconcile` over `/p2pml/reconcile/1.0.0`: asks neighbours for what gossip lost."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import trio

from chain.errors import InvalidError
from chain.gossip import Verdict
from chain.recent import Recent
from chain.reconcile import (
    MAX_ANSWER_BYTES,
    MAX_QUESTION_BYTES,
    PROTOCOL,
    SALT_BYTES,
    Answer,
    Item,
    Question,
    Reconciler,
    answer,
)
from p2pml.net.errors import Malformed, RemoteError
from p2pml.net.host import Host
from p2pml.net.limited import request_bytes, serve_limited

log = logging.getLogger(__name__)

LOOK_S = 0.5
"""Seconds between two looks at who is connected."""
WITHIN_S = 10.0
GAP_S = 0.25
"""A peer's questions are answered so far apart: each costs a hash of all that we hold."""
_STEP = 16
"""Items that are judged before other tasks have a turn."""


class Pool(Protocol):
    """What is compared."""

    def known(self) -> Iterable[bytes]:
        """Ids of what need not be sent to us."""

    def items(self) -> Iterable[Item]:
        """What we can give."""

    def take(self, kind: int, data: bytes) -> tuple[Verdict, bytes]:
        """Judge and keep an item; its id goes with the verdict, empty if it has none."""


class ReconcilePump:
    """Compares a pool with those of the connected peers.

    Args:
        host: running while this runs.
        machine: owned by this pump from now on.
        pool: ours.
        blame: called with a peer that lied, and what it did.
    """

    def __init__(
        self, host: Host, machine: Reconciler, pool: Pool, blame: Callable[[str, str], None]
    ) -> None:
        self._host, self._machine, self._pool, self._blame = host, machine, pool, blame
        self._joined: set[str] = set()
        self._answered: Recent[str, float] = Recent(1024)

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Ask and answer until cancelled."""
        serve_limited(self._host, PROTOCOL, self._serve, MAX_QUESTION_BYTES, per_peer=1)
        task_status.started()
        while True:
            self._look()
            peer = self._machine.tick(trio.current_time())
            if peer is not None:
                await self._ask(peer)
                continue
            deadline, now = self._machine.deadline(), trio.current_time()
            await trio.sleep(LOOK_S if deadline is None else min(max(deadline - now, 0.01), LOOK_S))

    def _look(self) -> None:
        connected = set(self._host.connected())
        for peer in connected - self._joined:
            self._machine.joined(peer, trio.current_time())
        for peer in self._joined - connected:
            self._machine.left(peer)
        self._joined = connected

    async def _ask(self, peer: str) -> None:
        question = Question.about(self._pool.known(), secrets.token_bytes(SALT_BYTES))
        try:
            data = await request_bytes(
                self._host, peer, PROTOCOL, question.encode(), WITHIN_S, MAX_ANSWER_BYTES
            )
            await self._take(peer, question, data)
        except _Lie as lie:
            log.warning("not comparing pools with %s any more: %s", peer, lie)
            self._machine.lied(peer, trio.current_time())
            self._blame(peer, str(lie))
        except RemoteError as error:
            log.debug("no comparison with %s: %s", peer, error)
            self._machine.failed(peer, trio.current_time())

    async def _take(self, peer: str, question: Question, data: bytes) -> None:
        try:
            found = Answer.decode(data)
        except InvalidError as error:
            raise _Lie(f"it sent an undecodable answer: {error}") from error
        fresh, seen = 0, set[bytes]()
        for number, (kind, body) in enumerate(found.items):
            verdict, item_id = self._pool.take(kind, body)
            if verdict is Verdict.REJECT:
                raise _Lie("it sent an invalid item")
            if item_id in seen or question.covers(item_id):
                raise _Lie("it sent what it was told that we have")
            seen.add(item_id)
            fresh += verdict is Verdict.ACCEPT
            if number % _STEP == _STEP - 1:
                await trio.lowlevel.checkpoint()
        if fresh:
            log.debug("%d items that gossip lost came from %s", fresh, peer)
        self._machine.done(peer, fresh, len(found.items) - fresh, found.more, trio.current_time())

    async def _serve(self, peer: str, message: bytes) -> bytes:
        now = trio.current_time()
        due = max(now, (self._answered.get(peer) or now - GAP_S) + GAP_S)
        self._answered.put(peer, due)
        await trio.sleep_until(due)
        try:
            question = Question.decode(message)
        except InvalidError as error:
            raise Malformed(str(error)) from error
        return answer(question, self._pool.items()).encode()


class _Lie(Exception):
    """What no honest node answers."""
