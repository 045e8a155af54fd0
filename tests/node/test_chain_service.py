"""Chain services of several nodes on loopback, in one trio run, with short slots."""

# ruff: noqa: ASYNC110  (a test polls what has no event)
from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trio

from chain import sync
from chain.crypto import Keypair
from chain.errors import InvalidTransaction
from chain.genesis import Founder, Genesis
from chain.params import DEMO, TOKEN
from chain.producer import ProposerKeys, build_block, ranks_for
from chain.signing import SigningRecord
from chain.sync import GetBlock, GetStatus, HeaderList, OneBlock, Status, decode_request, encode_response
from chain.sync_messages import PROTOCOL
from chain.transactions import JobOpen, Transfer
from p2pml.net.gossip import Gossip
from p2pml.net.host import Host
from p2pml.net.presence import Facts, Presence, Timing
from p2pml.node.chain_service import ChainService
from p2pml.node.events import Events
from p2pml.storage.chain_db import ChainDb
from p2pml.storage.signing_journal import SigningJournal

SLOT_MS = 800
FAST = replace(
    DEMO, slot_ms=SLOT_MS, rank_step_ms=200, slots_per_epoch=8, window_every_epochs=8, job_challenge_slots=3
)
BOB = Keypair.from_seed(b"\x77" * 32)


def clock() -> int:
    return int(time.time() * 1000)


def keys_of(i: int) -> ProposerKeys:
    return ProposerKeys.from_seeds(bytes([i + 1]) * 32, bytes([i + 101]) * 32)


def genesis_of(count: int, delay_ms: int = 300) -> Genesis:
    founders = tuple(Founder(keys_of(i).public, keys_of(i).vrf_public, 10, f"n{i}") for i in range(count))
    allocations = tuple((keys_of(i).public, 1000 * TOKEN) for i in range(count))
    return Genesis("service-test", clock() + delay_ms, FAST, founders, allocations)


@dataclass
class Node:
    host: Host
    gossip: Gossip
    service: ChainService
    events: Events
    scope: trio.CancelScope
    stopped: trio.Event


async def start(
    nursery: trio.Nursery,
    i: int,
    genesis: Genesis,
    folder: Path,
    bootstrap: list[str],
    validator: bool = True,
    now: Callable[[], int] = clock,
    clock_wrong: Callable[[], bool] = lambda: False,
    idle: bool = False,
    **options: Any,
) -> Node:
    host = Host(bytes([i + 11]) * 32, bootstrap=bootstrap)
    gossip = Gossip(host, genesis.chain_id, heartbeat=0.3)
    account = keys_of(i).public
    presence = Presence(
        host, gossip, lambda: Facts(account, name=f"n{i}"), Timing(announce=2, expiry=7, look=0.1)
    )
    db = ChainDb.repaired(folder / f"n{i}.sqlite", genesis.chain_id)
    events = Events()
    keys = keys_of(i) if validator else None
    options |= {"clock_wrong": clock_wrong, "idle": idle}
    service = ChainService(genesis, db, keys, host, gossip, presence, events, now, **options)
    node = Node(host, gossip, service, events, trio.CancelScope(), trio.Event())

    async def life(task_status: object = trio.TASK_STATUS_IGNORED) -> None:
        try:
            with node.scope:
                async with trio.open_nursery() as inner:
                    for part in (host.run, gossip.run, presence.run, service.run):
                        await inner.start(part)
                    task_status.started()  # type: ignore[attr-defined]
        finally:
            db.close()
            node.stopped.set()

    await nursery.start(life)
    return node


async def stop(node: Node) -> None:
    node.scope.cancel()
    await node.stopped.wait()


async def until(condition: Callable[[], bool], seconds: float) -> None:
    with trio.fail_after(3 * seconds):  # the machine may be busy
        while not condition():
            await trio.sleep(0.05)


def agree(nodes: list[Node], depth: int = 2) -> bool:
    """Whether all have the same block `depth` below the lowest head."""
    height = min(node.service.head().height for node in nodes) - depth
    return height > 0 and len({node.service.chain.canonical_id(height) for node in nodes}) == 1


