"""What a download costs by the size of its requests: one seed, one leecher, on loopback, in one process.

The real hosts, pumps and machines; pieces stay in memory, but are read and hashed in threads as by the store.
The sizes take turns within every round, so that a busy machine slows all of them alike. Prints
MiB per second and per second of processor time as JSON, and each size's ratio to the first.

    python tests/bench/blocks.py                                # 5 rounds of 128 MiB with 16 KiB and 128 KiB
    python tests/bench/blocks.py --rounds 1 --mib 32 --sizes 16384 65536 131072
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import random
import statistics
import time
from collections.abc import Sequence
from typing import Any

import trio

from p2pml.errors import UserError
from p2pml.net.host import Host
from p2pml.net.piece_exchange import PieceExchange
from p2pml.net.piece_ports import Range
from p2pml.net.pieces import SwarmPump
from torrent.config import SwarmConfig
from torrent.metainfo import Metainfo, create, plan
from torrent.swarm import Swarm

PIECE = 1 << 20
DEADLINE_S = 300.0


class Side:
    """A host with one swarm; its disk is a dictionary."""

    def __init__(self, number: int, metainfo: Metainfo, pieces: dict[int, bytes], block: int) -> None:
        self.host = Host(hashlib.sha256(f"blocks-bench {number}".encode()).digest())
        self.metainfo = metainfo
        self.pieces = pieces
        self.done = trio.Event()
        config = SwarmConfig(max_block=block)
        swarm = Swarm(metainfo, list(pieces), rng=random.Random(number), config=config)
        self.pump = SwarmPump(self.host, metainfo.info_hash, swarm, self, self, None)
        PieceExchange(self.host).add(self.pump)

    async def read(self, ranges: Sequence[Range]) -> Sequence[bytes]:
        return await trio.to_thread.run_sync(
            lambda: [self.pieces[index][begin : begin + length] for index, begin, length in ranges]
        )

    async def write(self, pieces: Sequence[tuple[int, bytes | bytearray]]) -> Sequence[bool]:
        verdicts = await trio.to_thread.run_sync(
            lambda: [self.metainfo.verify_piece(index, data) for index, data in pieces]
        )
        self.pieces |= {index: bytes(data) for index, data in pieces}
        return verdicts

    def piece_kept(self, index: int) -> None:
        pass

    def completed(self) -> None:
        self.done.set()

    def local_problem(self, error: UserError) -> None:
        raise error


async def download(metainfo: Metainfo, piece: bytes, block: int) -> tuple[float, float]:
    """Seconds, and seconds of processor time, of one download."""
    async with trio.open_nursery() as nursery:
        seed = Side(0, metainfo, dict.fromkeys(range(metainfo.piece_count), piece), block)
        leecher = Side(1, metainfo, {}, block)
        for side in (seed, leecher):
            await nursery.start(side.host.run)
            await nursery.start(side.pump.run)
        await leecher.host.connect(seed.host.addrs()[0])
        began, spent = time.perf_counter(), time.process_time()
        leecher.pump.offer([seed.host.peer_id])
        with trio.fail_after(DEADLINE_S):
            await leecher.done.wait()
        cost = time.perf_counter() - began, time.process_time() - spent
        nursery.cancel_scope.cancel()
    return cost


def measure(rounds: int, mib: int, sizes: Sequence[int]) -> dict[str, Any]:
    piece = random.Random(1).randbytes(PIECE)
    pieces = hashlib.sha1(piece, usedforsecurity=False).digest() * mib
    metainfo = create("bench", plan([(("bench",), mib * PIECE)], PIECE), PIECE, pieces, single_file=True)
    load = os.getloadavg()
    costs: dict[int, list[tuple[float, float]]] = {size: [] for size in sizes}
    for _ in range(rounds):
        for size in sizes:
            costs[size].append(trio.run(functools.partial(download, metainfo, piece, size)))
    speed, economy = (
        {size: statistics.median(mib / run[which] for run in runs) for size, runs in costs.items()}
        for which in (0, 1)
    )
    return {
        "cpus": os.cpu_count(),
        "load": {"before": load, "after": os.getloadavg()},
        "MiB per second": {str(size): round(value, 1) for size, value in speed.items()},
        "MiB per processor second": {str(size): round(value, 1) for size, value in economy.items()},
        "ratio": {str(size): round(value / economy[sizes[0]], 2) for size, value in economy.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=128)
    parser.add_argument("--sizes", type=int, nargs="+", default=[16_384, 131_072])
    given = parser.parse_args()
    print(json.dumps(measure(given.rounds, given.mib, given.sizes), indent=2))


if __name__ == "__main__":
    main()
