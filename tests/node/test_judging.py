"""Blocks with rulings at a node: replayed in a thread and refused if wrong, or taken without a data set."""

# ruff: noqa: ASYNC110  (a test polls what has no event)

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import trio

from chain.quality import BUNDLED
from chain.rating.bench import Counts
from chain.rating.court import Court
from chain.rating.items import Ruling
from chain.types import Block
from tests.chain.attacks.test_audits import faked, segment
from tests.chain.audited_window import Audited
from tests.node.test_chain_service import start

pytestmark = pytest.mark.slow


class Watched:
    """A data set that notes in which thread it is asked, and waits for the word to go on."""

    def __init__(self, audited: Audited, go: threading.Event) -> None:
        self._bench, self.tests, self._go = audited.bench, audited.bench.tests, go
        self.threads: list[threading.Thread] = []

    def looks(
        self, challenge: bytes, episode: int, steps: Mapping[int, int]
    ) -> dict[int, tuple[bytes, bytes]]:
        self.threads.append(threading.current_thread())
        assert self._go.wait(60)
        return self._bench.looks(challenge, episode, steps)

    def evaluate(self, challenge: bytes, episode: int, rows: Sequence[int]) -> tuple[bytes, Counts]:
        raise AssertionError("no matrix is in question")


@pytest.fixture(scope="module")
def made() -> tuple[Audited, list[Block], Block, Block]:
    """A chain that is long over, and two blocks on its head: with a wrong ruling, and with the right one."""
    audited = faked()
    world = audited.world
    slot = world.slot_with(0, world.state.slot)
    accusation = segment(audited)
    wrong, right = (world.build(slot=slot, ratings=[Ruling(accusation, guilty)]) for guilty in (False, True))
    return audited, list(world.chain.ancestors(world.chain.head.id))[::-1], wrong, right


async def test_a_node_with_the_data_set_refuses_and_one_without_takes(
    made: tuple[Audited, list[Block], Block, Block], tmp_path: Path
) -> None:
    audited, blocks, wrong, right = made
    go = threading.Event()
    watched = Watched(audited, go)
    genesis = audited.world.genesis
    async with trio.open_nursery() as nursery:
        full = await start(nursery, 0, genesis, tmp_path, [], validator=False)
        bare = await start(nursery, 1, genesis, tmp_path, [], validator=False)
        full.service.court = Court({BUNDLED: watched}.get)
        for node in (full, bare):
            assert await node.service.offer(*blocks) is None
        refused: list[str | None] = []

        async def offer() -> None:
            refused.append(await full.service.offer(wrong))

        nursery.start_soon(offer)
        while not watched.threads:
            await trio.sleep(0.01)  # the loop runs while the replay stands still
        assert refused == []
        assert full.service.head().id == blocks[-1].block_id
        go.set()
        assert await full.service.offer(wrong) == "these bytes were found bad before"
        assert refused == ["a ruling is not what the replay gives"]
        assert await full.service.offer(right) is None
        assert full.service.head().id == right.block_id == full.service.db.head_id()
        assert len(watched.threads) == 1
        assert watched.threads[0] is not threading.current_thread()
        assert await bare.service.offer(wrong) is None
        assert bare.service.head().id == wrong.block_id
        nursery.cancel_scope.cancel()


async def test_blocks_after_a_ruling_wait_for_it(
    made: tuple[Audited, list[Block], Block, Block], tmp_path: Path
) -> None:
    """As sync brings them: many at a time, the ruling in their midst."""
    audited, blocks, _, right = made
    go = threading.Event()
    go.set()
    world = audited.world
    world.give(right)
    after = world.mine()
    async with trio.open_nursery() as nursery:
        node = await start(nursery, 0, world.genesis, tmp_path, [], validator=False)
        node.service.court = Court({BUNDLED: Watched(audited, go)}.get)
        assert await node.service.offer(*blocks, right, after) is None
        assert node.service.head().id == after.block_id == node.service.db.head_id()
        nursery.cancel_scope.cancel()
