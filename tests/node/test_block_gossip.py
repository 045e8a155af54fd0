"""Headers by gossip, bodies by stream: followers of a chain, and a host of no chain that announces blocks."""

# ruff: noqa: ASYNC110  (a test polls what has no event)
from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio

from chain import bodies
from chain.bodies import body_of
from chain.crypto import Keypair
from chain.forkchoice import Chain
from chain.genesis import Founder, Genesis
from chain.params import DEMO, TOKEN
from chain.producer import ProposerKeys, build_block, ranks_for
from chain.transactions import Transfer, sign_tx
from chain.types import Block
from p2pml.net.gossip import Gossip, Verdict
from p2pml.net.host import Host
from p2pml.node.block_gossip import HEADERS
from p2pml.node.chain_service import ChainService
from p2pml.node.events import Events
from p2pml.storage.chain_db import ChainDb

pytestmark = pytest.mark.slow

SLOT_MS = 400
FAST = replace(DEMO, slot_ms=SLOT_MS, rank_step_ms=100, slots_per_epoch=8, window_every_epochs=8)
KEYS = ProposerKeys.from_seeds(b"\x01" * 32, b"\x65" * 32)
BOB = Keypair.from_seed(b"\x77" * 32)


def clock() -> int:
    return int(time.time() * 1000)


def new_genesis() -> Genesis:
    founder = Founder(KEYS.public, KEYS.vrf_public, 10, "n0")
    return Genesis("bodies-test", clock(), FAST, (founder,), ((KEYS.public, 1000 * TOKEN),))


@dataclass
class Node:
    host: Host
    service: ChainService


async def start(nursery: trio.Nursery, i: int, genesis: Genesis, folder: Path, bootstrap: list[str]) -> Node:
    """A follower; its database is closed with the nursery."""
    host = Host(bytes([i + 11]) * 32, bootstrap=bootstrap)
    gossip = Gossip(host, genesis.chain_id, heartbeat=0.2)

    async def life(task_status: trio.TaskStatus[Node] = trio.TASK_STATUS_IGNORED) -> None:
        with closing(ChainDb(folder / f"n{i}.sqlite", genesis.chain_id)) as db:
            service = ChainService(genesis, db, None, host, gossip, None, Events(), clock)
            async with trio.open_nursery() as inner:
                for part in (host.run, gossip.run, service.run):
                    await inner.start(part)
                task_status.started(Node(host, service))

    node: Node = await nursery.start(life)
    return node


async def until(condition: Callable[[], bool], seconds: float) -> None:
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.05)


class Announcer:
    """A host of no chain that gossips headers and answers for bodies as it is told to."""

    def __init__(self, genesis: Genesis) -> None:
        self.host = Host(bytes([210]) * 32)
        self.gossip = Gossip(self.host, genesis.chain_id, heartbeat=0.2)
        self.bodies: dict[bytes, bytes] = {}
        self.asked: list[bytes] = []
        self.silent = False

    async def start(self, nursery: trio.Nursery, node: Node) -> None:
        await nursery.start(self.host.run)
        self.host.serve(bodies.PROTOCOL, self._serve)
        self.gossip.subscribe(HEADERS, lambda data: Verdict.ACCEPT, lambda peer, data: None)
        await nursery.start(self.gossip.run)
        await self.host.connect(node.host.addrs()[0])
        await until(lambda: bool(self.gossip.peers(HEADERS)), 10)
        await trio.sleep(0.5)

    async def _serve(self, peer: str, block_id: bytes) -> bytes:
        self.asked.append(block_id)
        if self.silent:
            await trio.sleep_forever()
        return self.bodies.get(block_id, b"")


async def mined(genesis: Genesis, count: int) -> list[Block]:
    """Blocks with a transfer each, in slots that have begun."""
    chain, keys, blocks = Chain(genesis), KEYS, list[Block]()
    for slot in range(1, 1000):
        if len(blocks) == count:
            break
        if not ranks_for(slot, keys.keypair, chain.state()):
            continue
        tx = sign_tx(
            keys.keypair, genesis.chain_id, Transfer(BOB.public, 1), nonce=len(blocks),
            valid_until_slot=10**6, fee=genesis.params.min_fee,
        )  # fmt: skip
        rank = ranks_for(slot, keys.keypair, chain.state())[0]
        blocks.append(build_block(chain, slot, rank, keys, [tx]))
        chain.on_block(blocks[-1], clock() + 10**9)
    while clock() < blocks[-1].sealed.timestamp_ms + SLOT_MS:
        await trio.sleep(0.05)
    return blocks


@pytest.mark.parametrize("answer", ["nothing", "another body", "silence"])
async def test_a_body_that_the_announcer_does_not_give_comes_from_another_peer(
    tmp_path: Path, answer: str
) -> None:
    genesis = new_genesis()
    async with trio.open_nursery() as nursery:
        holder = await start(nursery, 0, genesis, tmp_path, [])
        node = await start(nursery, 1, genesis, tmp_path, holder.host.addrs())
        announcer = Announcer(genesis)
        await announcer.start(nursery, node)
        first, second = await mined(genesis, 2)
        if answer == "another body":
            announcer.bodies[first.block_id] = body_of(second.encoded, second.sealed)
        elif answer == "silence":
            announcer.silent = True
        await until(lambda: node.host.is_connected(holder.host.peer_id), 10)
        assert await holder.service.offer(first) is None
        await announcer.gossip.publish(HEADERS, first.sealed.encoded)
        await until(lambda: node.service.head().id == first.block_id, 5)
        assert announcer.asked == [first.block_id]
        nursery.cancel_scope.cancel()


async def test_headers_that_come_before_their_parents_wait_for_them(tmp_path: Path) -> None:
    genesis = new_genesis()
    async with trio.open_nursery() as nursery:
        node = await start(nursery, 1, genesis, tmp_path, [])
        announcer = Announcer(genesis)
        await announcer.start(nursery, node)
        blocks = await mined(genesis, 3)
        announcer.bodies = {block.block_id: body_of(block.encoded, block.sealed) for block in blocks}
        for block in reversed(blocks):
            await announcer.gossip.publish(HEADERS, block.sealed.encoded)
        await until(lambda: node.service.head().id == blocks[-1].block_id, 10)
        assert announcer.asked == [block.block_id for block in blocks]
        nursery.cancel_scope.cancel()


async def test_an_early_header_is_held_and_passed_on_when_it_is_due(tmp_path: Path) -> None:
    genesis = new_genesis()
    async with trio.open_nursery() as nursery:
        node = await start(nursery, 1, genesis, tmp_path, [])
        other = await start(nursery, 2, genesis, tmp_path, node.host.addrs())
        announcer = Announcer(genesis)
        await announcer.start(nursery, node)
        slot = node.service.slot_now() + 2
        early = build_block(node.service.chain, slot, 0, KEYS)
        await announcer.gossip.publish(HEADERS, early.sealed.encoded)
        await until(lambda: other.service.head().id == early.block_id, 5)
        assert announcer.asked == []  # an empty body is known from its header
        nursery.cancel_scope.cancel()
