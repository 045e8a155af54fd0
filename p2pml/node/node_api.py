"""A node's answers to its HTTP API: `p2pml.api.facade.NodeFacade` over the parts of a `Node`."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from chain import address
from chain.errors import ChainError
from chain.transactions import Tx
from chain.types import Block
from p2pml.errors import ExitCode, UserError
from p2pml.node import chain_views, views
from p2pml.node.data_api import DataApi
from p2pml.node.job_service import UnknownJob
from p2pml.node.job_views import MaterialView
from p2pml.node.net_api import NetApi
from p2pml.node.node import Node
from p2pml.node.rating_api import RatingApi
from p2pml.node.validator_api import ValidatorApi
from p2pml.node.worker_api import WorkerApi

HISTORY = 100


class NodeApi:
    """See `p2pml.api.facade.NodeFacade` for what each method promises."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.data = DataApi(node.data)
        self.net = NetApi(node)
        self.validating = ValidatorApi(node.chain, node.data, node.sender, node.registrar, node.sponsoring)
        self.rating = RatingApi(node.chain, node.account, lambda: node.rating.segments)
        self.worker = WorkerApi(node)

    # -- this node -------------------------------------------------------------------------------------

    def status(self) -> views.StatusView:
        node, head = self._node, self._node.chain.head()
        state, reason = node.worker_state()
        clock = node.time.estimate()
        return views.StatusView(
            version=version("p2pml"),
            name=node.config.name,
            pid=os.getpid(),
            uptime_s=round(time.monotonic() - node.started, 1),
            peer_id=node.host.peer_id,
            addresses=node.host.addrs(),
            account=address.encode(node.account),
            network=node.genesis.chain_name,
            chain_id=node.genesis.chain_id.hex(),
            transport=node.config.transport,
            head=views.HeadView(head.id.hex(), head.height, head.slot, node.chain.chain.final_height),
            slot=node.chain.slot_now(),
            slot_ms=node.genesis.params.slot_ms,
            behind=node.chain.behind,
            peers=len(node.host.connected()),
            trainer=node.config.trainer,
            worker=state,
            worker_reason=reason,
            worker_rests=list(node.worker.rests),
            balance=node.chain.balance(node.account),
            rating=node.chain.rating(node.account),
            datasets=len(node.data.list()),
            jobs_running=node.jobs.running,
            clock_ms=None if clock is None else round(clock.offset * 1000),
            clock_peers=0 if clock is None else clock.peers,
            clock_limit_ms=node.genesis.params.skew_ms,
            heartbeat_slot=node.chain.silent_until(),
            lowest_body=node.chain.lowest_body,
            rating_window=self.rating.progress(),
            epoch=node.chain.slot_now() // node.genesis.params.slots_per_epoch,
            rating_problem=node.rating.problem,
        )

    def not_ready_reason(self) -> str:
        chain = self._node.chain
        if chain.behind > 1:
            return f"the chain is {chain.behind} blocks behind its peers"
        return ""

    def peers(self) -> list[views.PeerView]:
        host, chain = self._node.host, self._node.chain
        return [
            views.PeerView(
                peer_id=peer.peer_id,
                name=peer.name,
                account=address.encode(peer.account),
                rating=chain.rating(peer.account),
                trainer=peer.trainer,
                busy=peer.busy,
                height=peer.facts.height,
                connected=host.is_connected(peer.peer_id),
                addresses=list(peer.addrs),
            )
            for peer in self._node.presence.peers()
        ]

    async def reachability(self) -> list[views.ReachView]:
        node = self._node
        reports = await node.reachability.look()
        return [
            views.ReachView(item.peer, node.name_of(item.peer), item.ip, item.reached) for item in reports
        ]

    def request_shutdown(self) -> None:
        self._node.shutdown_requested.set()

    # -- the chain -------------------------------------------------------------------------------------

    async def account(self, text: str) -> views.AccountView:
        try:
            public = address.decode(text)
        except ValueError as error:
            raise UserError(
                f"{text!r} is not an address: {error}", "copy it again", ExitCode.USAGE
            ) from error
        chain = self._node.chain
        included = await chain.account_history(public, HISTORY)
        entry = chain.account(public)
        vesting, epochs = chain.vesting(public)
        found = [
            chain_views.transaction_view(
                item.tx, self._price_of, item.height, chain.chain.canonical_id(item.height)
            )
            for item in sorted(included, key=lambda item: (item.height, item.position))
        ]
        return views.AccountView(
            address=text,
            balance=chain.balance(public),
            vesting=vesting,
            vesting_epochs=epochs,
            nonce=entry.nonce,
            next_nonce=chain.next_nonce(public),
            rating=chain.rating(public),
            proposed=await chain.proposed(public),
            transactions=found,
        )

    async def transaction(self, tx_id: str) -> views.TransactionView:
        chain, wanted = self._node.chain, _hash(tx_id, "transaction")
        included = await chain.tx(wanted)
        if included is not None:
            block_id = chain.chain.canonical_id(included.height)
            return chain_views.transaction_view(included.tx, self._price_of, included.height, block_id)
        waiting = chain.waiting_tx(wanted)
        if waiting is None:
            raise views.NotFound(f"there is no transaction {tx_id} in a block or waiting for one")
        return chain_views.transaction_view(waiting, self._price_of)

    async def blocks(self, first: int | None, count: int) -> list[views.BlockView]:
        chain = self._node.chain
        start = chain.head().height - count + 1 if first is None else first
        found = await chain.blocks(max(start, 1), count)
        return [self._block_view(block) for block in found]

    async def block(self, id_or_height: str) -> views.BlockView:
        if id_or_height.isascii() and id_or_height.isdigit() and len(id_or_height) < 16:
            found = await self._node.chain.block(int(id_or_height))
        else:
            found = await self._node.chain.block(_hash(id_or_height, "block"))
        if found is None:
            raise views.NotFound(f"there is no block {id_or_height}", "`p2pml chain head` names the newest")
        return self._block_view(found)

    def _block_view(self, block: Block) -> views.BlockView:
        chain = self._node.chain.chain
        final = chain.is_canonical(block.block_id) and block.height <= chain.final_height
        return chain_views.block_view(block, self._node.chain.state(), self._price_of, final)

    def validators(self) -> list[views.ValidatorView]:
        return chain_views.validator_views(self._node.chain.state())

    def checkpoint(self) -> views.CheckpointView:
        point = self._node.chain.keeper.newest_point()
        if point is None:
            raise views.NotFound("no block is final yet", "wait until two thirds of the weight have voted")
        return views.CheckpointView(point.height, point.id.hex(), point.root.hex(), str(point))

    def supply(self) -> views.SupplyView:
        return chain_views.supply_view(self._node.chain.state())

    def _price_of(self, job_id: bytes) -> int:
        job = self._node.chain.job(job_id)
        return 0 if job is None else job.price

    async def submit(self, encoded: bytes) -> views.SubmittedView:
        try:
            tx = Tx.decode(encoded, self._node.genesis.params.max_tx_bytes)
            await self._node.chain.submit_tx(tx)
        except ChainError as error:
            raise UserError(f"the transaction is refused: {error}", "correct it and sign it again") from error
        return views.SubmittedView(tx.id.hex())

    async def submit_batch(self, encoded: Sequence[bytes]) -> views.BatchView:
        ids, refused = [], []
        for index, data in enumerate(encoded):
            try:
                ids.append((await self.submit(data)).id)
            except UserError as error:
                refused.append(views.RefusedView(index, str(error)))
        return views.BatchView(ids, refused)

    # -- jobs ------------------------------------------------------------------------------------------

    def jobs(self) -> list[dict[str, Any]]:
        return self._node.jobs.list()

    def job(self, job_id: str) -> dict[str, Any]:
        try:
            return self._node.jobs.show(job_id)
        except UnknownJob as error:
            raise views.NotFound(error.cause, error.fix) from error

    async def job_log(self, job_id: str, after: int) -> list[dict[str, Any]]:
        try:
            return await self._node.jobs.log(job_id, after)
        except UnknownJob as error:
            raise views.NotFound(error.cause, error.fix) from error

    async def job_spec(self, job_id: str) -> str:
        try:
            return await self._node.jobs.spec(job_id)
        except UnknownJob as error:
            raise views.NotFound(error.cause, error.fix) from error

    async def start_job(self, spec: str, base_dir: Path, origin: str) -> views.StartedJobView:
        after = self._node.events.last_id
        return views.StartedJobView(await self._node.jobs.start(spec, base_dir, origin), after)

    async def quote_job(self, spec: str, base_dir: Path, origin: str) -> views.QuoteView:
        return await self._node.jobs.quote(spec, base_dir, origin)

    async def resume_job(self, job_id: str) -> views.StartedJobView:
        after = self._node.events.last_id
        try:
            return views.StartedJobView(await self._node.jobs.resume(job_id), after)
        except UnknownJob as error:
            raise views.NotFound(error.cause, error.fix) from error

    async def job_material(self, job_id: str) -> MaterialView:
        try:
            return await self._node.jobs.material(job_id)
        except UnknownJob as error:
            raise views.NotFound(error.cause, error.fix) from error

    async def stop_job(self, job_id: str) -> None:
        try:
            await self._node.jobs.stop(job_id)
        except UnknownJob as error:
            raise views.NotFound(error.cause, error.fix) from error

    # -- events ----------------------------------------------------------------------------------------

    def events_since(self, after: int) -> list[views.EventView]:
        found = self._node.events.since(after)
        return [views.EventView(event.id, event.kind, event.data) for event in found]

    @property
    def first_event_id(self) -> int:
        return self._node.events.first_id

    @property
    def last_event_id(self) -> int:
        return self._node.events.last_id

    async def wait_for_events(self, after: int) -> None:
        await self._node.events.wait(after)


def _hash(text: str, what: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != 32 or len(text) != 64:
        raise UserError(
            f"{text!r} is not a {what}'s id", "give all of its 64 hexadecimal digits", ExitCode.USAGE
        )
    return value
