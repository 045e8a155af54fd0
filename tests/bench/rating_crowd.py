"""What a rating window of many validators costs: `python -m tests.bench.rating_crowd`. Prints JSON.

One whole window of honest validators in this process, by the real rules: blocks with everybody's votes, pool,
audits, signatures and VRF of libsodium. What is trained is a stub whose weights are one hash, which changes
neither a byte of what is sent nor what has to be replayed. Then the chain is executed again, nothing being
remembered, and the processor time of each transition is taken; the anchor is a block with votes alone.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from chain import crypto, vrf
from chain.params import PRESETS
from chain.rating.closing import Reason
from chain.rating.items import Ruling
from chain.state import genesis_state
from chain.transition import apply_block
from chain.types import Block
from tests.chain.rating_players import EPISODE, Game, Player, StubBench

VOTES, END = "votes alone", "end of the window"


class CountingBench(StubBench):
    """Counts the segments that are trained to reveal and to audit."""

    trained = 0

    def looks(
        self, challenge: bytes, episode: int, steps: Mapping[int, int]
    ) -> dict[int, tuple[bytes, bytes]]:
        self.trained += max(steps) + 1
        return super().looks(challenge, episode, steps)

    def evaluate(
        self, challenge: bytes, episode: int, rows: Sequence[int]
    ) -> tuple[bytes, tuple[tuple[int, ...], ...]]:
        self.trained += EPISODE
        return super().evaluate(challenge, episode, rows)


def lived(nodes: int, segments: int, preset: str) -> tuple[Game, dict[str, int]]:
    """A window, and the segments that were trained in it, by what for."""
    bench = CountingBench()
    player = type("Claiming", (Player,), {"segments": segments})
    game = Game(1, [player] * nodes, count=nodes, params=PRESETS[preset], bench=bench)
    done = {"rated": nodes * segments}
    game.begin()
    game.train()
    for name, phase in (("revealed", game.draw), ("audited", game.audit), ("looked at again", game.close)):
        before = bench.trained
        phase()
        done[name] = bench.trained - before
    return game, done


def blocks_of(game: Game) -> list[Block]:
    """Those of the window: from its announcement on."""
    chain = game.world.chain
    since = game.world.genesis.slot_start_ms(game.borders.announce)
    found = list(chain.ancestors(chain.head.id))
    return [block for block in reversed(found) if block.sealed.timestamp_ms >= since]


def sent(blocks: Sequence[Block], nodes: int) -> dict[str, Any]:
    """Encoded rating items in blocks."""
    count, size = Counter[str](), Counter[str]()
    for block in blocks:
        for item in block.body.ratings:
            assert not isinstance(item, Ruling), "all are honest"
            count[item.TAG] += 1
            size[item.TAG] += len(item.encoded)
    return {
        "items": {tag: {"count": count[tag], "mean bytes": round(size[tag] / count[tag])} for tag in count},
        "bytes on chain": size.total(),
        "bytes of a rating": round(size.total() / nodes),
    }


def transitions(game: Game, blocks: Sequence[Block]) -> dict[str, Any]:
    """Processor seconds of executing each block anew, by what is in it; and the fullest body."""
    took: dict[str, list[float]] = defaultdict(list)
    limit, fullest = game.world.genesis.params.max_body_bytes, 0
    state = genesis_state(game.world.genesis)
    for block in reversed(list(game.world.chain.ancestors(blocks[0].prev))):
        state = apply_block(state, block)
    for block in blocks:
        crypto.verify_once.cache_clear()
        vrf.verify_once.cache_clear()
        began = time.process_time()
        after = apply_block(state, block)
        seconds = time.process_time() - began
        tags = {item.TAG for item in block.body.ratings if not isinstance(item, Ruling)}
        ended = after.window().over and not state.window().over
        took[END if ended else " and ".join(sorted(tags)) or VOTES].append(seconds)
        fullest = max(fullest, len(block.body.encode()))
        state = after
    return {
        "votes in a block": max(len(block.body.votes) for block in blocks),
        "fullest body": {"bytes": fullest, "of the limit": round(fullest / limit, 4)},
        "transitions": {
            name: {
                "blocks": len(found),
                "median s": round(median(found), 4),
                "longest s": round(max(found), 4),
                "over votes alone": round(median(found) / median(took[VOTES]), 2),
            }
            for name, found in took.items()
        },
    }


def measure(nodes: int, segments: int, preset: str) -> dict[str, Any]:
    """The whole study."""
    game, done = lived(nodes, segments, preset)
    outcomes = [game.state.standing(public).outcomes[-1] for public in game.players]
    assert all(outcome.reason == Reason.RATED and not outcome.missed for outcome in outcomes)
    blocks = blocks_of(game)
    return {
        "nodes": nodes,
        "segments of each": segments,
        "preset": preset,
        "audits of each": {
            "mean": round(fmean(outcome.duties for outcome in outcomes), 2),
            "most": max(outcome.duties for outcome in outcomes),
        },
        **sent(blocks, nodes),
        "segments trained": done,
        "audited over rated": round(done["audited"] / done["rated"], 4),
        **transitions(game, blocks),
        "load": round(os.getloadavg()[0], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--segments", type=int, default=2_000, help="that each validator claims")
    parser.add_argument(
        "--preset", choices=[n for n, p in PRESETS.items() if p.window_every_epochs], default="demo"
    )
    given = parser.parse_args()
    print(json.dumps(measure(given.nodes, given.segments, given.preset), indent=2))


if __name__ == "__main__":
    main()
