"""One seed, one run: in every process, whatever the hash seed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from p2pml.scenario.links import Link
from p2pml.sim.chain_liars import Equivocator
from p2pml.sim.chain_world import ChainWorld
from p2pml.sim.swarm_liars import POISONER
from p2pml.sim.swarm_world import SwarmWorld

pytestmark = pytest.mark.slow

PROGRAM = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("runs", sys.argv[1])
runs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(runs)
print(runs.chain_trace(21), runs.swarm_trace(21))
"""


def chain_trace(seed: int) -> str:
    """A chain with load, a liar, a crash and a partition."""
    link = Link(rate=20_000_000, delay_ms=60, jitter_ms=30, loss=0.02)
    world = ChainWorld(seed, 8, link=link, transfers_per_second=1.0, liars={"n3": Equivocator})
    world.world.at(5, lambda: world.world.crash("n1"))
    world.world.at(15, lambda: world.world.restart("n1"))
    world.world.at(20, lambda: world.world.network.partition([world.names[:4], world.names[4:]]))
    world.world.at(30, world.heal)
    return world.run(45).summary.trace


def swarm_trace(seed: int) -> str:
    """A swarm with a poisoner and a crash."""
    link = Link(rate=8_000_000, delay_ms=25, jitter_ms=5)
    world = SwarmWorld(seed, 6, 2, 1024 * 1024, link, {"s2": POISONER})
    world.world.at(1, lambda: world.kill("p2"))
    world.world.at(4, lambda: world.world.restart("p2"))
    return world.run(20).summary.trace


def in_a_new_process(hash_seed: str) -> list[str]:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", PROGRAM, __file__]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return result.stdout.split()


def test_the_same_seed_gives_the_same_trace_in_two_processes_and_under_another_hash_seed() -> None:
    here = [chain_trace(21), swarm_trace(21)]
    assert in_a_new_process("1") == here
    assert in_a_new_process("4242") == here


@pytest.mark.parametrize("trace", [chain_trace, swarm_trace])
def test_another_seed_gives_another_trace(trace: object) -> None:
    assert callable(trace)
    assert trace(21) == trace(21)
    assert trace(21) != trace(22)
