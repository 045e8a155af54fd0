"""The lab's side of the delay process (`p2pml.lab.pump`): start it, command it, notice when it is gone."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from p2pml.lab.errors import LabError
from p2pml.lab.pump import link_fields
from p2pml.lab.signals import deferred
from p2pml.scenario.links import Link

_ANSWER_S = 10.0
_END_S = 5.0


class Delays:
    """Delays and losses of any number of hosts, by one process that starts with the first of them.

    Args:
        folder: where the process logs to.
        env: its environment.
        seed: of losses and jitter; the same seed loses the same packets of the same traffic.
    """

    def __init__(self, folder: Path, env: dict[str, str], seed: int) -> None:
        self._log = folder / "delays.log"
        self._env = env
        self._seed = seed
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._pending = b""

    def add(self, host: str, namespace: str, link: Link) -> None:
        """Hold the queue of the network namespace at path `namespace` and apply `link` to it.

        Raises:
            LabError: the process refused or is gone.
        """
        seed = f"{self._seed}:{host}"
        self._ask(op="add", host=host, netns=namespace, link=link_fields(link), seed=seed)

    def set_link(self, host: str, link: Link) -> None:
        """Change the link of a host that was added."""
        self._ask(op="link", host=host, link=link_fields(link))

    def remove(self, host: str) -> None:
        """Let go of a host's queue; unknown hosts are fine."""
        if self._process is not None:
            self._ask(op="remove", host=host)

    def stats(self) -> dict[str, dict[str, float]]:
        """Per host: packets `seen`, `dropped`, `waiting`, and the latest release `late_ms`."""
        if self._process is None:
            return {}
        return {host: value for host, value in self._ask(op="stats").items() if host != "ok"}

    def close(self) -> None:
        """End the process."""
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "p2pml.lab.pump"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._env,
                start_new_session=True,
            )

    def _ask(self, **request: Any) -> dict[str, Any]:
        with self._lock, deferred():  # a question without its answer would answer the next one
            if self._process is None:
                self._process = self._start()
            answer = self._exchange(self._process, json.dumps(request).encode() + b"\n")
        if not answer.get("ok"):
            raise LabError(
                f"the delay process refused {request['op']} for {request.get('host')}: {answer['error']}"
            )
        return answer

    def _exchange(self, process: subprocess.Popen[bytes], line: bytes) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            os.write(process.stdin.fileno(), line)
        except BrokenPipeError:
            raise self._gone() from None
        while b"\n" not in self._pending:
            ready, _, _ = select.select([process.stdout], [], [], _ANSWER_S)
            data = os.read(process.stdout.fileno(), 65536) if ready else b""
            if not data:
                raise self._gone()
            self._pending += data
        answer, _, self._pending = self._pending.partition(b"\n")
        result: dict[str, Any] = json.loads(answer)
        return result

    def _gone(self) -> LabError:
        lines = self._log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        return LabError(
            f"the delay process is gone: {lines[-1]}", f"its log is {self._log}; start the lab anew"
        )
