"""What the jobs of a node need from its other parts, so that a test can stand in for the expensive ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from chain.crypto import Keypair
from chain.entries import Job
from chain.genesis import Genesis
from chain.training_records import RoundRecord
from chain.transactions import Tx
from p2pml.net.host import Host
from p2pml.node.events import Events
from p2pml.worker.protocol import Message, Progress, Request
from p2pml.worker.tff.process import TffProcess
from p2pml.worker.tff.request import TffRequest, TffResult

R = TypeVar("R", bound=Message)


class ChainPort(Protocol):
    """The chain as `p2pml.node.chain_service.ChainService` offers it."""

    @property
    def genesis(self) -> Genesis: ...

    def slot_now(self) -> int: ...

    def head_slot(self) -> int:
        """The slot of the newest block; 0 before the first."""
        ...

    def next_nonce(self, public: bytes) -> int: ...

    def nonce(self, public: bytes) -> int:
        """How many transactions of an account blocks have taken."""
        ...

    def job(self, job_id: bytes) -> Job | None: ...

    def paid_clients(self, job_id: bytes, round_: int) -> frozenset[int]:
        """The clients of a round that have been paid."""
        ...

    async def payees(self, job_id: bytes, round_: int) -> dict[tuple[int, int], bytes]:
        """The accounts that were paid for a job's work, by round and client, from a round on; nothing of what
        was paid in blocks that are not here, or not on disk yet."""
        ...

    def balance(self, public: bytes) -> int: ...

    async def submit_tx(self, tx: Tx) -> bytes: ...

    async def submit_record(self, record: RoundRecord) -> None: ...

    async def wait_tx(self, tx_id: bytes, timeout: float) -> int: ...


class WorkerPort(Protocol):
    """The worker as `p2pml.worker.process.WorkerSupervisor` offers it."""

    @property
    def status(self) -> str: ...

    @property
    def rests(self) -> tuple[str, ...]:
        """Why its calls stand still (`p2pml.worker.rests`); no reason while it computes."""
        ...

    async def call(self, request: Request[R], progress: Callable[[Progress], None] | None = None) -> R: ...


class TffPort(Protocol):
    """TensorFlow Federated's rules as `p2pml.worker.tff.process.TffProcess` offers them."""

    async def refusal(self) -> str:
        """Why it cannot run on this machine; empty when it can."""
        ...

    async def aggregate(self, request: TffRequest) -> TffResult: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Trainer:
    """A node that offers to train, as presence knows it."""

    peer: str
    name: str
    rating: int
    busy: bool


class DataPort(Protocol):
    """The data layer as `p2pml.node.job_files.JobFiles` offers it to jobs."""

    async def dataset(self, source: str, base_dir: Path) -> tuple[bytes, Path]: ...

    async def local(self, source: str, base_dir: Path) -> Path: ...

    async def public(self, source: str) -> tuple[bytes, bytes]: ...

    async def offer(self, name: str, files: Sequence[tuple[str, Path]]) -> bytes: ...

    def allow(self, metainfo: bytes, peers: Sequence[str]) -> None: ...

    async def fetch(
        self,
        metainfo: bytes,
        wanted: Sequence[int],
        sources: Sequence[str],
        progress: Callable[[int, int], None],
    ) -> list[Path]: ...

    async def fetch_public(
        self, metainfo: bytes, sources: Sequence[str], progress: Callable[[int, int], None]
    ) -> Path: ...

    def leftovers(self) -> list[bytes]: ...

    async def forget(self, metainfo: bytes, delete: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class NodeParts:
    """The parts of a node that jobs work with.

    Args:
        host: to talk to peers.
        chain, data, worker: see their ports.
        trainers: the nodes that offer to train now, this one left out.
        events: where progress is told.
        keys: the account that opens jobs and earns.
        folder: the home's `jobs` folder.
        name_of: what people call a peer, empty when unknown.
        tff: makes what carries out TensorFlow Federated's rules for one job.
    """

    host: Host
    chain: ChainPort
    data: DataPort
    worker: WorkerPort
    trainers: Callable[[], Sequence[Trainer]]
    events: Events
    keys: Keypair
    folder: Path
    name_of: Callable[[str], str] = lambda peer: ""
    tff: Callable[[], TffPort] = TffProcess
