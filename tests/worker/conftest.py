"""One worker for a whole module: a supervisor in a trio run of its own, in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from p2pml.worker.process import WorkerSupervisor
from p2pml.worker.protocol import Progress, Request


@dataclass
class SharedWorker:
    """Calls a supervisor that lives in another thread."""

    folder: Path
    supervisor: WorkerSupervisor
    _token: list[trio.lowlevel.TrioToken] = field(default_factory=list)
    _scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    def call(self, request: Request[Any], progress: Callable[[Progress], None] | None = None) -> Any:
        return trio.from_thread.run(self.supervisor.call, request, progress, trio_token=self._token[0])

    def hello(self) -> Any:
        return trio.from_thread.run(self.supervisor.wait_ready, trio_token=self._token[0])

    def live(self, started: threading.Event) -> None:
        async def main() -> None:
            self._token.append(trio.lowlevel.current_trio_token())
            started.set()
            with self._scope:
                await self.supervisor.run()

        trio.run(main)

    def stop(self) -> None:
        self._token[0].run_sync_soon(self._scope.cancel)


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedWorker]:
    folder = tmp_path_factory.mktemp("worker")
    shared = SharedWorker(folder, WorkerSupervisor(folder / "worker.log"))
    started = threading.Event()
    thread = threading.Thread(target=shared.live, args=(started,))
    thread.start()
    assert started.wait(10)
    try:
        shared.hello()
        yield shared
    finally:
        shared.stop()
        thread.join(30)
        assert not thread.is_alive()
