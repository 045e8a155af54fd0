"""Which tests run again on the other transport."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where `P2PML_TRANSPORT` chooses one, leave out what has a parameter for each: it ran on both."""
    if "P2PML_TRANSPORT" not in os.environ:
        return
    again = {item for item in items if HERE in item.path.parents and "transport" in _parameters(item)}
    config.hook.pytest_deselected(items=list(again))
    items[:] = [item for item in items if item not in again]


def _parameters(item: pytest.Item) -> set[str]:
    call = getattr(item, "callspec", None)
    return set() if call is None else set(call.params)
