"""A node and a worker over loopback with TLS, where the process that computes is a stand-in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from p2pml.formats.optimizers import Optimizer
from p2pml.worker import tls
from p2pml.worker.contents import Contents
from p2pml.worker.protocol import (
    PROTOCOL_VERSION,
    Built,
    Evaluate,
    Evaluated,
    Hello,
    Progress,
    Span,
    Spanned,
    Train,
    Trained,
)
from p2pml.worker.remote import Place, RemoteWorker
from p2pml.worker.serving import WorkerServer
from p2pml.worker.session import WorkerUnavailable

TOKEN = "t" * 64
ANSWERS: dict[type, Any] = {
    Train: Trained(b"u", 1, 1, 0.0, 0.0, 1),
    Evaluate: Evaluated(0.1, 0.9, 5),
    Span: Spanned(b"w", b"s"),
}


@dataclass
class StandIn:
    """What `WorkerSupervisor` is on the serving machine; a request's samples are what it reads."""

    rests: tuple[str, ...] = ()
    told: list[tuple[str, bool]] = field(default_factory=list)
    seen: list[bytes] = field(default_factory=list)
    begun: trio.Event = field(default_factory=trio.Event)
    cancelled: int = 0
    pid: int = 7
    loads: bool = False
    status: str = "starting"
    hold: bool = False
    fail: Exception | None = None

    async def wait_ready(self) -> Hello:
        await trio.sleep(1000 if self.loads else 0)
        if isinstance(self.fail, WorkerUnavailable):
            raise self.fail
        return Hello(PROTOCOL_VERSION, self.pid, {"python": "3"}, 1, True, 1.0, 1)

    async def rest(self, reason: str, resting: bool) -> None:
        await trio.lowlevel.checkpoint()
        self.told.append((reason, resting))

    async def call(self, request: Any, progress: Callable[[Progress], None]) -> Any:
        self.begun.set()
        if self.fail is not None:
            raise self.fail
        progress(Progress(1, 2, 0.5))
        try:
            await trio.sleep(1000 if self.hold else 0.05)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        match request:
            case Train(shard=path) | Evaluate(data=path) | Span(shard=path):
                self.seen.append(Path(path).read_bytes())  # noqa: ASYNC240
                return ANSWERS[type(request)]
        return Built(b"w", "{}", 3)


@dataclass
class Pair:
    """Both sides; `connect` makes another node."""

    worker: StandIn
    port: int
    fingerprint: str
    folder: Path
    nursery: trio.Nursery
    serving: trio.CancelScope
    serve: Callable[..., Any]

    async def connect(
        self, token: str = TOKEN, fingerprint: str | None = None, backoff: float = 0.05
    ) -> RemoteWorker:
        pin = self.fingerprint if fingerprint is None else fingerprint
        node = RemoteWorker(Place(f"wss://127.0.0.1:{self.port}", token, pin), backoff=backoff)
        await self.nursery.start(node.run)
        return node

    async def restart(self) -> None:
        """End the serving side, and start it again on the same port."""
        self.serving.cancel()
        self.serving = await self.nursery.start(self.serve, self.port)


@asynccontextmanager
async def pair(folder: Path, limit: int = 1 << 30) -> AsyncIterator[Pair]:
    certificate, key = folder / "w.crt", folder / "w.key"
    tls.make_certificate(certificate, key)
    context = tls.server_context(certificate, key)
    worker = StandIn()
    ports: list[int] = []

    async def serve(port: int, *, task_status: Any) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as inner:
                server = WorkerServer(worker, TOKEN, Contents(folder / "kept", limit))  # type: ignore[arg-type]
                listening = await inner.start(server.run, "127.0.0.1", port, context)
                ports.append(listening.port)
                task_status.started(scope)

    async with trio.open_nursery() as nursery:
        scope = await nursery.start(serve, 0)
        yield Pair(worker, ports[0], tls.file_fingerprint(certificate), folder, nursery, scope, serve)
        nursery.cancel_scope.cancel()


def training(path: Path) -> Train:
    return Train("{}", b"w", str(path), Optimizer("sgd", 0.1), 1, 1, 1, 0, 0)


def evaluation(path: Path) -> Evaluate:
    return Evaluate("{}", b"w", str(path))


def span(path: Path) -> Span:
    return Span("{}", b"w", b"", str(path), Optimizer("sgd", 0.1), 1, 1, 0, 1)


READERS = pytest.mark.parametrize("reader", [training, evaluation, span])


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110  (what it waits for has no event)
            await trio.sleep(0.01)
