"""The processes of a window's lanes, seen from the node: a line-wise connection to each, and their end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import trio

from p2pml.worker.lanes.environment import lane_environment
from p2pml.worker.lanes.logs import log_file, open_log

STOP_S = 3.0


class LaneProcesses:
    """Started by `start`; all have ended when `stop` returns.

    Args:
        folder: where their logs go.
        lanes: how many.
    """

    def __init__(self, folder: Path, lanes: int) -> None:
        self._folder, self._lanes = folder, lanes
        self._streams: list[trio.SocketStream] = []
        self._process: trio.Process | None = None

    async def start(self, arguments: Sequence[object], blas: str) -> None:
        """Start them. Raises OSError: a process or its socket cannot be had.

        Args:
            arguments: of `python -m p2pml.worker.lanes`, without the sockets.
            blas: OpenBLAS' kernels; empty for those that it takes by itself.
        """
        given: list[int] = []
        try:
            for lane in range(self._lanes):
                log_file(self._folder, lane).unlink(missing_ok=True)
                given.append(self._connect())
            ends = tuple(given)
            given.append(log := open_log(self._folder, 0))
            self._process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "p2pml.worker.lanes", *map(str, (*arguments, *ends))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                pass_fds=ends,
                env=lane_environment(blas),
            )
        finally:
            for descriptor in given:
                os.close(descriptor)

    def _connect(self) -> int:
        """The lane's end of a socket pair."""
        ours, theirs = socket.socketpair()
        self._streams.append(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
        return theirs.detach()

    async def send(self, lane: int, line: str) -> None:
        """Give an order. To a lane that has died it is lost; `receive` tells."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._streams[lane].send_all(f"{line}\n".encode("ascii"))

    async def receive(self, lane: int) -> bytes:
        """Some of what a lane writes; empty when it has ended."""
        try:
            return await self._streams[lane].receive_some(4096)
        except trio.BrokenResourceError:
            return b""

    def last_words(self, lane: int) -> str:
        """Why a lane ended, as far as its log tells."""
        try:
            text = log_file(self._folder, lane).read_text(errors="replace").strip()
        except OSError:  # there is none, or no descriptor left to read it by
            text = ""
        return text.splitlines()[-1] if text else "its process ended"

    async def stop(self) -> None:
        """Have them end, by force where they do not."""
        for lane in range(len(self._streams)):
            await self.send(lane, "stop")
        if self._process is not None:
            with trio.move_on_after(STOP_S):
                await self._process.wait()
            self._kill(self._process)
            await self._process.wait()
            with trio.move_on_after(STOP_S):
                for lane in range(len(self._streams)):
                    while await self.receive(lane):
                        pass
        for stream in self._streams:
            await stream.aclose()

    def _kill(self, process: trio.Process) -> None:
        """Also the lanes of a first process that was itself killed."""
        if process.returncode == 0:
            return  # it has seen all of them end
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:  # all have ended, or it has not yet left for a session of its own
            process.kill()
