"""What a pick costs in a small and in a large torrent: `python -m tests.bench.picker [--quick]` prints JSON.

The real picker with forty peers, half of them seeds, that all deliver what they are asked for: microseconds
of processor time per request for the pick itself, and for all that a block costs (pick, accept, and of each
piece its verification and a HAVE of ten peers). In the middle of a download, the same number of requests
whatever the torrent's size; least of several rounds. The time that a peer's bitfield takes is told apart, and
so is a pick where every peer has refused a few pieces.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import time
from typing import Any

from torrent.config import SwarmConfig
from torrent.geometry import BLOCK, Geometry
from torrent.picker import Picker

PEERS = 40
BLOCKS = 4
"""In a piece."""
ROOM = 8
"""Blocks asked for at a time."""
REFUSED = 3
"""Pieces that a peer will not give for the present, where it refuses some."""


def picker(pieces: int, rng: random.Random) -> tuple[Picker, float]:
    """In the middle of a download; and the seconds that a bitfield of half the pieces took."""
    everything = (1 << pieces) - 1
    geometry = Geometry(pieces * BLOCKS * BLOCK, BLOCKS * BLOCK)
    chosen = Picker(geometry, rng.getrandbits(pieces), bytes([4]) * pieces, SwarmConfig(), rng)
    spent = 0.0
    for number in range(PEERS):
        mask = everything if number % 2 else rng.getrandbits(pieces)
        chosen.join(f"p{number}")
        begin = time.process_time()
        chosen.learn(f"p{number}", mask)
        spent = time.process_time() - begin if not number % 2 else spent
    return chosen, spent


def round_of(pieces: int, requests: int, seed: int, refused: int = 0) -> tuple[float, float, float]:
    """Microseconds per request of picking, of everything, and of a bitfield; each peer has ``refused`` so
    many pieces.
    """
    rng = random.Random(seed)
    within = ~sum(1 << piece for piece in rng.sample(range(pieces), refused))
    chosen, bitfield = picker(pieces, rng)
    data = bytes(BLOCK)
    asked, picking = 0, 0.0
    gc.disable()
    begin = time.process_time()
    while asked < requests:
        peer = f"p{rng.randrange(PEERS)}"
        start = time.process_time()
        blocks = chosen.pick(peer, ROOM, within)
        picking += time.process_time() - start
        asked += len(blocks)
        for block in blocks:
            accepted = chosen.accept(peer, block, data)
            if accepted.complete is not None:
                chosen.verified(block.piece)
                for number in range(0, PEERS, 4):
                    chosen.learn_one(f"p{number}", rng.randrange(pieces))
                    chosen.interesting(f"p{number}")
        if not blocks:
            raise SystemExit(f"nothing left to pick after {asked} requests of {pieces} pieces")
    whole = time.process_time() - begin
    gc.enable()
    return picking / asked * 1e6, whole / asked * 1e6, bitfield * 1e6


def measure(sizes: list[int], requests: int, rounds: int) -> dict[str, Any]:
    """The sizes take turns, so that a busy machine slows all of them alike."""
    runs: dict[int, list[tuple[float, ...]]] = {size: [] for size in sizes}
    for seed in range(rounds):
        for size in sizes:
            refusing = round_of(size, requests, seed, REFUSED)
            runs[size].append((*round_of(size, requests, seed), refusing[0]))
    rows = {}
    for size, measured in runs.items():
        pick, whole, bitfield, refusing_pick = (min(column) for column in zip(*measured, strict=True))
        rows[str(size)] = {
            "us_per_pick": round(pick, 2),
            "us_per_pick_refused": round(refusing_pick, 2),
            "us_per_block": round(whole, 2),
            "us_per_bitfield": round(bitfield, 1),
        }
    first, last = rows[str(sizes[0])], rows[str(sizes[-1])]
    return {
        "requests": requests,
        "rounds": rounds,
        "peers": PEERS,
        "pieces": rows,
        "pick_ratio": round(last["us_per_pick"] / first["us_per_pick"], 2),
        "refused_ratio": round(last["us_per_pick_refused"] / first["us_per_pick_refused"], 2),
        "block_ratio": round(last["us_per_block"] / first["us_per_block"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--requests", type=int, default=1200)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="one round, to see that it runs")
    given = parser.parse_args()
    print(json.dumps(measure(given.sizes, given.requests, 1 if given.quick else given.rounds), indent=2))


if __name__ == "__main__":
    main()
