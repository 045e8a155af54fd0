"""A program on this machine, in this or another network namespace."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from p2pml.lab import netns
from p2pml.lab.errors import LabError


class LocalHandle:
    """A child of this process; see `base.Handle`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, or None while it runs."""
        return self._process.poll()

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Signal the child."""
        self._process.send_signal(signum)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; TimeoutError after `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"process {self.pid} still runs after {timeout} s") from None

    def end(self) -> None:
        """Kill what is left of its process group, where nothing is when the child ended well, and take its
        status."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()


def spawn(
    argv: Sequence[str], env: Mapping[str, str], log: Path, folder: Path, namespace: str | None = None
) -> LocalHandle:
    """Start a program in a session of its own, so that a Ctrl-C on the terminal is the lab's alone.

    Args:
        argv: program and arguments.
        env: its whole environment.
        log: file that its output is appended to; its folder is made.
        folder: its working folder.
        namespace: path of the network namespace to start it in; None is this process's.

    Raises:
        LabError: it cannot be started.
    """
    log.parent.mkdir(parents=True, exist_ok=True)

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=folder,
                start_new_session=True,
            )

    try:
        return LocalHandle(start() if namespace is None else netns.call(namespace, start))
    except OSError as error:
        raise LabError(f"cannot start {argv[0]}: {error}") from None
