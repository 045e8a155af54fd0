"""How fast a late node catches up: blocks of five transactions and every validator's vote, on loopback.

One process has the late node and its peers, each with its host, database and chain service. Four things are
timed, each with nothing remembered of the checks before: executing the blocks, which is the anchor; the same
through the chain service with its database; syncing them from one peer, and from three. Prints blocks per
second, and what share of the anchor that is, as JSON.

    python -m tests.bench.sync                                # 600 blocks, the best of 3 rounds
    python -m tests.bench.sync --smoke
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from chain import crypto, vrf
from chain.forkchoice import Chain
from chain.genesis import Genesis
from chain.params import DEMO
from chain.types import Block
from p2pml.net.gossip import Gossip
from p2pml.net.host import Host
from p2pml.node.chain_service import ChainService
from p2pml.node.events import Events
from p2pml.storage.chain_db import ChainDb
from tests.chain.conftest import World

TXS = 5
USERS = 10
DEADLINE_S = 600.0


def forget() -> None:
    """Forget all signatures and proofs that were checked."""
    crypto.verify_once.cache_clear()
    vrf.verify_once.cache_clear()


def make_chain(count: int) -> tuple[Genesis, list[bytes]]:
    """A chain of `count` blocks, encoded, long ago."""
    world, blocks = World(users=USERS, params=DEMO), []
    for number in range(count):
        first = TXS * number
        txs = [world.transfer((first + i) % USERS, (first + i + 1) % USERS, 1) for i in range(TXS)]
        blocks.append(world.mine(*txs).encoded)
        world.all_vote()
    return world.genesis, blocks


def now_ms() -> int:
    return int(time.time() * 1000)


@asynccontextmanager
async def node(
    number: int, genesis: Genesis, folder: Path, stored: Sequence[bytes]
) -> AsyncIterator[tuple[Host, ChainService]]:
    """A node without keys that begins with these blocks on its disk."""
    db = ChainDb(folder / f"{number}.sqlite", genesis.chain_id)
    blocks = [Block.decode(data) for data in stored]
    db.commit(blocks, (), blocks)
    host = Host(bytes([number]) * 32)
    gossip = Gossip(host, genesis.chain_id)
    service = ChainService(genesis, db, None, host, gossip, None, Events(), now_ms)
    async with trio.open_nursery() as nursery:
        for part in (host.run, gossip.run, service.run):
            await nursery.start(part)
        yield host, service
        nursery.cancel_scope.cancel()
    db.close()


async def execute(genesis: Genesis, data: Sequence[bytes], folder: Path) -> float:
    """Seconds for decoding and executing, in memory."""
    forget()
    began, chain = time.perf_counter(), Chain(genesis)
    for item in data:
        chain.on_block(Block.decode(item), now_ms())
        await trio.lowlevel.checkpoint()
    return time.perf_counter() - began


async def store(genesis: Genesis, data: Sequence[bytes], folder: Path) -> float:
    """The same by the chain service, as a download gives it: many at once."""
    async with node(1, genesis, folder, ()) as (_, service):
        forget()
        began = time.perf_counter()
        for first in range(0, len(data), 32):
            blocks = [Block.decode(item) for item in data[first : first + 32]]
            assert await service.offer(*blocks) is None
        took = time.perf_counter() - began
        assert service.head().height == len(data)
    return took


async def sync(peers: int, genesis: Genesis, data: Sequence[bytes], folder: Path) -> float:
    """Seconds from the first connection until the late node has the peers' head."""
    async with trio.open_nursery() as nursery:
        hosts = []
        for number in range(1, peers + 1):
            host, _ = await nursery.start(_serving, number, genesis, folder, data)
            hosts.append(host)
        async with node(100, genesis, folder, ()) as (late, service):
            forget()
            began = time.perf_counter()
            for host in hosts:
                await late.connect(host.addrs()[0])
            with trio.fail_after(DEADLINE_S):
                while service.head().height < len(data):  # noqa: ASYNC110  (its events are its own)
                    await trio.sleep(0.02)
            took = time.perf_counter() - began
        nursery.cancel_scope.cancel()
    return took


async def _serving(
    number: int, genesis: Genesis, folder: Path, data: Sequence[bytes], *, task_status: Any
) -> None:
    async with node(number, genesis, folder, data) as found:
        task_status.started(found)
        await trio.sleep_forever()


Run = Callable[[Genesis, Sequence[bytes], Path], Awaitable[float]]
RUNS: dict[str, Run] = {
    "executing": execute,
    "executing and storing": store,
    "sync from 1 peer": functools.partial(sync, 1),
    "sync from 3 peers": functools.partial(sync, 3),
}


def measure(rounds: int, count: int) -> dict[str, Any]:
    genesis, data = make_chain(count)
    load = os.getloadavg()
    took: dict[str, list[float]] = {name: [] for name in RUNS}
    for _ in range(rounds):
        for name, run in RUNS.items():
            with tempfile.TemporaryDirectory() as folder:
                took[name].append(trio.run(run, genesis, data, Path(folder)))
    speed = {name: count / min(times) for name, times in took.items()}
    return {
        "cpus": os.cpu_count(),
        "load": {"before": load, "after": os.getloadavg()},
        "blocks": count,
        "bytes per block": sum(map(len, data)) // count,
        "blocks per second": {name: round(value, 1) for name, value in speed.items()},
        "of executing": {name: round(value / speed["executing"], 2) for name, value in speed.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--blocks", type=int, default=600)
    parser.add_argument("--smoke", action="store_true", help="one round of 40 blocks")
    given = parser.parse_args()
    print(json.dumps(measure(1, 40) if given.smoke else measure(given.rounds, given.blocks), indent=2))


if __name__ == "__main__":
    main()
