"""Blocks that come many at a time: on disk together, before anybody is told, and none after a wrong one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from chain import foresight
from chain.forkchoice import Chain
from chain.genesis import Genesis
from chain.producer import build_block, ranks_for
from chain.types import Block
from p2pml.node import chain_service
from tests.node.test_chain_service import SLOT_MS, genesis_of, keys_of, start, until

pytestmark = pytest.mark.slow

COUNT = 30


@pytest.fixture(scope="module")
def made() -> tuple[Genesis, list[Block]]:
    """A chain that is long over."""
    genesis = genesis_of(1, delay_ms=-(COUNT + 20) * SLOT_MS)
    chain, blocks = Chain(genesis), []
    for slot in range(1, COUNT + 1):
        assert ranks_for(slot, keys_of(0).keypair, chain.state()) == (0,)
        blocks.append(build_block(chain, slot, 0, keys_of(0)))
        chain.on_block(blocks[-1], int(time.time() * 1000))
    return genesis, blocks


async def test_they_are_on_disk_in_few_steps_before_they_are_told(
    made: tuple[Genesis, list[Block]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genesis, blocks = made
    async with trio.open_nursery() as nursery:
        node = await start(nursery, 0, genesis, tmp_path, [], validator=False)
        service, commits, told = node.service, [], []
        commit, tell = service.db.commit, service._tell_head

        def counted(accepted: Sequence[Block], *rest: Any) -> None:
            commits.append(len(accepted))
            commit(accepted, *rest)

        def on_disk() -> None:
            told.append(service.db.head_id() == service.head().id)
            tell()

        monkeypatch.setattr(service.db, "commit", counted)
        monkeypatch.setattr(service, "_tell_head", on_disk)
        monkeypatch.setattr(chain_service, "STEP_S", 1e6)
        assert await service.offer(*blocks) is None
        assert service.head().id == blocks[-1].block_id
        assert commits == [COUNT]
        assert told == [True]
        again = await start(nursery, 1, genesis, tmp_path, [], validator=False)
        commit = again.service.db.commit
        monkeypatch.setattr(again.service.db, "commit", counted)
        monkeypatch.setattr(chain_service, "STEP_S", 0.0)
        commits.clear()
        assert await again.service.offer(*blocks[:6]) is None
        assert commits == [1] * 6, "a step ends after its time"
        nursery.cancel_scope.cancel()


async def test_what_follows_a_wrong_one_is_not_taken(
    made: tuple[Genesis, list[Block]], tmp_path: Path
) -> None:
    genesis, blocks = made
    wrong = replace(blocks[4], sealed=replace(blocks[4].sealed, seal=bytes(64)))
    async with trio.open_nursery() as nursery:
        node = await start(nursery, 0, genesis, tmp_path, [], validator=False)
        error = await node.service.offer(*blocks[:4], wrong, *blocks[5:])
        assert error is not None
        assert "seal" in error
        assert node.service.head().id == blocks[3].block_id == node.service.db.head_id()
        assert await node.service.offer(*blocks[4:]) is None
        assert node.service.db.head_id() == blocks[-1].block_id
        nursery.cancel_scope.cancel()


async def test_a_download_is_checked_ahead_in_threads(
    made: tuple[Genesis, list[Block]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genesis, blocks = made
    ahead: list[bytes] = []
    check = foresight._check_draw

    def noted(state: Any, block: Block) -> None:
        ahead.append(block.block_id)
        check(state, block)

    monkeypatch.setattr(foresight, "_check_draw", noted)
    async with trio.open_nursery() as nursery:
        full = await start(nursery, 0, genesis, tmp_path, [], validator=False)
        assert await full.service.offer(*blocks) is None
        assert ahead == []
        late = await start(nursery, 1, genesis, tmp_path, full.host.addrs(), validator=False)
        await until(lambda: late.service.head().height == COUNT, 20)
        assert set(ahead) == {block.block_id for block in blocks}
        nursery.cancel_scope.cancel()
