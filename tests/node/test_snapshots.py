"""Nodes that keep snapshots, begin at one, prune, and join at a trusted checkpoint."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from chain import snapshot, snapshot_sync
from chain.errors import InvalidTransaction
from chain.genesis import Genesis
from chain.snapshot import TrustedPoint
from chain.snapshot_messages import (
    PROTOCOL,
    GetManifest,
    answer_part,
    decode_part_request,
)
from chain.transactions import Transfer
from p2pml.errors import UserError
from p2pml.net.host import Host
from p2pml.storage.chain_db import ChainDb
from p2pml.storage.chain_snapshots import ChainSnapshots
from tests.node.test_chain_service import BOB, Node, agree, genesis_of, keys_of, start, stop, until

pytestmark = pytest.mark.slow


async def pay_for_ever(node: Node) -> None:
    """A transfer in every slot, so that there is always something to make final."""
    while True:
        slot = node.service.slot_now()
        with suppress(InvalidTransaction):  # a busy machine may be late for both slots
            await node.service.send(keys_of(0).keypair, Transfer(BOB.public, 1), valid_slots=2)
        await node.service.wait_slot(slot + 1)


async def test_a_restart_executes_only_the_tail_and_a_pruned_node_drops_what_is_below(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    genesis = genesis_of(3)
    store = ChainSnapshots.beside(tmp_path / "n2.sqlite", genesis)
    async with trio.open_nursery() as nursery:
        nodes = [await start(nursery, 0, genesis, tmp_path, [])]
        for i in (1, 2):
            first = [nodes[0].host.addrs()[0]]
            nodes.append(await start(nursery, i, genesis, tmp_path, first, prune=i == 2))
        nursery.start_soon(pay_for_ever, nodes[0])
        pruning = nodes[2].service
        await until(lambda: pruning.lowest_body > 1, 60)
        lowest = pruning.lowest_body
        assert lowest in store.heights()
        assert await pruning.block(lowest - 1) is None
        assert await pruning.block(lowest) is not None
        below = pruning.chain.canonical_id(lowest - 1)
        assert below is not None
        assert pruning.db.sealed(below) is not None
        assert store.read(lowest).certificate is not None, "the votes that made it final stay"
        assert nodes[1].service.lowest_body == 1
        assert await nodes[1].service.block(1) is not None
        await stop(nodes[2])
        stored, newest = pruning.head(), store.heights()[0]
        with closing(ChainDb(tmp_path / "n2.sqlite", genesis.chain_id)) as db:
            tail = len(list(db.replay(newest)))
        again = await start(nursery, 2, genesis, tmp_path, [nodes[1].host.addrs()[0]], prune=True)
        assert again.service.executed == tail
        assert stored.height - newest <= tail < stored.height / 2, "side branches may have blocks there too"
        assert again.service.head().height >= stored.height
        assert again.service.chain.canonical_id(1) == nodes[0].service.chain.canonical_id(1)
        await until(lambda: agree([nodes[0], nodes[1], again]), 20)
        nursery.cancel_scope.cancel()


async def test_a_late_joiner_by_checkpoint_with_a_liar_and_a_silent_peer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in (snapshot, snapshot_sync):
        monkeypatch.setattr(module, "RUN_BYTES", 400)  # many runs, so that everybody is asked
    monkeypatch.setattr(snapshot_sync, "TIMEOUT", 1.0)
    monkeypatch.setattr(snapshot_sync, "REST", 0.5)
    genesis = genesis_of(2)
    late_store = ChainSnapshots.beside(tmp_path / "n2.sqlite", genesis)
    async with trio.open_nursery() as nursery:
        honest = [await start(nursery, 0, genesis, tmp_path, [])]
        honest.append(await start(nursery, 1, genesis, tmp_path, [honest[0].host.addrs()[0]]))
        nursery.start_soon(pay_for_ever, honest[0])
        await until(lambda: honest[0].service.chain.final_height >= 4, 40)
        point = honest[0].service.keeper.newest_point()
        assert point is not None
        true = await honest[0].service.keeper.found(point.id)
        silences: list[bytes] = []

        async def lie(peer: str, message: object) -> bytes:
            assert isinstance(message, bytes)
            request = decode_part_request(message)
            data = answer_part(request, lambda _: true)
            return data if isinstance(request, GetManifest) else data[:-1] + bytes([data[-1] ^ 1])

        async def stay_silent(peer: str, message: object) -> bytes:
            assert isinstance(message, bytes)
            silences.append(message)
            await trio.sleep_forever()
            return b""

        addresses = [node.host.addrs()[0] for node in honest]
        for i, behave in enumerate((lie, stay_silent)):
            villain = Host(bytes([200 + i]) * 32)
            await nursery.start(villain.run)
            villain.serve(PROTOCOL, behave)
            addresses.append(villain.addrs()[0])
        late = await start(nursery, 2, genesis, tmp_path, addresses, validator=False, checkpoint=point)
        assert late.service.chain.canonical_id(point.height) == point.id
        assert late.service.chain.canonical_id(point.height - 1) is None
        assert late.service.chain.state(point.id).root() == point.root
        assert (late.service.executed, late.service.lowest_body) == (0, point.height + 1)
        assert "a false snapshot" in caplog.text
        assert silences
        goal = honest[0].service.head().height + 2
        await until(lambda: late.service.head().height >= goal and agree([*honest, late]), 30)
        await until(lambda: late.service.chain.final_height > point.height, 20)
        await until(lambda: late.service.head().id == honest[0].service.head().id, 20)
        assert late.service.state().root() == honest[0].service.state().root()
        await stop(late)
        with closing(ChainDb(tmp_path / "n2.sqlite", genesis.chain_id)) as db:
            tail = len(list(db.replay(max(late_store.heights()))))
        again = await start(
            nursery, 2, genesis, tmp_path, [honest[1].host.addrs()[0]], validator=False, checkpoint=point
        )
        assert again.service.executed == tail
        assert again.service.lowest_body == point.height + 1
        assert again.service.chain.canonical_id(1) is None
        await until(lambda: agree([*honest, again]), 20)
        nursery.cancel_scope.cancel()


async def test_a_checkpoint_that_cannot_be_followed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_sync, "PATIENCE", 4.0)
    genesis = genesis_of(1)
    async with trio.open_nursery() as nursery:
        node = await start(nursery, 0, genesis, tmp_path, [])
        nursery.start_soon(pay_for_ever, node)
        await until(lambda: node.service.chain.final_height >= 2, 30)
        point = node.service.keeper.newest_point()
        assert point is not None
        cases = [
            (replace(point, root=bytes(32)), "another height or state root"),
            (replace(point, id=bytes(32)), "does not have it"),
        ]
        bootstrap = [node.host.addrs()[0]]
        for i, (wrong, says) in enumerate(cases, start=5):
            error = await refusal(i, genesis, tmp_path, bootstrap, wrong)
            assert says in error.cause
            assert "newer one" in error.fix
        await stop(node)
        error = await refusal(0, genesis, tmp_path, [], replace(point, id=bytes(32)))
        assert "fresh home" in error.fix
        nursery.cancel_scope.cancel()


async def refusal(
    i: int, genesis: Genesis, folder: Path, bootstrap: list[str], point: TrustedPoint
) -> UserError:
    """Why a node does not begin at a checkpoint."""
    try:
        async with trio.open_nursery() as nursery:
            await start(nursery, i, genesis, folder, bootstrap, validator=False, checkpoint=point)
    except ExceptionGroup as group:
        return leaf(group)
    raise AssertionError("it began")


def leaf(group: BaseException) -> UserError:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    assert isinstance(group, UserError)
    return group
