"""State divergence: honest nodes must not part because their machines or processes differ.

Another hash seed (the order of sets), other orders of dictionaries, other numbers of BLAS threads and other
BLAS kernels: the same blocks give the same state roots.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from chain import buckets
from chain.entries import Account, account_key
from chain.tables import Tables
from chain.transactions import TxType
from chain.votes import Checkpoint, Link
from chain.weights import Weight
from tests.chain.replay_program import backwards, roots_of, write
from tests.chain.traffic import history

ROOT = Path(__file__).parents[3]
SEED, BLOCKS = 5, 250


class History(NamedTuple):
    path: Path
    roots: list[str]
    contents: Counter[str]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> History:
    world, blocks, found = history(SEED, BLOCKS)
    path = tmp_path_factory.mktemp("history") / "blocks"
    write(path, world.genesis, blocks)
    return History(path, roots_of(blocks, world), found)


def in_a_new_process(*arguments: str, **environment: str) -> list[str]:
    command = [sys.executable, "-m", "tests.chain.replay_program", *arguments]
    result = subprocess.run(
        command, env={**os.environ, **environment}, cwd=ROOT, capture_output=True, text=True, check=True
    )
    return result.stdout.split()


@pytest.mark.slow
def test_state_divergence_history_has_everything(recorded: History) -> None:
    """A type of transaction that is missing here belongs into `tests/chain/traffic.py`."""
    wanted = {kind.name for kind in TxType} | {"records", "votes", "TwoVotes", "TwoSeals"}
    wanted |= {"Commit", "Reveal", "AuditCommit", "AuditReveal"}
    assert wanted == {name for name, count in recorded.contents.items() if count}
    assert len(recorded.roots) > BLOCKS
    assert len(set(recorded.roots)) == len(recorded.roots)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("order", "environment"),
    [
        ("", {"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}),
        ("reversed", {"PYTHONHASHSEED": "4242", "OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3"}),
        ("reversed", {"PYTHONHASHSEED": "0", "OPENBLAS_CORETYPE": "Nehalem", "MKL_CBWR": "COMPATIBLE"}),
    ],
    ids=["one thread", "three threads, reversed", "another kernel, reversed"],
)
def test_state_divergence(recorded: History, order: str, environment: dict[str, str]) -> None:
    arguments = [str(recorded.path), *([order] if order else [])]
    assert in_a_new_process(*arguments, **environment) == recorded.roots


@pytest.mark.slow
def test_state_divergence_of_a_proposer(recorded: History) -> None:
    """A node that makes the blocks in another process, with sets and dictionaries in other orders, makes the
    same ones.
    """
    found = in_a_new_process("build", str(SEED), str(BLOCKS), "reversed", PYTHONHASHSEED="77")
    assert found == recorded.roots


def test_state_divergence_by_the_order_of_dictionaries(world: Any) -> None:
    """Entries of one bucket, links that were voted for, ratings that one block changes."""
    keys = [account_key(number.to_bytes(32, "big")) for number in range(30_000)]
    together = [key for key in keys if buckets.bucket_of(key) == buckets.bucket_of(keys[0])]
    assert len(together) > 2
    changes = {key: Account(number) for number, key in enumerate(together)}
    assert (
        buckets.updated(buckets.EMPTY, backwards(changes)).hash
        == buckets.updated(buckets.EMPTY, changes).hash
    )
    ends = [Link(Checkpoint(0, bytes(32)), Checkpoint(number, bytes(32))) for number in (1, 2, 3)]
    tallies = {link: frozenset([bytes([number]) * 32]) for number, link in enumerate(ends)}
    finality = replace(world.state.finality, tallies=tallies)
    assert replace(finality, tallies=backwards(tallies)).hash == finality.hash != world.state.finality.hash
    ratings = {user.public: Weight(user.public, user.public, 7) for user in world.users}
    tables: Tables = world.state.tables
    assert tables.rated(1, backwards(ratings)).hash == tables.rated(1, ratings).hash != tables.hash
