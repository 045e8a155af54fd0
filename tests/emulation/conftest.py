"""Places to run that this machine may lack."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from p2pml.lab import engine, netns

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
def usable(kind: str) -> str:
    """The test's `kind` of place to run; skips, saying what is missing, where this machine has no such
    place."""
    if reason := _missing(kind):
        pytest.skip(f"LOUD: emulation on {kind} was NOT tested: {reason}")
    return kind


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A registry of runs of the test's own."""
    return tmp_path / "runs"
