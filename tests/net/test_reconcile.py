"""Comparing pools between hosts: what arrives, who lies, who asks too much."""

# ruff: noqa: ASYNC110  (a test polls what has no event)
from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from chain.crypto import H
from chain.gossip import Verdict
from chain.reconcile import MAX_ANSWER_BYTES, PROTOCOL, TX, Answer, Item, Question, Reconciler
from p2pml.net.errors import RemoteError
from p2pml.net.host import Host
from p2pml.net.limited import request_bytes, serve_limited
from p2pml.net.reconcile import ReconcilePump

pytestmark = pytest.mark.slow


def id_of(data: bytes) -> bytes:
    return H("test-item", data)


class Bag:
    """A pool of byte strings; those that begin with `bad` are invalid, with `no` not wanted."""

    def __init__(self, *data: bytes) -> None:
        self.data = list(data)
        self.blamed: list[tuple[str, str]] = []

    def known(self) -> Iterable[bytes]:
        return [id_of(data) for data in self.data]

    def items(self) -> Iterable[Item]:
        return [Item(id_of(data), TX, data) for data in self.data]

    def take(self, kind: int, data: bytes) -> tuple[Verdict, bytes]:
        if data.startswith(b"bad"):
            return Verdict.REJECT, b""
        if data.startswith(b"no") or data in self.data:
            return Verdict.IGNORE, id_of(data)
        self.data.append(data)
        return Verdict.ACCEPT, id_of(data)

    def blame(self, peer: str, what: str) -> None:
        self.blamed.append((peer, what))


async def start(nursery: trio.Nursery, number: int, bag: Bag) -> Host:
    host = Host(bytes([number]) * 32)
    await nursery.start(host.run)
    await nursery.start(ReconcilePump(host, Reconciler(random.Random(number)), bag, bag.blame).run)
    return host


@asynccontextmanager
async def asked_by(bag: Bag, answer: Callable[[str, Any], Awaitable[Any]]) -> AsyncIterator[Host]:
    """A host that answers in a way of its own, and one with that bag beside it."""
    async with trio.open_nursery() as nursery:
        villain = Host(bytes([71]) * 32)
        await nursery.start(villain.run)
        villain.serve(PROTOCOL, answer, 1 << 20)
        host = await start(nursery, 72, bag)
        await host.connect(villain.addrs()[0])
        yield villain
        nursery.cancel_scope.cancel()


async def test_two_bags_become_equal_even_if_one_answer_does_not_hold_it_all() -> None:
    left = Bag(*[b"%04d" % i + bytes(4000) for i in range(300)])
    right = Bag(*left.data[100:150], b"only here")
    async with trio.open_nursery() as nursery:
        a, b = await start(nursery, 73, left), await start(nursery, 74, right)
        await a.connect(b.addrs()[0])
        with trio.fail_after(20):
            while sorted(left.data) != sorted(right.data):
                await trio.sleep(0.05)
        assert len(left.data) == 301
        assert left.blamed == right.blamed == []
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"\xc1 what?", "undecodable"),
        (Answer(False, ((TX, b"bad one"),)).encode(), "invalid"),
        (Answer(False, ((TX, b"mine"),)).encode(), "told that we have"),
        (Answer(False, ((TX, b"x"), (TX, b"x"))).encode(), "told that we have"),
    ],
    ids=["garbage", "invalid", "known", "twice"],
)
async def test_a_liar_is_blamed_once_and_not_asked_again(answer: bytes, complaint: str) -> None:
    bag, asked = Bag(b"mine"), 0

    async def lie(peer: str, message: Any) -> bytes:
        nonlocal asked
        asked += 1
        return answer

    async with asked_by(bag, lie) as villain:
        with trio.fail_after(10):
            while not bag.blamed:
                await trio.sleep(0.05)
        await trio.sleep(1.5)
        assert [peer for peer, _ in bag.blamed] == [villain.peer_id]
        assert complaint in bag.blamed[0][1]
        assert asked == 1


@pytest.mark.parametrize(
    "answer",
    [bytes(MAX_ANSWER_BYTES + 100), "text", Answer(True, ((TX, b"no"),)).encode()],
    ids=["flood", "text", "unwanted"],
)
async def test_who_floods_or_babbles_or_sends_what_nobody_wants_rests(answer: Any) -> None:
    bag, asked = Bag(b"mine"), 0

    async def flood(peer: str, message: Any) -> Any:
        nonlocal asked
        asked += 1
        return answer

    async with asked_by(bag, flood):
        with trio.fail_after(10):
            while not asked:
                await trio.sleep(0.05)
        await trio.sleep(2.5)
        assert asked == 1
        assert bag.data == [b"mine"]


async def test_a_peer_has_one_question_answered_at_a_time() -> None:
    bag = Bag(*[b"%d" % i for i in range(50)])
    async with trio.open_nursery() as nursery:
        server = await start(nursery, 75, bag)
        asker = Host(bytes([76]) * 32)
        await nursery.start(asker.run)
        await asker.connect(server.addrs()[0])
        question, outcomes = Question.about([], bytes(16)).encode(), list[str]()

        async def ask() -> None:
            try:
                data = await request_bytes(asker, server.peer_id, PROTOCOL, question, 5, MAX_ANSWER_BYTES)
                outcomes.append("answer" if len(Answer.decode(data).items) == 50 else "?")
            except RemoteError:
                outcomes.append("refused")

        await ask()
        async with trio.open_nursery() as questions:
            for _ in range(4):
                questions.start_soon(ask)
        assert sorted(outcomes) == ["answer", "answer", "refused", "refused", "refused"]
        nursery.cancel_scope.cancel()


async def test_a_request_that_is_too_long_or_no_bytes_is_refused() -> None:
    async with trio.open_nursery() as nursery:
        server, asker = Host(bytes([77]) * 32), Host(bytes([78]) * 32)
        for host in (server, asker):
            await nursery.start(host.run)

        async def echo(peer: str, message: bytes) -> bytes:
            return message

        serve_limited(server, "/test/1", echo, 100, 1)
        await asker.connect(server.addrs()[0])
        assert await request_bytes(asker, server.peer_id, "/test/1", bytes(100), 5, 200) == bytes(100)
        for bad in (bytes(200), "text", [b"list"]):
            with pytest.raises(RemoteError):
                await asker.request(server.peer_id, "/test/1", bad, 5)
        nursery.cancel_scope.cancel()
