"""The node's side of its worker: start the process, wait until it is ready, call it, and start another when
it dies.

They speak by WebSocket over a pair of sockets, one of which the worker is born with: there is no port that
anybody else could connect to, and the worker needs no network. Whatever happens to it is an exception of the
call that it happened to, never the node's end.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import trio
from trio_websocket import ConnectionClosed, wrap_server_stream

from p2pml.worker.calls import Caller
from p2pml.worker.limits import WorkerLimits
from p2pml.worker.memory import out_of_memory
from p2pml.worker.protocol import MAX_MESSAGE
from p2pml.worker.session import Session, WorkerDied, WorkerError, WorkerUnavailable
from p2pml.worker.sockets import BUFFER

__all__ = ["WorkerDied", "WorkerError", "WorkerSupervisor", "WorkerUnavailable"]

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = logging.getLogger(__name__)

LOG_BYTES = 4 << 20
"""A worker log longer than this is put aside as `worker.log.1` before the next start."""

HANDSHAKE_S = 60.0
"""For the process to start and say the first word."""
MAX_BACKOFF = 60.0
"""Seconds between two starts, at most."""


class WorkerSupervisor(Caller):
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
        super().__init__()
        self._log_file = log_file
        self.limits = limits or WorkerLimits()
        self._backoff = backoff

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep a worker alive until cancelled; the process is dead when this returns."""
        task_status.started()
        try:
            await self._keep_alive()
        finally:
            self._refusal = self._refusal or "the node is stopping"
            self._notify()

    async def _keep_alive(self) -> None:
        pause = self._backoff
        while True:
            life = await self._one_life()
            if life is not None and life.unable:
                log.warning("no worker on this machine: %s", life.unable)
                return
            was_ready = life is not None and life.hello is not None
            await trio.sleep(pause)
            pause = self._backoff if was_ready else min(2 * pause, MAX_BACKOFF)

    async def _one_life(self) -> Session | None:
        """Start a worker and wait for its end."""
        with ExitStack() as ends:
            try:
                ours, theirs = map(ends.enter_context, socket.socketpair())
                process = await self._spawn(theirs.fileno())
            except OSError as error:
                self._trouble = f"its process cannot be started: {error}"
                log.error("the worker cannot start: %s", self._trouble)
                return None
            theirs.close()
            self._starts += 1
            self._trouble = ""
            return await self._live(process, ours)

    async def _live(self, process: trio.Process, end: socket.socket) -> Session:
        session = self._session = Session(process.kill, self._changed_state)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_watch_memory, process.pid, session, self.limits.memory_bytes)
                nursery.start_soon(_converse, session, end)
                await process.wait()
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                if process.returncode is None:
                    session.kill("the node stopped it")
                await process.wait()
            self._session = None
            self._refusal = session.unable
            session.end(_how(process.returncode or 0, self.limits.memory_bytes))
            self._trouble = f"the one before died: {session.last_words}"
            self._notify()
        log.warning("the worker died: %s; see %s", session.last_words, self._log_file)
        return session

    def _changed_state(self) -> None:
        if self.hello is not None and not self.hello.isolated:
            log.warning("the worker is not cut off from the network: this system does not let it")
        self._notify()

    async def _spawn(self, end: int) -> trio.Process:
        with await trio.to_thread.run_sync(_open_log, self._log_file) as output:
            return await trio.lowlevel.open_process(
                [sys.executable, "-m", "p2pml.worker"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(os.environ, end, self.limits),
                pass_fds=[end],
            )


async def _converse(session: Session, end: socket.socket) -> None:
    """Read what a worker sends until it ends the connection; then it is ended."""
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(end))
    try:
        async with stream, trio.open_nursery() as nursery:
            with trio.fail_after(HANDSHAKE_S):  # its end before it would not be told
                request = await wrap_server_stream(
                    nursery, stream, max_message_size=MAX_MESSAGE, receive_buffer_size=BUFFER
                )
                ws = await request.accept()
            await session.serve(ws)
            nursery.cancel_scope.cancel()
    except* ConnectionClosed:
        await trio.sleep(2)  # a worker that is ending says more by its exit status
    except* trio.TooSlowError:
        log.error("the worker did not speak within %g s", HANDSHAKE_S)
    except* Exception:
        log.exception("the connection to the worker failed")  # nothing that comes through it may end the node
    session.kill("it closed its connection")


async def _watch_memory(pid: int, session: Session, limit: int) -> None:
    """Kill a process when it holds more than `limit` resident bytes; a stranger's model chose how much it
    needs."""
    while (resident := _resident(pid)) is not None:
        if resident > limit:
            session.kill(f"it used {resident >> 20} MiB of memory, {limit >> 20} MiB are allowed")
        await trio.sleep(1)


def _resident(pid: int) -> int | None:
    """Resident bytes of a process; None when it is gone or the system does not tell."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return None


def _how(returncode: int, memory: int) -> str:
    how = f"exit status {returncode}"
    if returncode < 0:
        try:
            how = f"killed by {signal.Signals(-returncode).name}"
        except ValueError:
            how = f"killed by signal {-returncode}"
    if out_of_memory(returncode):
        how += f"; it may have needed more than the {memory >> 20} MiB that it may use"
    return how


def _open_log(path: Path) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_BYTES:
        path.replace(path.with_name(path.name + ".1"))
    return open(path, "ab")


def _environment(base: Mapping[str, str], end: int, limits: WorkerLimits) -> dict[str, str]:
    return {
        **base,
        **limits.environment(),
        "P2PML_WORKER_SOCKET": str(end),
        "P2PML_WORKER_PARENT": str(os.getpid()),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONUNBUFFERED": "1",
    }
