"""The real node's chain service, gossip, presence and database over pipes in memory, in virtual time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from chain.genesis import Founder, Genesis
from chain.params import DEMO, TOKEN
from chain.producer import ProposerKeys
from chain.transactions import Transfer
from p2pml.net.gossip import Gossip
from p2pml.net.host import Host
from p2pml.net.memory_transport import MemoryNetwork
from p2pml.net.presence import Facts, Presence
from p2pml.node.chain_service import ChainService
from p2pml.node.events import Events
from p2pml.sim.virtual_trio import run_virtual
from p2pml.storage.chain_db import ChainDb

pytestmark = pytest.mark.slow

START_MS = 1_700_000_000_000
NODES = 5


def clock_ms() -> int:
    return START_MS + int(trio.current_time() * 1000)


def keys_of(i: int) -> ProposerKeys:
    return ProposerKeys.from_seeds(bytes([i + 1]) * 32, bytes([i + 101]) * 32)


def genesis_of(count: int) -> Genesis:
    founders = tuple(Founder(keys_of(i).public, keys_of(i).vrf_public, 10, f"n{i}") for i in range(count))
    allocations = tuple((keys_of(i).public, 1000 * TOKEN) for i in range(count))
    return Genesis("virtual", START_MS + 3000, DEMO, founders, allocations)


@contextmanager
def database(path: Path, genesis: Genesis) -> Iterator[ChainDb]:
    db = ChainDb(path, genesis.chain_id)
    try:
        yield db
    finally:
        db.close()


async def start(
    nursery: trio.Nursery,
    network: MemoryNetwork,
    i: int,
    genesis: Genesis,
    db: ChainDb,
    bootstrap: list[str],
    idle: bool,
) -> tuple[Host, ChainService]:
    host = Host(bytes([i + 11]) * 32, f"198.18.0.{i + 1}", bootstrap=bootstrap, wires=network.transport())
    gossip = Gossip(host, genesis.chain_id)
    account = keys_of(i).public
    presence = Presence(host, gossip, lambda: Facts(account, name=f"n{i}"))
    service = ChainService(genesis, db, keys_of(i), host, gossip, presence, Events(), clock_ms, idle=idle)
    for part in (host.run, gossip.run, presence.run, service.run):
        await nursery.start(part)
    return host, service


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of five nodes.

    Args:
        heights, final: by node.
        distinct: different blocks one below the lowest head.
        received: what a payment brought, on each node.
        ranks: of the blocks.
        voted: the slots of the votes that the first node has.
        silent: until which slot a node is silent before the payment, with it in the pool, when it is in a
            block, and at the end; None for not.
    """

    heights: list[int]
    final: list[int]
    distinct: int
    received: set[int]
    ranks: set[int]
    voted: set[int]
    silent: list[int | None]


async def five_nodes(folder: Path, idle: bool) -> Seen:
    """A payment is made just after a slot has begun."""
    genesis = genesis_of(NODES)
    receiver = keys_of(99).public
    with ExitStack() as stack:
        async with trio.open_nursery() as nursery:
            network = MemoryNetwork(nursery)
            services: list[ChainService] = []
            bootstrap: list[str] = []
            for i in range(NODES):
                db = stack.enter_context(database(folder / f"n{i}.sqlite", genesis))
                host, service = await start(nursery, network, i, genesis, db, bootstrap, idle)
                bootstrap = bootstrap or host.addrs()
                services.append(service)
            await services[3].wait_slot(9)
            await trio.sleep(0.1)  # the first choice has had its turn, its fallbacks have not
            silent = [services[3].silent_until()]
            paid = await services[3].send(keys_of(3).keypair, Transfer(receiver, 7))
            silent.append(services[3].silent_until())
            await services[3].wait_tx(paid.id, 20)
            silent.append(services[3].silent_until())
            await trio.sleep(61.5 - trio.current_time() % 2)
            heights = [service.head().height for service in services]
            final = [service.chain.final_height for service in services]
            ids = {service.chain.canonical_id(min(heights) - 1) for service in services}
            received = {service.account(receiver).balance for service in services}
            chain = services[0].chain
            ranks = {block.sealed.rank for block in chain.ancestors(chain.head.id)}
            voted = {vote.slot for vote in chain.votes}
            silent.append(services[3].silent_until())
            nursery.cancel_scope.cancel()
    return Seen(heights, final, len(ids), received, ranks, voted, silent)


def test_five_real_nodes_agree_for_more_than_a_virtual_minute(tmp_path: Path) -> None:
    began = time.process_time()
    seen = run_virtual(five_nodes, tmp_path, False, seed=5)
    assert seen.distinct == 1
    assert min(seen.heights) >= 30
    assert max(seen.heights) - min(seen.heights) <= 1
    assert min(seen.heights) - min(seen.final) <= 4, "blocks are final within a few slots"
    assert seen.received == {7}
    assert time.process_time() - began < 30


def test_five_real_nodes_with_nothing_to_do_are_silent_and_answer_at_once(tmp_path: Path) -> None:
    seen = run_virtual(five_nodes, tmp_path, True, seed=5)
    assert seen.distinct == 1
    assert seen.received == {7}
    # The first block, the payment, and the heartbeats of two epochs, each with the two that make it final.
    assert set(seen.heights) == {12}
    assert set(seen.final) == {10}
    assert seen.ranks == {0}
    assert seen.voted == {1, 2, 10, 11, 13, 14, 29, 30}
    assert seen.silent == [13, None, None, 45]


def test_a_virtual_hour_passes_at_once() -> None:
    async def sleep_long() -> float:
        await trio.sleep(3600)
        await trio.to_thread.run_sync(time.sleep, 0.01)
        return trio.current_time()

    began = time.perf_counter()
    assert run_virtual(sleep_long, seed=1) == pytest.approx(3600)
    assert time.perf_counter() - began < 5
