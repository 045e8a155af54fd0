"""What the lab says where no container engine answers."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path

import pytest

from p2pml.lab import engine
from p2pml.lab.errors import LabError


def test_a_socket_that_nobody_listens_on_is_refused_and_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/engine.sock")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        with pytest.raises(LabError, match="no container engine answers"):
            engine.open_client()
        assert not engine.is_there()
        gc.collect()
    assert not caught
