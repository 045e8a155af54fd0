"""All targets: a module of this folder whose name ends in `_targets` and that has a tuple `TARGETS`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tests.fuzz.runner import Target


def targets() -> dict[str, Target]:
    """By name."""
    found: dict[str, Target] = {}
    for path in sorted(Path(__file__).parent.glob("*_targets.py")):
        for target in import_module(f"tests.fuzz.{path.stem}").TARGETS:
            if target.name in found:
                raise ValueError(f"two targets are called {target.name!r}")
            found[target.name] = target
    return found
