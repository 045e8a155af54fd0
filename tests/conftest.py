"""Where P2PML_NO_SKIPS is set, as in the project's own CI, a test that cannot run here is a failure.
Nothing is timed: a machine may be as busy as it likes. Of several test processes each is as nice as a node's
worker can be; beside others the workers would starve."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from p2pml.worker.give_way import give_way

settings.register_profile("p2pml", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("p2pml")

if "PYTEST_XDIST_WORKER" in os.environ:
    give_way(19)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and os.environ.get("P2PML_NO_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"skipped although P2PML_NO_SKIPS is set: {report.longrepr}"
    return report