@pytest.mark.slow
async def test_four_nodes_agree_and_pay_and_a_late_joiner_catches_up(tmp_path: Path) -> None:
    genesis = genesis_of(4)
    async with trio.open_nursery() as nursery:
        nodes = [await start(nursery, 0, genesis, tmp_path, [])]
        for i in range(1, 4):
            nodes.append(await start(nursery, i, genesis, tmp_path, [nodes[0].host.addrs()[0]]))
        await until(lambda: min(node.service.head().height for node in nodes) >= 6, 30)
        assert agree(nodes)

        tx = await nodes[2].service.send(keys_of(2).keypair, Transfer(BOB.public, 5 * TOKEN, "for Bob"))
        height = await nodes[2].service.wait_tx(tx.id, 20)
        assert 0 < height <= nodes[2].service.head().height
        await until(lambda: all(n.service.account(BOB.public).balance == 5 * TOKEN for n in nodes), 20)
        await until(lambda: all(n.service.chain.final_height >= height for n in nodes), 20)
        for node in nodes:
            assert await node.service.wait_tx(tx.id, 5) > 0
            assert [entry.tx for entry in await node.service.account_history(BOB.public)] == [tx]
            assert node.service.supply().ok
            assert any(event.kind == "chain.head" for event in node.events.since(0))

        late = await start(nursery, 4, genesis, tmp_path, [nodes[3].host.addrs()[0]], validator=False)
        goal = nodes[0].service.head().height
        await until(lambda: late.service.head().height >= goal, 20)
        assert late.service.account(BOB.public).balance == 5 * TOKEN
        await until(lambda: agree([*nodes, late]), 20)
        with trio.fail_after(60):  # the first blocks are one node's own when the others are slow to start
            while len({block.sealed.proposer for block in await late.service.blocks(1, 200)}) < 2:
                await trio.sleep(0.2)
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_a_node_that_was_stopped_goes_on_from_disk_and_catches_up(tmp_path: Path) -> None:
    genesis = genesis_of(3)
    async with trio.open_nursery() as nursery:
        nodes = [await start(nursery, 0, genesis, tmp_path, [])]
        for i in range(1, 3):
            nodes.append(await start(nursery, i, genesis, tmp_path, [nodes[0].host.addrs()[0]]))
        await until(lambda: min(node.service.head().height for node in nodes) >= 4, 30)
        stored = nodes[2].service.head()
        await until(lambda: nodes[2].service.chain.final_height > 0, 20)
        final = nodes[2].service.chain.final_height
        await stop(nodes[2])
        before = nodes[0].service.head().height
        await until(lambda: nodes[0].service.head().height >= before + 3, 30)
        again = await start(nursery, 2, genesis, tmp_path, [nodes[1].host.addrs()[0]])
        assert again.service.head().height >= stored.height
        assert again.service.chain.final_height >= final - 1, "the blocks on disk tell what is final"
        goal = nodes[0].service.head().height
        await until(lambda: again.service.head().height >= goal, 20)
        await until(lambda: agree([nodes[0], nodes[1], again]), 20)
        assert again.service.chain.canonical_id(1) == nodes[0].service.chain.canonical_id(1)
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_two_sides_of_a_split_agree_after_they_meet(tmp_path: Path) -> None:
    genesis = genesis_of(4)
    async with trio.open_nursery() as nursery:
        left = [await start(nursery, 0, genesis, tmp_path, [])]
        left.append(await start(nursery, 1, genesis, tmp_path, [left[0].host.addrs()[0]]))
        right = [await start(nursery, 2, genesis, tmp_path, [])]
        right.append(await start(nursery, 3, genesis, tmp_path, [right[0].host.addrs()[0]]))
        both = [*left, *right]
        await until(lambda: min(node.service.head().height for node in both) >= 4, 40)
        assert all(node.service.chain.final_height == 0 for node in both), "half of the weight is no quorum"
        assert left[0].service.chain.canonical_id(4) != right[0].service.chain.canonical_id(4)
        await left[1].host.connect(right[1].host.addrs()[0])
        await until(lambda: agree(both, 0) or agree(both, 1), 40)
        met = max(node.service.head().height for node in both)
        await until(lambda: min(node.service.chain.final_height for node in both) > met, 40)
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_an_impossible_transaction_is_refused_and_waiting_for_one_ends(tmp_path: Path) -> None:
    genesis = genesis_of(1)
    async with trio.open_nursery() as nursery:
        node = await start(nursery, 0, genesis, tmp_path, [], validator=False)
        with pytest.raises(InvalidTransaction, match="balance"):
            await node.service.send(BOB, Transfer(keys_of(0).public, 1))
        tx = await node.service.send(keys_of(0).keypair, Transfer(BOB.public, 1))
        assert node.service.waiting_tx(tx.id) == tx
        assert node.service.next_nonce(keys_of(0).public) == 1
        with pytest.raises(trio.TooSlowError):
            await node.service.wait_tx(tx.id, 0.2)
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_an_early_block_is_held_until_it_is_due_and_an_invalid_one_is_blamed(tmp_path: Path) -> None:
    genesis = genesis_of(1, delay_ms=0)
    async with trio.open_nursery() as nursery:
        node = await start(nursery, 0, genesis, tmp_path, [], validator=False)
        slot = node.service.slot_now() + 2
        assert ranks_for(slot, keys_of(0).keypair, node.service.state()) == (0,)
        early = build_block(node.service.chain, slot, 0, keys_of(0))
        assert await node.service.offer(early) is None
        assert node.service.head().height == 0
        await until(lambda: node.service.head().id == early.block_id, 5)
        sealed = replace(early.sealed, seal=bytes(64))
        forged = replace(early, sealed=replace(sealed, header=replace(sealed.header, target=1)))
        assert await node.service.offer(forged) is not None
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_a_job_is_opened_and_refunded_by_the_chain_itself(tmp_path: Path) -> None:
    genesis = genesis_of(1)
    async with trio.open_nursery() as nursery:
        node = await start(nursery, 0, genesis, tmp_path, [], idle=True)
        service, requester = node.service, keys_of(0).keypair
        await service.wait_slot(1)
        deadline = service.slot_now() + 4
        opened = await service.send(requester, JobOpen(b"d" * 20, bytes(32), 2, 1, 50 * TOKEN, deadline))
        await service.wait_tx(opened.id, 20)
        job = service.job(opened.id)
        assert job is not None
        assert job.status.active
        assert service.supply().escrow == 50 * TOKEN
        assert service.paid_clients(opened.id, 0) == frozenset()
        await until(lambda: service.supply().escrow == 0, 20)
        assert service.supply().ok
        assert [entry.tx.id for entry in await service.account_history(opened.id)] == [opened.id]
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_a_slot_that_was_sealed_before_is_not_sealed_again(tmp_path: Path) -> None:
    genesis = genesis_of(1)
    journal = SigningJournal(tmp_path / "n0.signed", genesis.chain_id)
    journal.open(SigningRecord())
    assert journal.reserve_slot(4)
    async with trio.open_nursery() as nursery:
        node = await start(nursery, 0, genesis, tmp_path, [])
        await until(lambda: node.service.head().height >= 2, 20)
        blocks = await node.service.blocks(1, 10)
        assert min(genesis.slot_at(block.sealed.timestamp_ms) for block in blocks) >= 5
        nursery.cancel_scope.cancel()


