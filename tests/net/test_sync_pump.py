"""The sync pump in virtual time, on a stand-in for a host: who lied is reported, and later asked again."""

from __future__ import annotations

import random
from typing import Any

import trio

from chain.sync import DISTRUST, Sync
from p2pml.net.scores import Deed
from p2pml.net.sync import AGAIN_S, SyncPump


class Desk:
    """What the pump needs of a host: one connected peer, whose answers nobody can decode."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.reports: list[tuple[str, Deed]] = []

    def connected(self) -> list[str]:
        return ["liar"]

    def handle(self, protocol: str, handler: Any) -> None:
        pass

    async def request(self, peer: str, *rest: Any) -> bytes:
        self.asked.append(trio.current_time())
        return b"rubbish"

    def report(self, peer: str, deed: Deed, why: str) -> None:
        self.reports.append((peer, deed))


async def no_import(batch: Any) -> str | None:
    raise AssertionError("nothing comes that could be imported")


async def no_answer(request: Any) -> bytes:
    raise AssertionError("nobody asks")


async def test_who_lied_is_reported_and_gets_a_fresh_chance_even_if_it_stays(autojump_clock: object) -> None:
    desk: Any = Desk()
    pump = SyncPump(desk, Sync(bytes(32), random.Random(1), lambda block: False), no_import, no_answer)
    async with trio.open_nursery() as nursery:
        await nursery.start(pump.run)
        await trio.sleep(DISTRUST - 2)
        assert desk.reports == [("liar", Deed.LIED)]
        asked = len(desk.asked)
        await trio.sleep(AGAIN_S + 10)
        assert len(desk.asked) > asked
        assert desk.reports == [("liar", Deed.LIED)] * 2
        nursery.cancel_scope.cancel()
