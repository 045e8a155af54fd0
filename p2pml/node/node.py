"""The composition root: every part of a node, made and wired in one place and run in one nursery."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import trio

from chain.errors import ChainError
from chain.genesis import Genesis
from chain.producer import ProposerKeys
from chain.snapshot import TrustedPoint
from p2pml.config import Config
from p2pml.errors import ExitCode, UserError
from p2pml.home import Home
from p2pml.identity import NodeKeys
from p2pml.net.genesis_exchange import offer_genesis
from p2pml.net.gossip import Gossip
from p2pml.net.host import Host
from p2pml.net.lan import Lan
from p2pml.net.plain_port import PlainPort
from p2pml.net.presence import Facts, Presence
from p2pml.net.reachability import Reachability
from p2pml.net.relay import Relays
from p2pml.net.time_exchange import PeerTime
from p2pml.node.chain_service import ChainService
from p2pml.node.claims import Claims
from p2pml.node.clock_watch import ClockWatch
from p2pml.node.data_service import DataService
from p2pml.node.events import Events
from p2pml.node.genesis_file import read_genesis
from p2pml.node.job_files import JobFiles
from p2pml.node.job_service import JobService
from p2pml.node.make_worker import make_worker
from p2pml.node.no_worker import NoWorker
from p2pml.node.participant import Participant
from p2pml.node.ports import NodeParts, Trainer
from p2pml.node.private_data import PrivateData
from p2pml.node.rating_service import RatingService
from p2pml.node.rating_training import Effort
from p2pml.node.registering import Registrar
from p2pml.node.sponsoring import Sponsoring
from p2pml.node.tx_sender import TxSender
from p2pml.node.work_limits import WorkLimits
from p2pml.node.worker_pause import WorkerPause
from p2pml.storage.chain_db import ChainDb
from p2pml.worker.load import rest_while_busy
from p2pml.worker.rests import RATING, lasting
from p2pml.worker.tff.process import TffProcess

if TYPE_CHECKING:
    from trio_typing import TaskStatus

logger = logging.getLogger(__name__)

LOOK_S = 0.5
"""How often the facts that others hear of this node are compared with what they heard last."""


def unix_ms() -> int:
    """This machine's clock, milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Node:
    """The parts of one node.

    Args:
        home: made already, with a genesis file.
        config: what config.toml and the command line say.

    Raises:
        UserError: a damaged key, genesis or chain database, a bad bootstrap address.
    """

    def __init__(self, home: Home, config: Config) -> None:
        self.home, self.config = home, config
        self.started = time.monotonic()
        self.events = Events(first_id=unix_ms())
        self.shutdown_requested = trio.Event()
        self.genesis = _load_genesis(home)
        keys = NodeKeys.load_or_create(home)
        validator_keys = ProposerKeys.from_seeds(keys.validator, keys.vrf)
        self.keypair = validator_keys.keypair
        self._vrf_public = validator_keys.vrf_public
        address = (config.listen, config.port)
        self.host = Host(
            keys.node,
            *address,
            config.bootstrap,
            transport=config.transport,
            websocket_port=config.websocket_port or None,
            peers_file=home.peers_file,
        )
        self.gossip = Gossip(self.host, self.genesis.chain_id)
        self.reachability = Reachability(self.host)
        self.relays = Relays(self.host, config.relay, config.relays)
        offer_genesis(self.host, self.genesis.chain_id, self.genesis.to_json().encode())
        self.presence = Presence(self.host, self.gossip, self.facts)
        self.lan = Lan(self.host, self.genesis.chain_id, self.presence.hint)
        self.clock_watch = ClockWatch(self.events, self.genesis.params.skew_ms)
        self.time = PeerTime(self.host, unix_ms, self.clock_watch.heard)
        self.db = ChainDb.repaired(home.chain_db, self.genesis.chain_id)
        self.chain = ChainService(
            self.genesis,
            self.db,
            validator_keys,
            self.host,
            self.gossip,
            self.presence,
            self.events,
            unix_ms,
            clock_wrong=lambda: self.clock_watch.wrong,
            idle=config.idle,
            prune=config.prune,
            checkpoint=trusted_point(config.checkpoint),
        )
        quota = config.data_quota_mib * 2**20 or None
        plain = PlainPort(config.listen, config.bittorrent_port) if config.bittorrent_port else None
        self.data = DataService(home, self.host, self.gossip, self.presence, self.events, quota, plain)
        self.worker = make_worker(home, config)
        self.pause = WorkerPause(home.worker_paused, self.worker.rest)
        self.sender = TxSender(self.chain, self.keypair)
        files = JobFiles(self.data)
        parts = NodeParts(
            host=self.host,
            chain=self.chain,
            data=files,
            worker=self.worker,
            trainers=self.trainers,
            events=self.events,
            keys=self.keypair,
            folder=home.jobs,
            name_of=self.name_of,
            tff=partial(TffProcess, home.logs / "tff.log"),
        )
        claims = Claims(self.chain, self.sender, home.root / "receipts", self.events)
        private = PrivateData(config.private, home.private)
        self.participant = Participant(parts, claims, WorkLimits.of(config), config.trainer, private)
        self.jobs = JobService(parts, self.sender)
        self.registrar = Registrar(self.chain, self.sender, validator_keys, config.name)
        self.rating = RatingService(
            self.chain,
            self.keypair,
            self.host,
            self.peers_of,
            files.fetch_readable,
            home,
            self.events,
            Effort.of(config) if config.rating else None,
            self._rest_in_window,
        )
        self.chain.court = self.rating.court
        self.sponsoring = Sponsoring(self.chain, self.sender, home.sponsored, unix_ms)
        self.sponsoring.serve(self.host)

    @property
    def account(self) -> bytes:
        """The validator's account, 32 bytes."""
        return self.keypair.public

    async def _rest_in_window(self, resting: bool) -> None:
        """A window needs this machine, not another one."""
        if not self.config.worker:
            await self.worker.rest(RATING, resting)

    def worker_state(self) -> tuple[str, str]:
        """`starting`, `ready`, `busy` or `off`, and the reason, for `off` and what takes long to start."""
        state, _, reason = self.worker.status.partition(": ")
        return "off" if state == "unavailable" else state, reason

    def facts(self) -> Facts:
        """What this node tells others about itself now."""
        able = self.worker_state()[0] in ("ready", "busy") and not lasting(self.worker.rests)
        return Facts(
            account=self.account,
            trainer=self.config.trainer and able,
            busy=self.participant.busy,
            rating=self.chain.rating(self.account),
            height=self.chain.head().height,
            name=self.config.name,
            vrf=self._vrf_public,
        )

    def trainers(self) -> Sequence[Trainer]:
        """The connected nodes that offer to train; ratings are the chain's, not what they say."""
        return [
            Trainer(peer.peer_id, peer.name, self.chain.rating(peer.account), peer.busy)
            for peer in self.presence.trainers()
        ]

    def name_of(self, peer_id: str) -> str:
        """What people call a peer; empty when unknown."""
        peer = self.presence.get(peer_id)
        return "" if peer is None else peer.name

    def peers_of(self, account: bytes) -> list[str]:
        """The live peers that say they are an account (32 bytes)."""
        return [peer.peer_id for peer in self.presence.peers() if peer.account == account]

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run every part until cancelled; started once the node follows the chain and takes requests."""
        try:
            async with trio.open_nursery() as nursery:
                network: trio.CancelScope = await nursery.start(self._run_network)
                try:
                    async with trio.open_nursery() as services:
                        await self._start_services(services)
                        logger.info("node %s is on %s", self.host.peer_id, ", ".join(self.host.addrs()))
                        task_status.started()
                finally:
                    network.cancel()
        finally:
            self.db.close()

    async def _run_network(
        self, *, task_status: TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Host, gossip and presence, which outlive the services: a job that ends says goodbye over them."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.host.run)
            await nursery.start(self.gossip.run)
            await nursery.start(self.presence.run)
            await nursery.start(self.reachability.run)
            await nursery.start(self.relays.run)
            await nursery.start(self.time.run)
            if self.config.mdns and not self.host.listens_on_loopback:
                await nursery.start(self.lan.run)
            nursery.cancel_scope.shield = True
            task_status.started(nursery.cancel_scope)

    async def _start_services(self, nursery: trio.Nursery) -> None:
        await nursery.start(self.chain.run)
        await nursery.start(self.data.run)
        await nursery.start(self.participant.run)
        await nursery.start(self.jobs.run)
        await nursery.start(self.rating.run)
        if isinstance(self.worker, NoWorker):
            logger.warning("no training on this node: %s", self.worker_state()[1])
        else:
            await self.pause.restore()
            await nursery.start(self.worker.run)
            if self.config.worker_idle_only and not self.config.worker:
                nursery.start_soon(rest_while_busy, self.worker.rest)
        nursery.start_soon(self._tell_changes)

    async def _tell_changes(self) -> None:
        """Announce at once when this node becomes able to train, or busy, rather than at the next turn."""
        told = self.facts()
        while True:
            await trio.sleep(LOOK_S)
            now = self.facts()
            if (now.trainer, now.busy) != (told.trainer, told.busy):
                self.presence.announce()
                self.events.emit("node.worker", state=self.worker_state()[0], busy=now.busy)
            told = now


async def run_node(
    home: Home, config: Config, *, task_status: TaskStatus[Node] = trio.TASK_STATUS_IGNORED
) -> None:
    """Make and run a node until cancelled; started with the node once it is up.

    Raises:
        UserError: see `Node`; a port in use.
    """
    node = Node(home, config)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        task_status.started(node)


def _load_genesis(home: Home) -> Genesis:
    if not home.genesis_file.exists():
        raise UserError(
            f"the home {home.root} belongs to no network yet: it has no genesis.json",
            "join one with `p2pml daemon --genesis FILE`, or found one with `p2pml genesis create`",
            ExitCode.BAD_CONFIG,
        )
    return read_genesis(home.genesis_file)


def trusted_point(text: str) -> TrustedPoint | None:
    """What config.toml or the command line says to trust. Raises UserError."""
    if not text:
        return None
    try:
        return TrustedPoint.parse(text)
    except ChainError as error:
        raise UserError(
            f"the checkpoint cannot be read: {error}",
            "copy it again from `p2pml chain checkpoint` of a node you trust",
            ExitCode.BAD_CONFIG,
        ) from error
