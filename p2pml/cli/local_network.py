"""A network of real nodes on this machine: homes, a genesis, one daemon process for each.

Every daemon runs in a process group of its own and ends when the pipe on its stdin closes, so that none
outlives the process that started it, however that ends.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from p2pml.client import NodeClient
from p2pml.errors import ExitCode, UserError
from p2pml.home import Home
from p2pml.node.setup import make_genesis, set_up

TOKEN = 10**8
STOP_TIMEOUT_S = 15.0
POLL_S = 0.2
_LOWEST_PORT, _PORT_TRIES = 10_000, 5_000
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")

T = TypeVar("T")


@dataclass(slots=True)
class LocalNode:
    """One node of a local network: `address` is its account, `niceness` what nice(1) adds for its
    processes.
    """

    name: str
    home: Home
    port: int
    api_port: int
    peer_id: str
    address: str
    niceness: int = 0
    extra_env: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def multiaddr(self) -> str:
        """Where other nodes of this machine reach it."""
        return f"/ip4/127.0.0.1/tcp/{self.port}/p2p/{self.peer_id}"

    @property
    def output(self) -> Path:
        """What the daemon prints."""
        return self.home.logs / "daemon.out"

    def start(self) -> None:
        """Start its daemon; returns at once."""
        command = [
            sys.executable,
            "-m",
            "p2pml",
            "daemon",
            "--home",
            str(self.home.root),
            "--stop-with-stdin",
        ]
        if self.niceness and shutil.which("nice"):
            command = ["nice", "-n", str(self.niceness), *command]
        environment = {key: value for key, value in os.environ.items() if key != "P2PML_HOME"}
        environment |= dict.fromkeys(_ONE_THREAD, "1") | self.extra_env
        with self.output.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """End the daemon at once, as a power cut would: SIGKILL, no goodbye."""
        if self.process is not None:
            self.process.kill()
            self._reap()

    def request_stop(self) -> None:
        """Ask the daemon to end cleanly; `wait_stopped` waits for it."""
        if self.is_running():
            assert self.process is not None
            self.process.send_signal(signal.SIGTERM)

    def wait_stopped(self, timeout_s: float) -> int | None:
        """Wait for the daemon's end, then make sure that nothing of its process group is left.

        Returns:
            Its exit code, negative for a signal; None when it was not started.
        """
        if self.process is None:
            return None
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
        return self._reap()

    def _reap(self) -> int:
        assert self.process is not None
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)  # what the daemon left behind, if anything
        if self.process.stdin is not None:
            self.process.stdin.close()
        code = self.process.wait()
        self.process = None
        return code

    def get(self, path: str, **query: Any) -> Any:
        """One GET from its API."""
        with NodeClient(self.home) as client:
            return client.get(path, **query)

    def last_words(self, lines: int = 5) -> str:
        """The end of what its daemon printed."""
        try:
            return "\n".join(self.output.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


class LocalNetwork:
    """Several nodes; use it in a `with` block, which stops them all at its end.

    Args:
        root: an empty or new folder; node i lives in `root/node<i>`.
        count: number of nodes, at least 1.
        preset: name of the chain's parameters.
        niceness: what nice(1) adds for every node.
        trainers: which nodes offer to train, by position; all when None.
        workers: whether the nodes have a training process at all.
        ratings: of the nodes, by position; all equal when None.
        idle: whether the nodes are silent while nothing waits; else each slot has a block.
        settings: more for every node's `config.toml`.
        params: parameters that are not the preset's.
    """

    def __init__(
        self,
        root: Path,
        count: int,
        *,
        preset: str = "demo",
        niceness: int = 0,
        trainers: Sequence[bool] | None = None,
        workers: bool = True,
        ratings: Sequence[int] | None = None,
        idle: bool = True,
        settings: Mapping[str, Any] | None = None,
        params: Mapping[str, int] | None = None,
    ) -> None:
        self.root = root
        self.nodes: list[LocalNode] = []
        ports = free_ports(2 * count)
        for i in range(count):
            home = Home(root / f"node{i + 1}")
            own = {
                "name": f"node{i + 1}",
                "listen": "127.0.0.1",
                "port": ports[2 * i],
                "api_port": ports[2 * i + 1],
                "bootstrap": [node.multiaddr for node in self.nodes[:2]],
                "trainer": True if trainers is None else trainers[i],
                "worker_threads": 1 if workers else 0,
                "idle": idle,
                "rating_lanes": 1,  # the nodes share this machine's cores
                **(settings or {}),
            }
            identity = set_up(home, own)
            self.nodes.append(
                LocalNode(
                    name=f"node{i + 1}",
                    home=home,
                    port=ports[2 * i],
                    api_port=ports[2 * i + 1],
                    peer_id=identity["peer_id"],
                    address=identity["account"],
                    niceness=niceness,
                )
            )
        by_home = {node.home.root: rating for node, rating in zip(self.nodes, ratings or [], strict=False)}
        homes = [node.home.root for node in self.nodes]
        text = make_genesis(homes, preset, preset, by_home, 1000 * TOKEN, params)
        for node in self.nodes:
            node.home.genesis_file.write_text(text, encoding="utf-8")

    def __enter__(self) -> LocalNetwork:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start every daemon that does not run."""
        for node in self.nodes:
            if not node.is_running():
                node.start()

    def close(self) -> None:
        """Stop every daemon; a second Ctrl-C cannot interrupt it."""
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for node in self.nodes:
                node.request_stop()
            deadline = time.monotonic() + STOP_TIMEOUT_S
            for node in self.nodes:
                node.wait_stopped(max(0.1, deadline - time.monotonic()))
        finally:
            signal.signal(signal.SIGINT, previous)

    def wait(self, what: str, check: Callable[[], T | None], timeout_s: float) -> T:
        """Poll until `check` gives something other than None.

        A daemon that does not answer yet counts as not there yet; one that has died ends the wait.

        Raises:
            UserError: a daemon ended, or the time is up (code 5).
        """
        deadline = time.monotonic() + timeout_s
        while True:
            self.check_alive()
            try:
                found = check()
            except UserError as error:
                if error.code is not ExitCode.DAEMON_DOWN:
                    raise
                found = None
            if found is not None:
                return found
            if time.monotonic() >= deadline:
                raise UserError(
                    f"{what}: not within {timeout_s:.0f} s",
                    f"the nodes' logs are in {self.root}/node*/logs",
                    ExitCode.NETWORK,
                )
            time.sleep(POLL_S)

    def check_alive(self) -> None:
        """Raise UserError, with its last words, when a daemon that was started has ended by itself."""
        for node in self.nodes:
            if node.process is not None and node.process.poll() is not None:
                raise UserError(
                    f"{node.name} ended with code {node.process.returncode}: {node.last_words(3)}",
                    f"its log is {node.output}",
                )


def free_ports(count: int) -> list[int]:
    """Different TCP ports of 127.0.0.1 that are free now, and that the kernel gives to nobody by itself: a
    daemon that is down for a moment shall find its port free again.
    """
    found: list[int] = []
    for port in random.sample(range(_LOWEST_PORT, _first_ephemeral_port()), k=_PORT_TRIES):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise UserError(f"only {len(found)} of {count} TCP ports are free", "end other programs that listen")


def _first_ephemeral_port() -> int:
    """Where the ports begin that outgoing connections get (Linux, ip(7))."""
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        first = 0
    return first if first >= _LOWEST_PORT + _PORT_TRIES else 32768
