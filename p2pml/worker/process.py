"""The node's side of its worker: start the process, wait until it is ready, call it, and start another when
it dies.

The worker connects back by WebSocket to a port on the loopback interface and proves by a random token, handed
to it in its environment, that it is ours. Whatever happens to it is an exception of the call that it happened
to, never the node's end.
"""

from __future__ import annotations

import hmac
import logging
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, WebSocketServer, serve_websocket

from p2pml.worker.limits import WorkerLimits
from p2pml.worker.protocol import MAX_MESSAGE, Hello, Message, Progress, Request
from p2pml.worker.session import Session, WorkerDied, WorkerError, WorkerUnavailable

__all__ = ["WorkerDied", "WorkerError", "WorkerSupervisor", "WorkerUnavailable"]

if TYPE_CHECKING:
    from trio_typing import TaskStatus

R = TypeVar("R", bound=Message)
log = logging.getLogger(__name__)

LOG_BYTES = 4 << 20
"""A worker log longer than this is put aside as `worker.log.1` before the next start."""

MAX_BACKOFF = 60.0
"""Seconds between two starts, at most."""


class WorkerSupervisor:
    """One worker process, kept alive.

    Args:
        log_file: where its standard output and error go, appended.
        limits: of the process; over its memory it is killed.
        backoff: seconds before the first restart; doubles with each death in a row.
    """

    def __init__(
        self,
        log_file: Path,
        limits: WorkerLimits | None = None,
        *,
        backoff: float = 1.0,
    ) -> None:
        self._log_file = log_file
        self.limits = limits or WorkerLimits()
        self._backoff = backoff
        self._turn = trio.Lock()
        self._changed = trio.Event()
        self._session: Session | None = None
        self._refusal = ""
        self._starts = 0
        self._rests: dict[str, None] = {}  # in the order in which they came

    @property
    def ready(self) -> bool:
        """Whether a worker has imported TensorFlow and takes calls."""
        return self._session is not None and self._session.hello is not None

    @property
    def status(self) -> str:
        """`starting`, `ready`, `busy` or `unavailable: <reason>`."""
        if self._refusal:
            return f"unavailable: {self._refusal}"
        if self._session is None or self._session.hello is None:
            return "starting"
        return "busy" if self._session.busy else "ready"

    @property
    def hello(self) -> Hello | None:
        """What the living worker said of itself; None until it is ready."""
        return self._session.hello if self._session is not None else None

    @property
    def starts(self) -> int:
        """How many processes have been started."""
        return self._starts

    async def wait_ready(self) -> Hello:
        """Wait for a worker that takes calls.

        Raises:
            WorkerUnavailable: this machine cannot run one, or the supervisor has stopped.
        """
        while True:
            if self._refusal:
                raise WorkerUnavailable(self._refusal)
            if self._session is not None and self._session.hello is not None:
                return self._session.hello
            await self._changed.wait()

    async def call(self, request: Request[R], progress: Callable[[Progress], None] | None = None) -> R:
        """Have the worker carry out a request; calls wait for each other in order, and for the worker to be
        ready.

        Cancelling the caller cancels the work; a worker that does not stop within 10 s is killed.

        Args:
            request: what to do.
            progress: called with each report, in this task's thread; must not raise.

        Raises:
            WorkerError: the request failed; the worker lives on. `refused` tells whether the request is to
            blame. WorkerDied: the worker died meanwhile; another one is being started.
            WorkerUnavailable: this machine cannot run a worker, or the supervisor has stopped.
        """
        async with self._turn:
            await self.wait_ready()
            assert self._session is not None
            if self._rests:
                await self._session.rest(True)
            return await self._session.call(request, progress)

    @property
    def rests(self) -> tuple[str, ...]:
        """The reasons (`p2pml.worker.rests`) for which calls stand still; none while it computes."""
        return tuple(self._rests)

    async def rest(self, reason: str, resting: bool) -> None:
        """Stop computing for a reason, whatever calls there are, or no longer for that one: what is done so
        far is kept, and calls wait until no reason is left.

        A worker that starts meanwhile rests too, before its first call.
        """
        before = bool(self._rests)
        if resting:
            self._rests[reason] = None
        else:
            self._rests.pop(reason, None)
        if self.ready and bool(self._rests) != before:
            assert self._session is not None
            await self._session.rest(not before)

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep a worker alive until cancelled; the process is dead when this returns."""
        try:
            async with trio.open_nursery() as nursery:
                server: WebSocketServer = await nursery.start(self._serve)
                task_status.started()
                await self._keep_alive(f"ws://127.0.0.1:{server.port}/")
                nursery.cancel_scope.cancel()
        finally:
            self._refusal = self._refusal or "the node is stopping"
            self._notify()

    async def _serve(self, *, task_status: TaskStatus[WebSocketServer]) -> None:
        await serve_websocket(
            self._on_connection,
            "127.0.0.1",
            0,
            None,
            max_message_size=MAX_MESSAGE,
            receive_buffer_size=1 << 18,
            connect_timeout=10,
            disconnect_timeout=1,
            task_status=task_status,
        )

    async def _keep_alive(self, url: str) -> None:
        pause = self._backoff
        while True:
            life = await self._one_life(url)
            if life is not None and life.unable:
                log.warning("no worker on this machine: %s", life.unable)
                return
            was_ready = life is not None and life.hello is not None
            await trio.sleep(pause)
            pause = self._backoff if was_ready else min(2 * pause, MAX_BACKOFF)

    async def _one_life(self, url: str) -> Session | None:
        """Start a worker and wait for its end."""
        token = secrets.token_hex(32)
        try:
            process = await self._spawn(url, token)
        except OSError as error:
            log.error("the worker process cannot be started: %s", error)
            return None
        self._starts += 1
        session = self._session = Session(process, token, self._notify)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(session.watch_memory, self.limits.memory_bytes)
                await process.wait()
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                session.kill("the node stopped it")
                await process.wait()
            self._session = None
            self._refusal = session.unable
            session.end(process.returncode or 0)
            self._notify()
        log.warning("the worker died: %s; see %s", session.last_words, self._log_file)
        return session

    async def _spawn(self, url: str, token: str) -> trio.Process:
        with await trio.to_thread.run_sync(_open_log, self._log_file) as output:
            return await trio.lowlevel.open_process(
                [sys.executable, "-m", "p2pml.worker"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(os.environ, url, token, self.limits),
            )

    async def _on_connection(self, request: WebSocketRequest) -> None:
        session = self._session
        given = dict(request.headers).get(b"authorization", b"")
        ours = session is not None and hmac.compare_digest(given, b"Bearer " + session.token.encode())
        try:
            if session is None or not ours:
                await request.reject(403)
                return
            await session.serve(await request.accept())
        except ConnectionClosed:
            await trio.sleep(2)  # a worker that is ending says more by its exit status
        except Exception:
            # Nothing that comes through this socket may end the node.
            log.exception("a connection to the worker's port failed")
        if session is not None and ours:
            session.kill("it closed its connection")

    def _notify(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()


def _open_log(path: Path) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_BYTES:
        path.replace(path.with_name(path.name + ".1"))
    return open(path, "ab")


def _environment(base: Mapping[str, str], url: str, token: str, limits: WorkerLimits) -> dict[str, str]:
    return {
        **base,
        **limits.environment(),
        "P2PML_WORKER_URL": url,
        "P2PML_WORKER_TOKEN": token,
        "P2PML_WORKER_PARENT": str(os.getpid()),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONUNBUFFERED": "1",
    }
