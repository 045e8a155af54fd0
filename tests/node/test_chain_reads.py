"""What reading the chain does with time."""

from __future__ import annotations

from pathlib import Path

import trio
import trio.testing

from chain.forkchoice import Chain
from chain.mempool import Mempool
from p2pml.node.chain_reads import LOOK_S, ChainReads
from p2pml.storage.chain_db import ChainDb
from tests.chain.conftest import World


async def test_who_sleeps_until_a_time_wakes_soon_after_the_clock_jumped(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """As after the sleep of the whole machine, in which trio's clock stands still."""
    genesis, slept = World((10,)).genesis, 0
    db = ChainDb(tmp_path / "chain.sqlite", genesis.chain_id)
    reads = ChainReads(
        genesis, Chain(genesis), Mempool(), db, lambda: slept + int(1000 * trio.current_time())
    )
    begun = trio.current_time()

    async def sleep_machine() -> None:
        nonlocal slept
        await trio.sleep(10)
        slept = 590_000

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleep_machine)
        await reads.sleep_until(reads.clock_ms() + 600_000)
        assert 10 <= trio.current_time() - begun <= 10 + LOOK_S
    db.close()
