"""The sync pump in virtual time, on a stand-in for a host: reports of liars, and batches in their order."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio

from chain import body_window, sync_download
from chain.forkchoice import Chain
from chain.sync import DISTRUST, HeadIs, Import, Sync, decode_request, encode_response
from chain.sync_messages import PROTOCOL
from chain.sync_server import answer
from p2pml.net.scores import Deed
from p2pml.net.sync import AGAIN_S, SyncPump
from tests.chain.conftest import World


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
    chain = World().chain
    machine = Sync(chain.genesis, random.Random(1), lambda: chain)
    pump = SyncPump(desk, machine, no_import, no_answer)
    async with trio.open_nursery() as nursery:
        await nursery.start(pump.run)
        await trio.sleep(DISTRUST - 2)
        assert desk.reports == [("liar", Deed.LIED)]
        asked = len(desk.asked)
        await trio.sleep(AGAIN_S + 10)
        assert len(desk.asked) > asked
        assert desk.reports == [("liar", Deed.LIED)] * 2
        nursery.cancel_scope.cancel()


class Library(Desk):
    """One connected peer with a chain, whose answers take their time."""

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        self.chain, self.rng = chain, random.Random(4)

    async def request(self, peer: str, *rest: Any) -> bytes:
        protocol, message, within, limit = rest
        assert protocol == PROTOCOL
        await trio.sleep(self.rng.uniform(0.01, within / 10))
        data = encode_response(answer(decode_request(message), self.chain, lambda block_id: None))
        assert len(data) <= limit
        return data


async def test_batches_are_imported_one_after_the_other(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_window, "MAX_BODIES", 2)
    monkeypatch.setattr(sync_download, "IMPORT_BLOCKS", 3)
    world, rng = World(), random.Random(5)
    for _ in range(24):
        world.mine(world.transfer(0, 1, 1))
    chain, heights, busy = Chain(world.genesis), [], []

    async def import_blocks(batch: Import) -> str | None:
        assert not busy, "one batch at a time"
        busy.append(batch.batch_id)
        for block in batch.blocks:
            await trio.sleep(rng.uniform(0.0, 2.0))
            chain.on_block(block, 2**60)
            heights.append(block.height)
        pump.tell(HeadIs(chain.head.height, chain.head.weight, chain.locator()))
        busy.clear()
        return None

    desk: Any = Library(world.chain)
    machine = Sync(chain.genesis, random.Random(1), lambda: chain)
    pump = SyncPump(desk, machine, import_blocks, no_answer)
    pump.tell(HeadIs(0, 0, chain.locator()))
    async with trio.open_nursery() as nursery:
        await nursery.start(pump.run)
        await trio.sleep(120)
        assert heights == list(range(1, 25))
        assert desk.reports == [("liar", Deed.ANSWERED)] * (len(desk.reports))
        assert len(desk.reports) >= 8
        nursery.cancel_scope.cancel()
