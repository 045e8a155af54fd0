"""The chain on disk: indexes follow the best branch, and a kill at any time leaves whole steps."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from chain.crypto import Keypair
from chain.forkchoice import Accepted, Chain, HeadChanged
from chain.genesis import Founder, Genesis
from chain.header import MAX_SEALED_BYTES
from chain.params import DEMO, TOKEN
from chain.producer import ProposerKeys, build_block, ranks_for
from chain.signing import SigningRecord
from chain.transactions import Transfer, Tx, sign_tx
from chain.types import Block
from p2pml.errors import UserError
from p2pml.storage.chain_db import ChainDb, DamagedChain
from p2pml.storage.signing_journal import SigningJournal

KEYS = tuple(ProposerKeys.from_seeds(bytes([i]) * 32, bytes([i + 100]) * 32) for i in (1, 2))
BOB = Keypair.from_seed(b"\x09" * 32).public
FAR = 2**50


def small_genesis(name: str = "db-test") -> Genesis:
    founders = tuple(Founder(keys.public, keys.vrf_public, 10, "v") for keys in KEYS)
    allocations = tuple((keys.public, 1000 * TOKEN) for keys in KEYS)
    return Genesis(name, 1_000_000, DEMO, founders, allocations)


def pay(genesis: Genesis, nonce: int, amount: int = TOKEN) -> Tx:
    return sign_tx(
        KEYS[0].keypair,
        genesis.chain_id,
        Transfer(BOB, amount),
        nonce=nonce,
        valid_until_slot=10**6,
        fee=TOKEN,
    )


def next_block(chain: Chain, parent: bytes, slot: int, txs: tuple[Tx, ...] = ()) -> Block:
    """The rank-0 block of a slot, whoever of the two is drawn."""
    state = chain.state(parent)
    keys = next(keys for keys in KEYS if ranks_for(slot, keys.keypair, state) == (0,))
    return build_block(chain, slot, 0, keys, txs, parent=parent)


def store(db: ChainDb, chain: Chain, block: Block) -> None:
    outcomes = chain.on_block(block, FAR)
    change = [outcome for outcome in outcomes if isinstance(outcome, HeadChanged)]
    accepted = [outcome.block for outcome in outcomes if isinstance(outcome, Accepted)]
    db.commit(accepted, change[0].reverted if change else (), change[0].applied if change else ())


def replayed(db: ChainDb, genesis: Genesis) -> Chain:
    chain = Chain(genesis)
    for block in db.replay():
        chain.on_block(block, FAR, verify_seals=False)
    return chain


def test_a_chain_with_a_fork_is_the_same_after_a_restart(tmp_path: Path) -> None:
    genesis = small_genesis()
    chain = Chain(genesis)
    db = ChainDb(tmp_path / "chain.sqlite", genesis.chain_id)
    assert db.head_id() is None
    first = next_block(chain, genesis.chain_id, 1, (pay(genesis, 0),))
    store(db, chain, first)
    left = next_block(chain, first.block_id, 2, (pay(genesis, 1, 5),))
    store(db, chain, left)
    assert db.tx(left.body.txs[0].id) is not None
    # Two blocks on `first` outweigh the one.
    right = next_block(chain, first.block_id, 3, (pay(genesis, 1, 7),))
    store(db, chain, right)
    tip = next_block(chain, right.block_id, 4)
    store(db, chain, tip)
    assert chain.head.id == tip.block_id
    db.close()

    db = ChainDb(tmp_path / "chain.sqlite", genesis.chain_id)
    again = replayed(db, genesis)
    assert again.head == chain.head
    assert again.state().root() == chain.state().root()
    assert again.has(left.block_id)
    assert db.head_id() == tip.block_id
    # The indexes know the best branch only.
    assert db.tx(left.body.txs[0].id) is None
    assert [(entry.height, entry.tx.payload) for entry in db.history(BOB)] == [
        (2, Transfer(BOB, 7)), (1, Transfer(BOB, TOKEN)),
    ]  # fmt: skip
    assert [db.block_at(height) for height in (1, 2, 3, 4)] == [
        first.encoded,
        right.encoded,
        tip.encoded,
        None,
    ]
    assert db.block(left.block_id) == left.encoded
    assert sum(db.proposed(keys.public) for keys in KEYS) == 3
    db.close()


def test_another_chains_database_is_refused(tmp_path: Path) -> None:
    ChainDb(tmp_path / "chain.sqlite", bytes(32)).close()
    with pytest.raises(UserError, match="belongs to another chain"):
        ChainDb(tmp_path / "chain.sqlite", b"\x01" * 32)


def test_a_damaged_file_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "chain.sqlite"
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(DamagedChain, match="is damaged"):
        ChainDb(path, bytes(32))


def test_a_damaged_file_is_set_aside_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "chain.sqlite"
    for number in (1, 2):
        path.write_bytes(b"not a database %d" % number * 1000)
        with closing(ChainDb.repaired(path, bytes(32))) as db:
            assert db.predecessor == tmp_path / f"chain.sqlite.damaged-{number}"
            assert db.head_id() is None
        assert db.predecessor.read_bytes() == b"not a database %d" % number * 1000
    with closing(ChainDb.repaired(path, bytes(32))) as db:
        assert db.predecessor is None


def test_damage_outside_the_blocks_is_noticed_at_the_start(tmp_path: Path) -> None:
    genesis, path = small_genesis(), tmp_path / "chain.sqlite"
    chain = Chain(genesis)
    with closing(ChainDb(path, genesis.chain_id)) as db:
        for slot in range(1, 40):
            store(db, chain, next_block(chain, chain.head.id, slot, (pay(genesis, slot - 1),)))
    with closing(sqlite3.connect(path)) as raw:
        (page,) = raw.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'txs'").fetchone()
        (size,) = raw.execute("PRAGMA page_size").fetchone()
    data = bytearray(path.read_bytes())
    data[(page - 1) * size + 3] ^= 0x55  # the page's count of cells
    path.write_bytes(data)
    with pytest.raises(DamagedChain):
        ChainDb(path, genesis.chain_id)


def test_a_header_is_read_without_its_body(tmp_path: Path) -> None:
    genesis = small_genesis()
    chain = Chain(genesis)
    db = ChainDb(tmp_path / "chain.sqlite", genesis.chain_id)
    txs = tuple(pay(genesis, nonce) for nonce in range(5))
    block = next_block(chain, genesis.chain_id, 1, txs)
    store(db, chain, block)
    assert db.sealed(block.block_id) == block.sealed.encode()
    assert db.sealed(bytes(32)) is None
    large = block.sealed.encode() + bytes(3 * MAX_SEALED_BYTES)
    for data, damaged in (
        (b"\x92" + large, False),
        (b"\x93" + large, True),
        (b"\x92\xc1" + large, True),
        (b"", True),
    ):
        with closing(sqlite3.connect(tmp_path / "chain.sqlite")) as raw, raw:
            raw.execute("UPDATE blocks SET data = ?", (data,))
        if damaged:
            with pytest.raises(UserError, match="unreadable"):
                db.sealed(block.block_id)
        else:
            assert db.sealed(block.block_id) == block.sealed.encode()
    db.close()


def test_a_flipped_bit_in_a_block_is_a_clear_error(tmp_path: Path) -> None:
    genesis = small_genesis()
    chain = Chain(genesis)
    db = ChainDb(tmp_path / "chain.sqlite", genesis.chain_id)
    block = next_block(chain, genesis.chain_id, 1)
    store(db, chain, block)
    db.close()
    with sqlite3.connect(tmp_path / "chain.sqlite") as raw:
        raw.execute("UPDATE blocks SET data = ?", (b"\xff" + block.encoded[1:],))
    raw.close()
    db = ChainDb(tmp_path / "chain.sqlite", genesis.chain_id)
    with pytest.raises(UserError, match="unreadable"):
        list(db.replay())
    db.close()


def test_a_step_that_fails_leaves_nothing(tmp_path: Path) -> None:
    genesis = small_genesis()
    chain = Chain(genesis)
    db = ChainDb(tmp_path / "chain.sqlite", genesis.chain_id)
    block = next_block(chain, genesis.chain_id, 1, (pay(genesis, 0),))
    with pytest.raises(UserError, match="damaged"):  # one height cannot have two blocks of the best branch
        db.commit([block], (), [block, block])
    assert list(db.replay()) == []
    assert db.tx(block.body.txs[0].id) is None
    store(db, chain, block)
    assert db.head_id() == block.block_id
    db.close()


# -- kill -9 -------------------------------------------------------------------------------------------


def extend_for_ever(path: Path) -> None:
    """The process that gets killed: extends the stored chain, says each height after it is on disk."""
    genesis = small_genesis()
    db = ChainDb(path, genesis.chain_id)
    journal = SigningJournal(path.with_suffix(".signed"), genesis.chain_id)
    assert journal.open(SigningRecord()) in ("", "missing")
    chain = replayed(db, genesis)
    while True:
        slot = chain.head.slot + 1
        while not journal.reserve_slot(slot):
            slot += 1  # reserved by a process that was killed before its block was stored: never sealed again
        tx = pay(genesis, chain.state().account(KEYS[0].public).nonce, 1 + slot)
        block = next_block(chain, chain.head.id, slot, (tx,))
        store(db, chain, block)
        print(block.height, flush=True)


@pytest.mark.slow
def test_killed_at_any_time_the_database_has_every_block_it_confirmed(tmp_path: Path) -> None:
    genesis = small_genesis()
    path = tmp_path / "chain.sqlite"
    source = (
        "import importlib.util, pathlib;"
        f"s = importlib.util.spec_from_file_location('kill_me', {__file__!r});"
        "m = importlib.util.module_from_spec(s); s.loader.exec_module(m);"
        f"m.extend_for_ever(pathlib.Path({str(path)!r}))"
    )
    rng = random.Random(5)
    height = 0
    for _ in range(6):
        child = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        confirmed = int(child.stdout.readline() or 0)
        assert confirmed > height
        time.sleep(rng.uniform(0.0, 0.15))
        os.kill(child.pid, signal.SIGKILL)
        rest = child.stdout.read().split()
        child.stdout.close()
        child.wait()
        confirmed = int(rest[-1]) if rest else confirmed
        db = ChainDb(path, genesis.chain_id)
        chain = replayed(db, genesis)
        assert confirmed <= chain.head.height <= confirmed + 1
        assert chain.state().supply_ok()
        assert db.head_id() == chain.head.id
        assert len(db.history(BOB, 10_000)) == chain.head.height
        height = chain.head.height
        db.close()
