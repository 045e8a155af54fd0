"""What the simulator costs: `python tests/bench/simulator.py [--quick]` prints JSON.

Runs: 100 validators for 10 virtual minutes (demo preset, one transfer a second, no votes), 40 validators that
vote for 100 slots with direct delivery (`consensus_world`), and a swarm of 100 peers with one seed (4 MiB).
CPU seconds are this process's own; the anchor, SHA-256 of 64 MiB, tells how fast and how busy the machine is.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from p2pml.scenario.links import Link
from p2pml.sim.chain_world import ChainWorld
from p2pml.sim.consensus_world import ConsensusWorld, Trial
from p2pml.sim.shortcuts import shared_transitions, stubbed_crypto
from p2pml.sim.swarm_world import SwarmWorld


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a twentieth of it, to see that it runs")
    quick = parser.parse_args().quick
    nodes, seconds, peers = (20, 60.0, 20) if quick else (100, 600.0, 100)
    validators, slots = (10, 20) if quick else (40, 100)
    chain = ChainWorld(
        1, nodes, "demo", Link(delay_ms=50, jitter_ms=10), transfers_per_second=1.0, votes=nodes <= 20
    )
    swarm = SwarmWorld(1, peers - 1, 1, 4 * 1024 * 1024, Link(rate=20_000_000, delay_ms=25))
    result = {
        "anchor": timed(anchor),
        "chain": timed(lambda: report(chain, chain.run(seconds))),
        "consensus": timed(lambda: consensus(validators, slots)),
        "swarm": timed(lambda: report(swarm, swarm.run_until_done(600.0))),
    }
    print(json.dumps(result, indent=2))


def anchor() -> dict[str, Any]:
    hashlib.sha256(bytes(64 * 1024 * 1024)).digest()
    return {"what": "SHA-256 of 64 MiB"}


def consensus(validators: int, slots: int) -> dict[str, Any]:
    with stubbed_crypto(), shared_transitions():
        return asdict(ConsensusWorld(1, Trial(validators=validators, slots=slots)).run())


def report(world: Any, done: Any) -> dict[str, Any]:
    return {**asdict(done), "problems": world.problems(done)}


def timed(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    cpu, wall = time.process_time(), time.perf_counter()
    result = run()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    result |= {"cpu_seconds": round(cpu, 2), "wall_seconds": round(wall, 2)}
    if "summary" in result:
        result["events_per_cpu_second"] = round(result["summary"]["events"] / cpu)
    return result


if __name__ == "__main__":
    main()
