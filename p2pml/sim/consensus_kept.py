"""Runs of a study that have ended, one file each: a night's study that was ended goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from p2pml.sim.consensus_study import Task, run_task


def run_kept(folder: Path, task: Task) -> list[dict[str, Any]]:
    """The rows of a run: those of the same task in `folder`, or else its own, which are then kept there.

    A task is known by all that it says, not by the code that runs it: empty the folder when that changes.
    """
    path = folder / f"{_name(task)}.json"
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_bytes())
        return rows
    except (FileNotFoundError, ValueError):
        rows = run_task(task)
    folder.mkdir(parents=True, exist_ok=True)
    begun = path.with_suffix(".tmp")
    begun.write_text(json.dumps(rows))
    os.replace(begun, path)
    return rows


def _name(task: Task) -> str:
    digest = hashlib.sha256(json.dumps(asdict(task), sort_keys=True).encode()).hexdigest()
    return f"{task.study}-{task.seed}-{digest[:16]}"
