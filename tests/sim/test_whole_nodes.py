"""The real node's chain service, gossip, presence and database over pipes in memory, in virtual time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
    nursery: trio.Nursery, network: MemoryNetwork, i: int, genesis: Genesis, db: ChainDb, bootstrap: list[str]
) -> tuple[Host, ChainService]:
    host = Host(bytes([i + 11]) * 32, f"198.18.0.{i + 1}", bootstrap=bootstrap, wires=network.transport())
    gossip = Gossip(host, genesis.chain_id)
    account = keys_of(i).public
    presence = Presence(host, gossip, lambda: Facts(account, name=f"n{i}"))
    service = ChainService(genesis, db, keys_of(i), host, gossip, presence, Events(), clock_ms)
    for part in (host.run, gossip.run, presence.run, service.run):
        await nursery.start(part)
    return host, service


async def five_nodes(folder: Path) -> tuple[list[int], list[int], int, int]:
    """Heights, final heights, distinct blocks one below the lowest head, and what a payment brought."""
    genesis = genesis_of(NODES)
    receiver = keys_of(99).public
    with ExitStack() as stack:
        async with trio.open_nursery() as nursery:
            network = MemoryNetwork(nursery)
            services: list[ChainService] = []
            bootstrap: list[str] = []
            for i in range(NODES):
                db = stack.enter_context(database(folder / f"n{i}.sqlite", genesis))
                host, service = await start(nursery, network, i, genesis, db, bootstrap)
                bootstrap = bootstrap or host.addrs()
                services.append(service)
            await trio.sleep(20)
            await services[3].send(keys_of(3).keypair, Transfer(receiver, 7))
            await trio.sleep(61.5 - trio.current_time() % 2)
            heights = [service.head().height for service in services]
            final = [service.chain.final_height for service in services]
            ids = {service.chain.canonical_id(min(heights) - 1) for service in services}
            received = {service.account(receiver).balance for service in services}
            nursery.cancel_scope.cancel()
    return heights, final, len(ids), sum(received)


def test_five_real_nodes_agree_for_more_than_a_virtual_minute(tmp_path: Path) -> None:
    began = time.process_time()
    heights, final, distinct, received = run_virtual(five_nodes, tmp_path, seed=5)
    assert distinct == 1
    assert min(heights) >= 30
    assert max(heights) - min(heights) <= 1
    assert min(heights) - min(final) <= 4, "blocks are final within a few slots"
    assert received == 7
    assert time.process_time() - began < 30


def test_a_virtual_hour_passes_at_once() -> None:
    async def sleep_long() -> float:
        await trio.sleep(3600)
        await trio.to_thread.run_sync(time.sleep, 0.01)
        return trio.current_time()

    began = time.perf_counter()
    assert run_virtual(sleep_long, seed=1) == pytest.approx(3600)
    assert time.perf_counter() - began < 5
