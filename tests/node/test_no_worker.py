"""A node that cannot train says why, and refuses rather than waits."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec

import pytest

from p2pml.config import Config
from p2pml.node import no_worker
from p2pml.node.no_worker import NoWorker, reason_for_no_worker
from p2pml.worker.protocol import Evaluate
from p2pml.worker.session import WorkerUnavailable


def test_without_the_package_the_reason_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> ModuleSpec | None:
        return None if name == "tensorflow" else importlib.util.find_spec(name)

    monkeypatch.setattr(no_worker, "find_spec", find)
    assert "tensorflow is not installed" in reason_for_no_worker(Config())
    assert "p2pml[train]" in reason_for_no_worker(Config())


def test_switched_off_in_the_configuration() -> None:
    assert "worker_threads is 0" in reason_for_no_worker(Config(worker_threads=0))


async def test_calls_are_refused_at_once() -> None:
    worker = NoWorker("tensorflow is not installed")
    assert worker.status == "unavailable: tensorflow is not installed"
    with pytest.raises(WorkerUnavailable, match="not installed"):
        await worker.call(Evaluate("{}", b"", "x"))
