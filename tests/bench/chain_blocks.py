"""The studies of `tests.bench.chain` that need no processes: blocks made, checked, replayed and stored."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from chain.genesis import Genesis
from chain.params import LAB, PRESETS, ChainParams
from chain.state import State, genesis_state
from chain.transactions import Transfer, sign_tx
from chain.transition import apply_block, apply_body, check_sealed
from chain.types import Block
from p2pml.storage.chain_db import ChainDb
from tests.bench.sync import forget
from tests.chain.conftest import FAR, FEE, World

RATINGS = (10, 10, 10, 10)
USERS = 250
LARGE = 2_000
SMALL = 5
PARAMS = replace(LAB, max_user_txs=LARGE, max_body_bytes=2 * 1024 * 1024)
YEAR_MS = 365 * 24 * 3600 * 1000
IDLE_BLOCKS = 3
"""Of an idle epoch, see docs/decisions/0005-idle-network.md."""


def world_of(params: ChainParams = PARAMS) -> World:
    return World(RATINGS, USERS, params, keep=10**6)


def make(world: World, count: int, per_block: int) -> list[Block]:
    """Blocks on the head, each with so many transfers and the votes of all validators."""
    made = []
    for _ in range(count):
        txs = []
        for number in range(per_block):
            sender = world.users[number % USERS]
            nonce = world.state.account(sender.public).nonce + number // USERS
            payload = Transfer(world.users[(number + 1) % USERS].public, 1)
            txs.append(
                sign_tx(sender, world.genesis.chain_id, payload, nonce=nonce, valid_until_slot=FAR, fee=FEE)
            )
        block = world.build(txs)
        assert len(block.body.txs) == per_block
        world.give(block)
        world.all_vote()
        made.append(block)
    return made


def decoded(blocks: Sequence[Block]) -> list[Block]:
    """The same as they come from a peer: nothing of them has been computed or checked yet."""
    forget()
    return [Block.decode(block.encoded) for block in blocks]


def timed(act: Callable[..., Any], *given: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    found = act(*given)
    return time.perf_counter() - began, found


def verify(given: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds to check one block after its parent: medians."""
    found = {}
    for per_block in (0, SMALL, LARGE):
        world = world_of()
        parent = world.state
        blocks = make(world, 3 if given.smoke else 15, per_block)
        rows = []
        for block in decoded(blocks):
            sealed_s, beta = timed(check_sealed, parent, block.sealed)
            body_s, state = timed(apply_body, parent, block, beta)
            root_s, _ = timed(state.root)
            rows.append((sealed_s, body_s, root_s))
            parent = state
        sealed, body, root = (statistics.median(column) * 1000 for column in zip(*rows, strict=True))
        found[f"{per_block} transactions"] = {
            "sealed_header_ms": round(sealed, 2),
            "body_ms": round(body, 2),
            "state_root_ms": round(root, 2),
            "all_ms": round(sealed + body + root, 2),
        }
    return found


def replay(given: argparse.Namespace) -> dict[str, Any]:
    """Blocks and transactions per second, executed on one core from the genesis."""
    found = {}
    for name, count, per_block in (("small", given.blocks, SMALL), ("large", given.large, LARGE)):
        world = world_of()
        blocks = make(world, count, per_block)
        for checked in (True, False):
            fresh = decoded(blocks)
            spent, state = timed(_execute, world.genesis, fresh, checked)
            assert state.root() == world.state.root()
            found[f"{name}, {'all checked' if checked else 'seals believed'}"] = {
                "blocks": count,
                "transactions_per_block": per_block,
                "blocks_per_s": round(count / spent, 1),
                "tx_per_s": round(count * per_block / spent),
            }
    return found


def _execute(genesis: Genesis, blocks: Sequence[Block], checked: bool) -> State:
    state = genesis_state(genesis)
    for block in blocks:
        state = apply_block(state, block, verify_seals=checked)
    return state


def disk(given: argparse.Namespace) -> dict[str, Any]:
    """Bytes in the database per block with the votes of four validators, and per year."""
    count = 20 if given.smoke else 200
    empty, small = _bytes_per_block(count, 0), _bytes_per_block(count, SMALL)
    large = _bytes_per_block(2 if given.smoke else 10, LARGE)
    per_tx = (large - empty) / LARGE
    return {
        "empty_block": round(empty),
        "block_of_5": round(small),
        "block_of_2000": round(large),
        "gb_per_year_full": {
            name: round(_blocks_per_year(params) * (empty + per_tx * params.max_user_txs) / 1e9, 2)
            for name, params in PRESETS.items()
        },
        "gb_per_year_idle": {
            name: round(_blocks_per_year(params) / params.slots_per_epoch * IDLE_BLOCKS * empty / 1e9, 3)
            for name, params in PRESETS.items()
        },
    }


def _blocks_per_year(params: ChainParams) -> float:
    return YEAR_MS / params.slot_ms


def _bytes_per_block(count: int, per_block: int) -> float:
    world = world_of()
    blocks = make(world, count, per_block)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "chain.sqlite"
        before = _size_with(path, world, [])
        return (_size_with(path, world, blocks) - before) / count


def _size_with(path: Path, world: World, blocks: Sequence[Block]) -> int:
    db = ChainDb(path, world.genesis.chain_id)
    for block in blocks:
        db.commit([block], applied=[block])
    db.close()  # which writes the log into the file
    return path.stat().st_size
