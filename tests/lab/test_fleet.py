"""What a lab has its nodes run."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pml.config import TRANSPORTS
from p2pml.lab.run.runner import run_scenario

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_its_nodes_run_on_the_transport_that_was_asked_for(transport: str, tmp_path: Path) -> None:
    scenario = tmp_path / "one.yaml"
    scenario.write_text("version: 1\nname: one\nnodes: 1\npreset: demo\nsteps: [{wait: {height: 1}}]\n")
    report = run_scenario(scenario, "processes", runs=tmp_path / "runs", transport=transport)
    assert report.failures == []
    assert [node.transport for node in report.nodes] == [transport]
