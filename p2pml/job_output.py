"""What a job leaves behind: how it ended, its result's files, files for other programs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from p2pml.errors import ExitCode, UserError, exit_code

FINAL_STATES = frozenset({"done", "failed", "stopped", "suspended"})
"""Nothing more comes by itself: a suspended job waits for its owner."""
REPORT_PAGE = "report.html"
"""Results that were made before there was such a page do not have it."""
RESULT_FILES = ("model.json", "model.safetensors", "metrics.csv", "report.json", REPORT_PAGE)


def check_done(answer: dict[str, Any]) -> None:
    """Raise UserError, with the end's code, for a job that is over and not done.

    Args:
        answer: of `/jobs/<id>`.
    """
    if answer["state"] != "done":
        raise UserError(
            f"the job ended as {answer['state']}: {answer.get('reason') or 'no reason given'}",
            answer.get("fix") or "the node's log has the details",
            exit_code(answer["end"]),
        )


def result_files(answer: dict[str, Any]) -> list[Path]:
    """The files of a job's result.

    Args:
        answer: of `/jobs/<id>`.

    Raises:
        UserError: (code 6) there is none, or not any more.
    """
    if not answer.get("output"):
        over = answer["state"] in FINAL_STATES
        raise UserError(
            f"the job {answer['id']} has no result: it is {answer['state']}",
            answer.get("fix") or ("" if over else f"watch it with `p2pml job watch {answer['id'][:12]}`"),
            ExitCode.JOB_FAILED,
        )
    folder = Path(answer["output"])
    there = [folder / name for name in RESULT_FILES if (folder / name).is_file()]
    missing = sorted(set(RESULT_FILES) - {path.name for path in there} - {REPORT_PAGE})
    if missing:
        raise UserError(
            f"the result in {folder} is not complete any more: {', '.join(missing)} is gone",
            "put it back, or train again",
            ExitCode.JOB_FAILED,
        )
    return there


def copy_files(files: list[Path], folder: Path) -> list[Path]:
    """Copy files into a folder, made if it is not there; returns the copies.

    Raises:
        UserError: (code 2) one of them is there already; (code 1) the folder cannot be written.
    """
    copies = [folder / path.name for path in files]
    there = [path for path in copies if path.exists()]
    if there:
        raise UserError(f"{there[0]} is there already", "name another folder", ExitCode.USAGE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source, copy in zip(files, copies, strict=True):
            shutil.copyfile(source, copy)
    except OSError as error:
        raise UserError(
            f"the result cannot be copied to {folder}: {error.strerror or error}", "name another folder"
        ) from error
    return copies


def write_event_files(history: Sequence[Mapping[str, Any]], begun: float, place: Path) -> Path:
    """Write TensorBoard's event files of a job, in a process that may load TensorFlow.

    Args:
        history: of the job.
        begun: when it began, seconds since 1970.
        place: a folder; made if it is not there.

    Raises:
        UserError: (code 2) there are some already; the folder cannot be written; no TensorBoard here.
    """
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the folder {place} cannot be made: {error.strerror or error}", "name another folder"
        ) from error
    if any(place.glob("events.out.tfevents.*")):
        raise UserError(f"{place} has event files already", "name another folder", ExitCode.USAGE)
    command = [sys.executable, "-m", "p2pml.worker.event_files", str(place)]
    done = subprocess.run(
        command, input=json.dumps({"history": history, "begun": begun}), capture_output=True, text=True
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        fix = "install the extra `train`" if done.returncode == 2 else "make room, or name another folder"
        raise UserError(f"the event files cannot be written to {place}: {last}", fix)
    return place
