"""`p2pml chain export` and `verify`: on a stored chain, on a file, and on what was tampered with."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from chain.genesis import Genesis
from chain.types import Block
from p2pml.cli.app import run
from p2pml.home import Home
from p2pml.storage.chain_db import ChainDb
from p2pml.storage.chain_export import MAGIC
from tests.chain.conftest import World

BLOCKS = 12


@pytest.fixture
def world() -> World:
    """Twelve blocks with a transfer and votes."""
    world = World()
    world.mine(world.transfer(0, 1, 5))
    while world.state.height < BLOCKS:
        world.all_vote()
        world.mine()
    return world


@pytest.fixture
def home(tmp_path: Path, world: World) -> Path:
    home = Home(tmp_path / "home")
    home.root.mkdir()
    home.genesis_file.write_text(world.genesis.to_json())
    db = ChainDb(home.chain_db, world.genesis.chain_id)
    blocks = list(reversed(list(world.chain.ancestors(world.chain.head.id))))
    db.commit(blocks, applied=blocks)
    db.close()
    return home.root


def told(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_a_nodes_own_chain_holds(home: Path, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["chain", "verify", "--home", str(home), "--json"]) == 0
    found = told(capsys)
    assert (found["height"], found["head"]) == (BLOCKS, world.chain.head.id.hex())
    assert found["state_root"] == world.state.root().hex()
    assert (found["final_height"], found["transactions"]) == (world.chain.final_height, 1)
    assert found["final_height"] > 0
    assert found["votes"] == 3 * (BLOCKS - 1)
    assert found["adds_up"]
    assert run(["chain", "verify", "--home", str(home)]) == 0
    assert "every rule holds in all 12 blocks" in capsys.readouterr().out


def test_an_exported_chain_is_checked_without_a_home(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "chain.p2pml"
    assert run(["chain", "export", str(file), "--home", str(home), "--json"]) == 0
    assert told(capsys) == {"file": str(file), "blocks": BLOCKS, "bytes": file.stat().st_size}
    assert run(["chain", "verify", str(file), "--home", str(tmp_path / "none"), "--json"]) == 0
    assert told(capsys)["height"] == BLOCKS
    assert run(["chain", "export", str(file), "--home", str(home)]) != 0
    assert "exists already" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chain.p2pml", "home"]


def test_a_chain_that_breaks_a_rule_is_named_with_the_block(
    home: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """A richer genesis of the same validators: every state after it is another one."""
    other = Genesis(
        world.genesis.chain_name,
        world.genesis.time_ms,
        world.genesis.params,
        world.genesis.validators,
        tuple((account, 2 * amount) for account, amount in world.genesis.allocations),
    )
    Home(home).genesis_file.write_text(other.to_json())
    with sqlite3.connect(Home(home).chain_db) as db:
        db.execute("UPDATE meta SET value = ? WHERE key = 'chain_id'", (other.chain_id,))
    db.close()
    assert run(["chain", "verify", "--home", str(home)]) == 1
    assert "block 1 (" in (text := capsys.readouterr().err)
    assert "breaks a rule" in text


def test_a_flipped_bit_in_the_database_is_found(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect(Home(home).chain_db) as db:
        [(block_id, data)] = db.execute("SELECT id, data FROM blocks WHERE height = 5").fetchall()
        broken = bytes([*data[:-70], data[-70] ^ 1, *data[-69:]])
        db.execute("UPDATE blocks SET data = ? WHERE id = ?", (broken, block_id))
    db.close()
    assert run(["chain", "verify", "--home", str(home)]) == 1
    text = capsys.readouterr().err
    assert "block 5" in text or "height 5" in text


@pytest.mark.parametrize("cut", [0, 5, 14, 16, 300, -1, -40])
def test_a_file_that_ends_early_is_no_chain(
    home: Path, tmp_path: Path, cut: int, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "chain.p2pml"
    assert run(["chain", "export", str(file), "--home", str(home)]) == 0
    file.write_bytes(file.read_bytes()[:cut])
    assert run(["chain", "verify", str(file)]) == 1
    assert "is not a whole chain" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [b"PK\x03\x04" * 9, MAGIC + b"\xff\xff\xff\xff", MAGIC + b"\0\0\0\x02{}", MAGIC + b"\0\0\0\x01\xff"],
)
def test_what_is_no_chain_is_said_to_be_none(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "chain.p2pml"
    file.write_bytes(content)
    assert run(["chain", "verify", str(file)]) == 1
    assert "is not a whole chain" in capsys.readouterr().err


def test_a_block_left_out_is_missed(
    home: Path, tmp_path: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "chain.p2pml"
    genesis = world.genesis.to_json().encode()
    blocks: list[Block] = list(reversed(list(world.chain.ancestors(world.chain.head.id))))
    parts = [genesis, *(block.encoded for block in blocks if block.height != 7)]
    file.write_bytes(MAGIC + b"".join(len(part).to_bytes(4, "big") + part for part in parts))
    assert run(["chain", "verify", str(file)]) == 1
    assert "does not follow its parent" in capsys.readouterr().err


def test_a_home_without_a_chain(tmp_path: Path, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    home = Home(tmp_path / "fresh")
    home.root.mkdir()
    home.genesis_file.write_text(world.genesis.to_json())
    assert run(["chain", "verify", "--home", str(home.root)]) == 1
    assert "there is no chain" in capsys.readouterr().err
    assert not home.chain_db.exists()