def flip_a_bit_of_a_block(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        (height, data) = db.execute(
            "SELECT height, data FROM blocks ORDER BY height LIMIT 1 OFFSET 1"
        ).fetchone()
        flipped = bytearray(data)
        flipped[len(data) // 2] ^= 0x10
        db.execute("UPDATE blocks SET data = ? WHERE height = ?", (bytes(flipped), height))


def overwrite_with_noise(path: Path) -> None:
    path.write_bytes(b"noise" * 1000)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [flip_a_bit_of_a_block, overwrite_with_noise])
async def test_a_damaged_chain_is_fetched_again_and_nothing_is_signed_twice(
    tmp_path: Path,
    damage: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sync, "REST", 0.1)  # whoever is blamed for nothing is soon blamed three times
    monkeypatch.setattr(sync, "STATUS_EVERY", 0.2)
    genesis = genesis_of(3)
    async with trio.open_nursery() as nursery:
        nodes = [await start(nursery, 0, genesis, tmp_path, [])]
        for i in (1, 2):
            nodes.append(await start(nursery, i, genesis, tmp_path, [nodes[0].host.addrs()[0]]))
        await until(lambda: min(node.service.head().height for node in nodes) >= 4, 30)
        await stop(nodes[2])
        damage(tmp_path / "n2.sqlite")
        before = (tmp_path / "n2.signed").read_bytes()
        again = await start(nursery, 2, genesis, tmp_path, [nodes[0].host.addrs()[0]])
        kept = tmp_path / "n2.sqlite.damaged-1"
        assert again.service.db.predecessor == kept
        assert kept.exists()
        await until(lambda: again.service.chain.final_height > 4 and agree([*nodes[:2], again]), 40)
        assert (tmp_path / "n2.signed").read_bytes() != before, "it signs again"
        assert [node.service.chain.evidence() for node in (*nodes[:2], again)] == [(), (), ()]
        assert "not syncing from" not in caplog.text, "what the peers have is what came from them"
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_a_validator_that_lost_its_record_proposes_later_slots_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    genesis = genesis_of(1)
    async with trio.open_nursery() as nursery:
        node = await start(nursery, 0, genesis, tmp_path, [])
        await until(lambda: node.service.head().height >= 2, 20)
        await stop(node)
        (tmp_path / "n0.signed").write_bytes(b"\x00" * 100)
        told = node.service.slot_now()
        again = await start(nursery, 0, genesis, tmp_path, [])
        assert "the record of what this validator signed is damaged" in caplog.text
        height = again.service.head().height
        await until(lambda: again.service.head().height > height, 20)
        chain = again.service.chain  # which moves before the database does
        first = next(block for block in chain.ancestors(chain.head.id) if block.height == height + 1)
        assert genesis.slot_at(first.sealed.timestamp_ms) > told + 1
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_a_late_joiner_syncs_past_peers_that_lie_babble_or_stay_silent(tmp_path: Path) -> None:
    genesis = genesis_of(1)
    claim = Status(genesis.chain_id, b"\xee" * 32, 10**6, 2**200)

    async def lie(peer: str, message: object) -> bytes:
        assert isinstance(message, bytes)
        wants_head = isinstance(decode_request(message), GetStatus)
        return encode_response(claim if wants_head else HeaderList(()))

    async def babble(peer: str, message: object) -> bytes:
        return b"\xc1 what?"

    async def stay_silent(peer: str, message: object) -> bytes:
        await trio.sleep_forever()
        return b""

    async with trio.open_nursery() as nursery:
        honest = await start(nursery, 0, genesis, tmp_path, [])
        addresses = honest.host.addrs()
        for i, behave in enumerate((lie, babble, stay_silent)):
            villain = Host(bytes([200 + i]) * 32)
            await nursery.start(villain.run)
            villain.serve(PROTOCOL, behave)
            addresses += villain.addrs()
        await until(lambda: honest.service.head().height >= 3, 20)
        late = await start(nursery, 1, genesis, tmp_path, addresses, validator=False)
        await until(lambda: late.service.head().height >= 3, 40)
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_answers_read_the_disk_in_a_thread_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genesis = genesis_of(1)
    async with trio.open_nursery() as nursery:
        node = await start(nursery, 0, genesis, tmp_path, [], validator=False)
        threads: list[int] = []

        def read(block_id: bytes) -> bytes:
            threads.append(threading.get_ident())
            return b"a block"

        monkeypatch.setattr(node.service.db, "block", read)
        assert await node.service._answer(GetBlock(bytes(32))) == encode_response(OneBlock(b"a block"))
        assert len(threads) == 1
        assert threads[0] != threading.get_ident()
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_a_validator_whose_clock_is_wrong_neither_proposes_nor_votes(tmp_path: Path) -> None:
    genesis, wrong = genesis_of(1), [True]
    async with trio.open_nursery() as nursery:
        node = await start(nursery, 0, genesis, tmp_path, [], clock_wrong=lambda: wrong[0])
        await until(lambda: node.service.slot_now() >= 4, 30)
        assert (node.service.head().height, list(node.service.chain.votes)) == (0, [])
        wrong[0] = False
        await until(lambda: node.service.head().height > 0 and bool(list(node.service.chain.votes)), 30)
        nursery.cancel_scope.cancel()
