"""How soon a message is everywhere: our gossip on our transport beside libp2p's own defaults on its.

All hosts share one process (and so one processor) and talk over pipes in memory or TCP on loopback, each
connected to a ring neighbour and to a few at random. Latency is from the call of publish to the delivery at
each other host; `lost` counts deliveries that never came. The burst is of transactions published at once, by
one message each with the library's defaults (`before`), and as a node sends them (`after`): batches, and
neighbours asked for what gossip lost. `before` runs on the stock transport and `after` on the fast one unless
`--transport` puts both on one. Prints JSON with the machine's load.

    python -m tests.bench.gossip                            # 20 hosts, 1 KB and 64 KB, burst of 1,000
    python -m tests.bench.gossip --transport stock          # what gossip itself changes
    python -m tests.bench.gossip --wires tcp --messages 20 --only after
    python -m tests.bench.gossip --only burst-after --profile
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import random
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service

from chain.crypto import Keypair
from chain.forkchoice import Chain
from chain.genesis import Founder, Genesis
from chain.mempool import Mempool
from chain.params import DEMO, TOKEN
from chain.producer import ProposerKeys
from chain.transactions import Transfer, Tx, sign_tx
from p2pml.net.gossip import PROTOCOL, Gossip, Verdict
from p2pml.net.host import Host
from p2pml.net.memory_transport import MemoryNetwork
from p2pml.node.chain_reads import ChainReads
from p2pml.node.outbox import Outbox
from p2pml.node.pool_gossip import PoolGossip
from p2pml.storage.chain_db import ChainDb

TOPIC = "bench"
EXTRA_LINKS = 3
SETTLE_S = 3.0
BURST_S = 120.0
OWN_TRANSPORT = {"before": "stock", "after": "fast"}
QUIET_S = 5.0
"""Nothing new for so long: what has not come is lost."""
PROFILED = 25
SENDERS = [Keypair.from_seed(bytes([i, 7]) * 16) for i in range(40)]
FOUNDER = ProposerKeys.from_seeds(b"\x01" * 32, b"\x02" * 32)
GENESIS = Genesis(
    "bench", 1_700_000_000_000, DEMO, (Founder(FOUNDER.public, FOUNDER.vrf_public, 10, "founder"),),
    tuple((keys.public, 1000 * TOKEN) for keys in SENDERS),
)  # fmt: skip


class Library:
    """Pubsub as libp2p sets it up when only the three degrees, which have no default, are given."""

    def __init__(self, host: Host) -> None:
        self._router = GossipSub(protocols=[PROTOCOL], degree=6, degree_low=4, degree_high=8)
        self._pubsub = Pubsub(host.raw, self._router)
        self._deliver: Callable[[bytes], None] = lambda data: None

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        async with background_trio_service(self._pubsub), background_trio_service(self._router):
            await self._pubsub.wait_until_ready()
            subscription = await self._pubsub.subscribe(TOPIC)
            task_status.started()
            while True:
                self._deliver(bytes((await subscription.get()).data))

    def subscribe(self, deliver: Callable[[bytes], None]) -> None:
        self._deliver = deliver

    async def publish(self, data: bytes) -> None:
        await self._pubsub.publish(TOPIC, data)


class Ours:
    """The node's gossip."""

    def __init__(self, host: Host) -> None:
        self._gossip = Gossip(host, bytes(32))

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        await self._gossip.run(task_status=task_status)

    def subscribe(self, deliver: Callable[[bytes], None]) -> None:
        self._gossip.subscribe(TOPIC, lambda data: Verdict.ACCEPT, lambda origin, data: deliver(data))

    async def publish(self, data: bytes) -> None:
        await self._gossip.publish(TOPIC, data)


