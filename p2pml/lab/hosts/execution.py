"""A program in a container, watched from outside by a descriptor of its process."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from p2pml.lab import engine, procs
from p2pml.lab.errors import LabError

# The output goes to a file without this process's help, so it is all there whoever dies first.
_SCRIPT = 'log=$1; shift; exec "$@" >>"$log" 2>&1'
_START_S = 20.0
_STATUS_S = 10.0
_POLL_S = 0.01
_LOST = -signal.SIGKILL


class ContainerHandle:
    """See `base.Handle`.

    Args:
        client: of the engine.
        execution: the engine's id of the program's execution.
        pid: its process id outside the container, 0 when it had ended before it was seen.
        descriptor: a pidfd, or None when it has ended.
    """

    def __init__(self, client: Any, execution: str, pid: int, descriptor: int | None) -> None:
        self._client = client
        self._execution = execution
        self._descriptor = descriptor
        self._returncode: int | None = None
        self.pid = pid

    @property
    def returncode(self) -> int | None:
        """The exit status, or None while it runs; -9 when its container went with it."""
        if self._returncode is None and self._ended(0.0):
            self._returncode = self._status()
            self.close()
        return self._returncode

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Signal the program."""
        if self._descriptor is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, signum)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; TimeoutError after `timeout` seconds."""
        if not self._ended(timeout):
            raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
        status = self.returncode
        assert status is not None, "it has ended"
        return status

    def close(self) -> None:
        """Let go of the process; its status stays known."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _ended(self, timeout: float | None) -> bool:
        if self._descriptor is None:
            return True
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(None if timeout is None else timeout * 1e3))

    def _status(self) -> int:
        """The engine learns of the end a little after the kernel."""
        give_up = time.monotonic() + _STATUS_S
        while time.monotonic() < give_up:
            seen = _inspect(self._client, self._execution)
            if seen is None:
                return _LOST
            if not seen["Running"] and seen["ExitCode"] is not None:
                code = int(seen["ExitCode"])
                return 128 - code if code > 128 else code
            time.sleep(_POLL_S)
        return _LOST


def _inspect(client: Any, execution: str) -> dict[str, Any] | None:
    """What the engine knows of an execution; None when it has forgotten it with its container."""
    import docker

    with engine.refusals():
        try:
            seen: dict[str, Any] = client.api.exec_inspect(execution)
        except docker.errors.NotFound:
            return None
    return seen


def execute(
    client: Any,
    container: str,
    argv: Sequence[str],
    env: Mapping[str, str],
    log: Path,
    folder: Path,
    user: str,
) -> ContainerHandle:
    """Start a program in a container.

    Args:
        client: of the engine.
        container: id of a running container.
        argv: program and arguments.
        env: its environment, with the lab's labels.
        log: file within a mounted folder that its output is appended to.
        folder: its working folder.
        user: `uid:gid`.

    Raises:
        LabError: the engine refuses, or its processes are not this machine's.
    """
    command = ["/bin/sh", "-c", _SCRIPT, "run", str(log), *argv]
    with engine.refusals():
        created = client.api.exec_create(
            container, command, environment=dict(env), workdir=str(folder), user=user
        )
        client.api.exec_start(created["Id"], detach=True)
    return _watch(client, created["Id"], env)


def _watch(client: Any, execution: str, env: Mapping[str, str]) -> ContainerHandle:
    run, host = env[procs.RUN_LABEL], env[procs.HOST_LABEL]
    give_up = time.monotonic() + _START_S
    while time.monotonic() < give_up:
        seen = _inspect(client, execution)
        if seen is None or (not seen["Running"] and seen["ExitCode"] is not None):
            return ContainerHandle(client, execution, (seen or {}).get("Pid") or 0, None)
        pid = seen.get("Pid") or 0
        descriptor = _descriptor(pid, run, host) if pid else None
        if descriptor is not None:
            return ContainerHandle(client, execution, pid, descriptor)
        time.sleep(_POLL_S)
    raise LabError(
        "the container engine's processes cannot be seen from here",
        "use the engine of this machine, not a remote one",
    )


def _descriptor(pid: int, run: str, host: str) -> int | None:
    """A pidfd of a process that carries the labels, so that no signal ever reaches another's."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        if procs.belongs(pid, run, host):
            return descriptor
        os.close(descriptor)
    return None
