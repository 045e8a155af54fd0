"""Places to run that this machine may lack."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from p2pml.lab import cleanup, engine, netns
from p2pml.lab.hosts.base import Backend

_ROOT = "this process may not make network namespaces: run as root, or with CAP_SYS_ADMIN and CAP_NET_ADMIN"


def _missing(kind: str) -> str:
    if sys.platform != "linux":
        return f"{kind} need Linux"
    if kind != "processes" and not netns.may_create():
        return _ROOT
    if kind == "containers" and not engine.is_there():
        return "no container engine answers: start Docker"
    return ""


@pytest.fixture
def serve() -> Callable[[Backend, str], None]:
    """Start the measuring server on a host and wait until it answers."""

    def start(lab: Backend, name: str) -> None:
        log = lab.folder(name) / "serve.log"
        log.unlink(missing_ok=True)
        argv = [sys.executable, "-m", "p2pml.lab.measure", "serve", lab.address(name), "7000"]
        handle = lab.run(name, argv, {}, log)
        give_up = time.monotonic() + 20
        while not (log.exists() and "serving" in log.read_text()):
            assert handle.returncode is None, log.read_text()
            assert time.monotonic() < give_up, "the measuring server does not start"
            time.sleep(0.02)

    return start


@pytest.fixture
def usable(kind: str) -> str:
    """The test's `kind` of place to run; skips, saying what is missing, where this machine has no such
    place."""
    if reason := _missing(kind):
        pytest.skip(f"LOUD: emulation on {kind} was NOT tested: {reason}")
    return kind


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    """A registry of runs of the test's own; what a failed test leaves in it is removed."""
    yield tmp_path / "runs"
    cleanup.cleanup(tmp_path / "runs")
