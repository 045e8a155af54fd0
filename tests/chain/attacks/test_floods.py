"""More than a node can hold: blocks, transactions, orphans."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from chain.crypto import Keypair
from chain.errors import (
    InvalidBlock,
    InvalidError,
    InvalidRating,
    InvalidTransaction,
    PoolFull,
    UnknownParent,
)
from chain.mempool import Mempool
from chain.orphans import MAX_ORPHANS
from chain.params import TOKEN
from chain.rating.items import Accusation, Answer, Charge, Evaluation, ProvenLeaf, Reveal
from chain.rating_pool import RatingPool
from chain.recent import Recent
from chain.transactions import Transfer
from tests.chain.attacks.helpers import spoils
from tests.chain.conftest import World
from tests.chain.rating_window import BRIEF, Windows, Work

FEE = TOKEN // 10


def test_invalid_block_flood(world: Any) -> None:
    """Each is refused for its sender to be blamed, keeps no node, no orphan, and no true block out."""
    good = world.build()
    nodes = len(world.chain._tree.nodes)
    world.chain._bad = Recent(16)
    for number in range(1, 60):
        bad = world.reseal(good, leaf0={"parent_state_root": number.to_bytes(32, "big")})
        for again in (False, True):
            with pytest.raises(InvalidBlock, match="before" if again else "state root"):
                world.give(bad)
        assert world.chain.block(bad.block_id) is None
    assert len(world.chain._tree.nodes) == nodes
    assert world.chain.missing_parents() == ()
    assert len(world.chain._bad) == 16
    world.give(good)
    assert world.chain.head.id == good.block_id


def test_orphan_flood_by_strangers(world: Any) -> None:
    """A block without a parent is kept only if a validator sealed it: nobody else can fill the pool."""
    world.mine()
    template = world.build()
    for number in range(1, 20):
        forged = world.reseal(
            template,
            header={"prev": number.to_bytes(32, "big")},
            leaf0={"proposer": world.users[0].public},
            by=world.validators[0],
        )
        with pytest.raises(InvalidBlock, match="no validator"):
            world.give(forged)
    assert world.chain.missing_parents() == ()


def test_orphan_flood_by_a_validator(world: Any) -> None:
    template = world.build()
    for number in range(1, MAX_ORPHANS + 50):
        block = world.reseal(template, header={"prev": number.to_bytes(32, "big")})
        with pytest.raises(UnknownParent):
            world.give(block)
    assert len(world.chain.missing_parents()) == MAX_ORPHANS
    world.mine()


def test_mempool_flood(world: Any) -> None:
    """Forty accounts send all that the pool takes, twice; a payment with a better fee gets in and out first.

    The pool stays within its number and its bytes, and its own worst leaves.
    """
    flooders = [Keypair.from_seed(bytes([number]) * 32) for number in range(1, 41)]
    for start in range(0, 40, 5):
        grants = [world.tx(world.users[0], Transfer(f.public, TOKEN), nonce=start + i)
                  for i, f in enumerate(flooders[start : start + 5])]  # fmt: skip
        world.mine(*grants)
    small = len(world.tx(flooders[0], Transfer(bytes(32), 1), nonce=0).encoded)
    pool = Mempool(max_txs=100, max_bytes=100 * (small + 8), max_per_sender=4)
    refused = 0
    for nonce in (0, 1, 2, 3, 4, 5):
        for flooder in flooders:
            tx = world.tx(flooder, Transfer(bytes(32), 1), nonce=nonce)
            try:
                pool.add(tx, world.state, world.state.slot + 1)
            except PoolFull:
                refused += 1
            except InvalidTransaction:
                assert nonce >= 4, "one sender holds four places at most"
    assert len(pool) == 100
    assert refused == 60
    assert not issubclass(PoolFull, InvalidError), "a full pool is nobody's fault"
    honest = world.transfer(1, 2, 5, fee=FEE + 1)
    assert pool.add(honest, world.state, world.state.slot + 1)
    assert len(pool) == 100
    assert pool.select(world.state, world.state.slot + 1, 1) == (honest,)


def test_mempool_flood_of_promises(world: Any) -> None:
    """An account cannot promise the same money in many waiting transactions."""
    pool = Mempool()
    pool.add(world.transfer(0, 1, 600 * TOKEN), world.state, 1)
    with pytest.raises(InvalidTransaction, match="waiting transactions cost"):
        pool.add(world.transfer(0, 2, 600 * TOKEN, nonce=1), world.state, 1)
    assert len(pool) == 1


def test_flood_of_transactions_in_a_block(world: Any) -> None:
    """A proposer that takes more than the cap has no block."""
    many = [world.transfer(0, 1, 5, nonce=nonce) for nonce in range(world.genesis.params.max_user_txs + 1)]
    spoils(world, *many, says="more items than its caps")
    assert len(world.build(many).body.txs) == world.genesis.params.max_user_txs


def test_rating_pool_flood() -> None:
    """Accounts of the same weight, even of none, keep no commitment out of the pool, and no reveal."""
    windows = Windows(World(ratings=(10, 10, 10, 10), params=BRIEF))
    windows.announce()
    world, window, borders = windows.world, windows.window, windows.borders
    works = [Work(world, keys.keypair, window) for keys in world.validators]

    def junk(work: Work, drawn: bytes) -> list[Any]:
        """What an account may have waiting, as large as it may be."""
        named, leaf = (work.keys.public, window.start, drawn), ProvenLeaf(0, 0, 0, bytes(16_000), ())
        accused = works[0].keys.public
        return [
            work.signed(point)
            for point in (
                Reveal(*named, (Evaluation(leaf, ()),)),
                *(Answer(*named, place, (leaf,)) for place in range(4)),
                *(Accusation(*named, Charge.ORDER, accused, (leaf,), place, b"") for place in range(4)),
            )
        ]

    def flood(drawn: bytes, slot: int) -> None:
        for point in (point for work in works[1:] for point in junk(work, drawn)):
            with suppress(PoolFull, InvalidRating):
                pool.add(point, world.state, slot)

    room = sum(len(point.encoded) for point in junk(works[1], bytes(32)))
    pool = RatingPool(room)
    flood(bytes(32), borders.commit_end - 1)
    assert pool.points() == ()
    pool.add(works[0].commit, world.state, borders.train_end)
    windows.commit(0, 1, 2)
    drawn = windows.draw().draw
    pool.on_head([works[0].commit], world.state, borders.commit_end)
    flood(drawn, borders.commit_end)
    assert sum(len(point.encoded) for point in pool.points()) == room
    shown = works[0].reveal(windows.window)
    pool.add(shown, world.state, borders.commit_end)
    flood(drawn, borders.commit_end)
    assert pool.has(shown.id)
    assert 0.8 * room < sum(len(point.encoded) for point in pool.points()) <= room