class Pools:
    """A node's waiting transactions, without the rest of the node: batches, and comparing with neighbours."""

    def __init__(self, host: Host) -> None:
        self._gossip = Gossip(host, GENESIS.chain_id)
        self._folder = TemporaryDirectory()
        db = ChainDb(Path(self._folder.name) / "chain.sqlite", GENESIS.chain_id)
        self.reads = ChainReads(GENESIS, Chain(GENESIS), Mempool(), db, lambda: GENESIS.time_ms + 1000)
        self._pools = PoolGossip(self.reads, host, self._gossip, random.Random(host.peer_id))
        self.outbox = Outbox(self.reads, self._pools)

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self._gossip.run)
            nursery.start_soon(self._pools.run)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self.reads.db.close()
                self._folder.cleanup()

    def subscribe(self, deliver: Callable[[bytes], None]) -> None:
        """The pool is looked at instead."""


def transactions(count: int) -> list[Tx]:
    recipient, fee = SENDERS[0].public, GENESIS.params.min_fee
    return [
        sign_tx(SENDERS[i % len(SENDERS)], GENESIS.chain_id, Transfer(recipient, 1),
                nonce=i // len(SENDERS), valid_until_slot=10**6, fee=fee)
        for i in range(count)
    ]  # fmt: skip


@asynccontextmanager
async def network(count: int, wires: str, transport: str, kind: type) -> AsyncIterator[Nodes]:
    """Running hosts with one publisher each, connected and with their meshes formed."""
    rng = random.Random(count)
    async with trio.open_nursery() as nursery:
        memory = MemoryNetwork(nursery) if wires == "memory" else None
        hosts = [
            Host(bytes([i + 1]) * 32, *([f"198.18.0.{i + 1}"] if memory else []),
                 wires=memory.transport() if memory else None, transport=transport)
            for i in range(count)
        ]  # fmt: skip
        nodes = [kind(host) for host in hosts]
        for host in hosts:
            await nursery.start(host.run)
        made = Nodes(nodes)
        for node, inbox in zip(nodes, made.inboxes, strict=True):
            node.subscribe(inbox)
            await nursery.start(node.run)
        for i, host in enumerate(hosts):
            for other in {(i + 1) % count, *rng.sample(range(count), min(EXTRA_LINKS, count))} - {i}:
                await host.connect(hosts[other].addrs()[0])
        await trio.sleep(SETTLE_S)
        yield made
        nursery.cancel_scope.cancel()


@dataclass
class Nodes:
    nodes: list[Any]
    inboxes: list[Inbox] = field(init=False)

    def __post_init__(self) -> None:
        self.inboxes = [Inbox() for _ in self.nodes]


class Inbox:
    """When each message came first."""

    def __init__(self) -> None:
        self.at: dict[bytes, float] = {}

    def __call__(self, data: bytes) -> None:
        self.at.setdefault(data[:8], time.perf_counter())


async def until_quiet(inboxes: list[Inbox], complete: int) -> None:
    """Until every inbox has `complete` messages, or nothing comes any more."""
    last, since = -1, time.perf_counter()
    while time.perf_counter() - since < QUIET_S:
        seen = sum(len(inbox.at) for inbox in inboxes)
        if seen >= complete:
            return
        if seen != last:
            last, since = seen, time.perf_counter()
        await trio.sleep(0.05)


async def latency(kind: type, options: argparse.Namespace, transport: str, size: int) -> dict[str, float]:
    """Percentiles over messages and receivers, in ms."""
    sent: dict[bytes, tuple[int, float]] = {}
    async with network(options.hosts, options.wires, transport, kind) as nodes:
        for number in range(options.messages):
            key, source = number.to_bytes(8, "big"), number % options.hosts
            sent[key] = source, time.perf_counter()
            await nodes.nodes[source].publish(key + os.urandom(size - 8))
            await trio.sleep(options.every)
        await until_quiet(nodes.inboxes, options.messages * (options.hosts - 1))
        waits = sorted(
            inbox.at[key] - began
            for i, inbox in enumerate(nodes.inboxes)
            for key, (source, began) in sent.items()
            if source != i and key in inbox.at
        )
    lost = options.messages * (options.hosts - 1) - len(waits)
    return {**{f"p{p}_ms": percentile(waits, p) for p in (50, 90, 99)}, "lost": lost}


def percentile(values: list[float], p: int) -> float:
    return round(values[min(len(values) - 1, len(values) * p // 100)] * 1000, 1) if values else float("nan")


async def plain_burst(kind: type, options: argparse.Namespace, transport: str) -> dict[str, float]:
    """One message per transaction, all at once, from four hosts."""
    async with network(options.hosts, options.wires, transport, kind) as nodes:
        began, cpu = time.perf_counter(), time.process_time()

        async def send(source: int) -> None:
            for number in range(source, options.burst, 4):
                await nodes.nodes[source].publish(number.to_bytes(8, "big") + os.urandom(192))

        async with trio.open_nursery() as nursery:
            for source in range(4):
                nursery.start_soon(send, source)
        await until_quiet(nodes.inboxes, options.burst * (options.hosts - 1))
        arrivals = [at for inbox in nodes.inboxes for at in inbox.at.values()]
    return {
        "all_s": round(max(arrivals) - began, 2),
        "processor_s": round(time.process_time() - cpu, 2),
        "lost": options.burst * (options.hosts - 1) - len(arrivals),
    }


async def pool_burst(options: argparse.Namespace, transport: str) -> dict[str, float]:
    """Transactions submitted at once at four nodes, until all of them wait in every node's pool."""
    txs = transactions(options.burst)
    async with network(options.hosts, options.wires, transport, Pools) as made:
        nodes: list[Pools] = made.nodes
        began, cpu = time.perf_counter(), time.process_time()
        for i, tx in enumerate(txs):
            nodes[i % len(SENDERS) % 4].outbox.submit_tx(tx)
        most, half_s = len(txs) * len(nodes), 0.0
        with trio.move_on_after(BURST_S):
            while (held := sum(len(node.reads.pool) for node in nodes)) < most:
                if held < most / 2:
                    half_s = time.perf_counter() - began
                await trio.sleep(0.02)
        return {
            "half_s": round(half_s, 2),
            "all_s": round(time.perf_counter() - began, 2),
            "processor_s": round(time.process_time() - cpu, 2),
            "lost": most - sum(len(node.reads.pool) for node in nodes),
        }


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    transports = {name: options.transport or own for name, own in OWN_TRANSPORT.items()}
    result: dict[str, Any] = {
        "hosts": options.hosts,
        "wires": options.wires,
        "transports": transports,
        "load": os.getloadavg()[0],
    }
    for name, kind in (("before", Library), ("after", Ours)):
        transport = transports[name]
        for label, size in (("1KB", 1000), ("64KB", 64_000)):
            if options.only in ("", name):
                result[f"{name} {label}"] = await latency(kind, options, transport, size)
                print(name, label, result[f"{name} {label}"], file=sys.stderr)
        if options.only in ("", f"burst-{name}"):
            burst = (
                plain_burst(kind, options, transport) if name == "before" else pool_burst(options, transport)
            )
            result[f"burst {name}"] = await burst
            print("burst", name, result[f"burst {name}"], file=sys.stderr)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--messages", type=int, default=40, help="per size")
    parser.add_argument("--every", type=float, default=0.25, help="seconds between two messages")
    parser.add_argument("--burst", type=int, default=1000)
    parser.add_argument("--wires", choices=("memory", "tcp"), default="memory")
    parser.add_argument(
        "--transport", choices=("stock", "fast"), default="", help="of both; else each its own"
    )
    parser.add_argument("--only", default="", help="before, after, burst-before or burst-after")
    parser.add_argument("--profile", action="store_true", help="print where the processor's time goes")
    options = parser.parse_args()
    profile = cProfile.Profile()
    if options.profile:
        profile.enable()
    print(json.dumps(trio.run(measure, options), indent=1))
    if options.profile:
        profile.disable()
        pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(PROFILED)


if __name__ == "__main__":
    main()
