"""The other end of TensorFlow Federated's process: started for a job with one of TFF's rules or for a
simulation, in namespaces of its own, and ended with that."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import trio

from p2pml.worker.session import WorkerDied, WorkerError
from p2pml.worker.tff.request import RoundRequest, TffRequest, TffResult

log = logging.getLogger(__name__)

GUARD = ("unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child")
"""No network but a loopback of its own; with unshare the first process ends, and with that all the others."""

MAX_LINE = 1 << 20


class TffProcess:
    """One process, started at the first request; one request at a time.

    Args:
        log_file: where its standard output and error go, appended.
    """

    def __init__(self, log_file: Path = Path(os.devnull)) -> None:
        self._log_file = log_file
        self._process: trio.Process | None = None

    @property
    def pid(self) -> int | None:
        """Of the guard, while there is one."""
        return self._process.pid if self._process is not None else None

    async def refusal(self) -> str:
        """Why this machine cannot guard such a process; empty when it can."""
        try:
            done = await trio.run_process([*GUARD, "true"], capture_stderr=True, check=False)
        except OSError as error:
            return f"the program unshare cannot be run: {error.strerror}"
        told = (done.stderr or b"").decode(errors="replace").strip().splitlines()
        return "" if done.returncode == 0 else (told or ["unshare failed"])[-1]

    async def aggregate(self, request: TffRequest) -> TffResult:
        """Have updates made one. The result is in the request's file; errors are as those of `ask`."""
        return await self.ask(request)

    async def ask(self, request: TffRequest | RoundRequest) -> TffResult:
        """Have a request carried out; its result is in its file.

        Cancelling the caller ends the process.

        Raises:
            WorkerDied: the process ended meanwhile; the next request starts another.
            WorkerError: it has no result.
        """
        try:
            answer = await self._exchange(request.to_line().encode())
        except BaseException:
            await self.close()
            raise
        if answer.ended:
            await self.close()
            raise WorkerDied(f"TensorFlow Federated failed: {answer.error}")
        if answer.error:
            raise WorkerError(answer.error)
        return answer

    async def close(self) -> None:
        """End the process, with all that it started."""
        process, self._process = self._process, None
        if process is None:
            return
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    await stream.aclose()

    async def _exchange(self, line: bytes) -> TffResult:
        if self._process is None:
            self._process = await self._start()
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        answer = b""
        try:
            await process.stdin.send_all(line)
            while not answer.endswith(b"\n"):
                part = await process.stdout.receive_some()
                answer += part
                if not part or len(answer) > MAX_LINE:
                    raise WorkerDied(f"TensorFlow Federated's process ended, see {self._log_file.name}")
            return TffResult.from_line(answer.decode())
        except (trio.BrokenResourceError, trio.ClosedResourceError, ValueError, TypeError) as error:
            raise WorkerDied(f"TensorFlow Federated's process ended: {error!r}") from error

    async def _start(self) -> trio.Process:
        with await trio.to_thread.run_sync(open, self._log_file, "ab") as output:
            return await trio.lowlevel.open_process(
                [*GUARD, sys.executable, "-m", "p2pml.worker.tff"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUNBUFFERED": "1"},
            )
