"""What a network without load says, with the idle rule and without: `python -m tests.bench.idle [--quick]`.

Prints JSON. Validators on virtual time, blocks and votes flooded to six neighbours, links of 50 ms; nobody
sends anything. Per preset: blocks per epoch, and per node and hour the bytes that arrive by kind. The run
with a block in every slot is the anchor; `ratio` is the idle rule's share of its bytes of blocks and votes.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from typing import Any, ClassVar

from p2pml.scenario.links import Link
from p2pml.sim.chain_node import ANSWER, ASK, BLOCK, VOTE, ChainNode
from p2pml.sim.chain_world import ChainWorld
from p2pml.sim.shortcuts import shared_transitions, stubbed_crypto
from p2pml.sim.world import Send

KINDS = {BLOCK: "blocks", VOTE: "votes", ASK: "sync", ANSWER: "sync"}


class Counting(ChainNode):
    """A validator that counts what arrives."""

    arrived: ClassVar[Counter[str]] = Counter()

    def receive(self, source: str, payload: bytes, now: float) -> list[Send]:
        """A message from a neighbour."""
        Counting.arrived[KINDS.get(payload[:1], "transactions")] += len(payload)
        return super().receive(source, payload, now)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the preset demo and few validators")
    parser.add_argument("--epochs", type=int, default=10)
    given = parser.parse_args()
    presets, nodes, epochs = (("demo",), 4, 4) if given.quick else (("lab", "main"), 20, given.epochs)
    print(json.dumps({name: compare(name, nodes, epochs) for name in presets}, indent=2))


def compare(preset: str, nodes: int, epochs: int) -> dict[str, Any]:
    """With the rule and without."""
    idle, every = (measure(preset, nodes, epochs, idle=quiet) for quiet in (True, False))
    spoken = [
        sum(run["bytes per node and hour"][kind] for kind in ("blocks", "votes")) for run in (idle, every)
    ]
    return {"idle": idle, "every slot": every, "ratio": round(spoken[0] / spoken[1], 4)}


def measure(preset: str, nodes: int, epochs: int, *, idle: bool) -> dict[str, Any]:
    """One run, from the genesis to the end of so many epochs."""
    names = [f"n{i + 1}" for i in range(nodes)]
    Counting.arrived = Counter()
    with stubbed_crypto(), shared_transitions():
        world = ChainWorld(
            1, nodes, preset, Link(delay_ms=25), liars=dict.fromkeys(names[1:], Counting), idle=idle
        )
        params = world.genesis.params
        report = world.run(epochs * params.slots_per_epoch * params.slot_ms / 1000 - 0.001)
    chain, hours = world.node("n1").chain, report.summary.seconds / 3600
    return {
        "blocks per epoch": round(chain.head.height / epochs, 1),
        "finalized epochs": chain.state().finality.epochs,
        "bytes per node and hour": {
            kind: round(size / (nodes - 1) / hours) for kind, size in sorted(Counting.arrived.items())
        },
    }


if __name__ == "__main__":
    main()
