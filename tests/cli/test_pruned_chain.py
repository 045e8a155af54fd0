"""`p2pml chain verify` and `export` on a chain without its first blocks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chain.certificate import certify
from chain.types import Block
from p2pml.cli.app import run
from p2pml.errors import ExitCode, UserError
from p2pml.home import Home
from p2pml.node.node import trusted_point
from p2pml.storage.chain_db import ChainDb
from p2pml.storage.chain_snapshots import ChainSnapshots
from tests.chain.conftest import World
from tests.chain.snapshots import busy_world, snapshot_of


@pytest.fixture(scope="module")
def world() -> World:
    return busy_world(20)


@pytest.fixture
def home(tmp_path: Path, world: World) -> Home:
    """Snapshots at heights 8 and 15."""
    home = Home(tmp_path / "home")
    home.root.mkdir()
    home.genesis_file.write_text(world.genesis.to_json())
    store = ChainSnapshots.beside(home.chain_db, world.genesis)
    for height in (8, 15):
        taken = snapshot_of(world.chain, world.chain.canonical_id(height))
        store.write(taken, certify(taken.state, blocks_of(world)[height:]))
    db = ChainDb(home.chain_db, world.genesis.chain_id)
    db.commit(blocks_of(world), applied=blocks_of(world))
    db.close()
    return home


def blocks_of(world: World) -> list[Block]:
    return list(world.chain.ancestors(world.chain.head.id))[::-1]


def prune(home: Home, world: World, below: int) -> None:
    db = ChainDb(home.chain_db, world.genesis.chain_id)
    db.prune(below)
    db.close()


def test_with_every_block_snapshots_are_not_used(
    home: Home, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["chain", "verify", "--home", str(home.root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["first"], found["height"], found["certified"]) == (0, world.chain.head.height, None)


def test_a_pruned_chain_is_executed_from_its_oldest_snapshot(
    home: Home, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    prune(home, world, 8)
    assert run(["chain", "verify", "--home", str(home.root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["first"], found["height"], found["certified"]) == (8, world.chain.head.height, True)
    assert found["state_root"] == world.state.root().hex()
    assert found["final_height"] == world.chain.final_height
    assert run(["chain", "verify", "--home", str(home.root)]) == 0
    text = capsys.readouterr().out
    assert "pruned: what was before the snapshot at height 8" in text
    assert "certified by votes" in text
    assert run(["chain", "export", str(home.root / "x"), "--home", str(home.root)]) == 1
    assert "pruned" in capsys.readouterr().err
    assert not (home.root / "x").exists()


def test_a_pruned_chain_without_a_good_snapshot_is_told(
    home: Home, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    prune(home, world, 8)
    for path in (home.root / "chain.snapshots").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    assert run(["chain", "verify", "--home", str(home.root)]) == 1
    assert "none of its snapshots is good" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["7", "7:00:00", "x:y:z"])
def test_a_checkpoint_that_is_none(text: str) -> None:
    with pytest.raises(UserError, match="cannot be read") as e:
        trusted_point(text)
    assert e.value.code is ExitCode.BAD_CONFIG
    assert trusted_point("") is None
